"""`python -m kepler_edge`."""

from .main import run

if __name__ == "__main__":
    run()
