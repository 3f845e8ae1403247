"""``python -m kepler`` is the command line."""

from kepler.adapters.cli.main import run

if __name__ == "__main__":
    run()
