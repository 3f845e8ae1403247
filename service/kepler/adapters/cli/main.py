"""The command ``kepler``: finds the command, turns errors into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from kepler import __version__
from kepler.adapters.cli.exit_codes import BROKEN_PIPE, INTERRUPTED, exit_code
from kepler.adapters.cli.lazy import Entry, LazyGroup
from kepler.core.errors import KeplerError


class Commands(LazyGroup):
    """Every command; a new one is a line here and a module beside this."""

    entries = (
        Entry("train", "train", "train", "Train a model on a CSV file."),
        Entry("predict", "predict", "predict", "Score the rows of a CSV file with a model."),
        Entry("score", "score", "score", "Compare columns of a CSV file, such as label and prediction."),
        Entry("models", "models", "models", "List models."),
        Entry("summary", "models", "summary", "Show what a model learned."),
        Entry("version", "version", "app", "List versions; promote, alias, roll back, export, import."),
        Entry("optimize", "optimize", "optimize", "Make a version that gateways run faster."),
        Entry("deploy", "deploy", "deploy", "Bring a model version to where it serves."),
        Entry(
            "deployments", "deploy", "app", "List deployments; status, logs, traffic, rollback and removal."
        ),
        Entry("edge", "edge", "app", "Devices, enrolment, rollouts and commands of the fleet."),
        Entry("delete", "models", "delete", "Delete a model or one version."),
        Entry("jobs", "jobs", "app", "List, watch and cancel jobs."),
        Entry("algorithms", "algorithms", "algorithms", "List algorithms, or the parameters of one."),
        Entry("extract", "extract", "extract", "Fetch the results of a Splunk search into a CSV file."),
        Entry("hec", "hec", "app", "Look at the spool into Splunk."),
        Entry("serve", "serve", "app", "Run the service."),
        Entry("token", "token", "app", "Create, list and revoke tokens."),
        Entry("secret", "secret", "app", "Keep credentials in the secret store."),
        Entry("audit", "audit", "app", "Check the audit log."),
        Entry("tls", "tls", "app", "Make certificates for the service."),
    )


app = typer.Typer(
    cls=Commands,
    name="kepler",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kepler {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Machine learning for Splunk: train, predict, version and deploy models.

    Commands talk to the service of KEPLER_ADDRESS, else to the one of KEPLER_HOME (default ~/.kepler), which
    is started where none runs. KEPLER_TOKEN and KEPLER_CA_FILE go with it.
    """


def main(arguments: Sequence[str]) -> int:
    """Run one command; gives the exit code."""
    debug = "--debug" in arguments
    # Wherever it stands: after a failure one adds it to the end of the line.
    arguments = [item for item in arguments if item != "--debug"]
    try:
        result: Any = app(args=arguments, prog_name="kepler", standalone_mode=False)
        sys.stdout.flush()
    except KeplerError as error:
        if debug:
            raise
        typer.echo(f"kepler: {error.sentence}", err=True)
        return exit_code(error)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("kepler: interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not complain again while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except SystemExit as error:
        # The command line library ends so, with 1, on a broken pipe it saw itself.
        return BROKEN_PIPE if isinstance(error.__context__, BrokenPipeError) else int(error.code or 0)
    except Exception as error:
        shown = getattr(error, "show", None)  # a usage error of the command line
        if shown is None or debug:
            if debug:
                raise
            typer.echo(
                f"kepler: Something is wrong in Kepler itself ({type(error).__name__}: {error}). "
                "Run again with --debug and report what it shows.",
                err=True,
            )
            return 1
        shown()
        return int(getattr(error, "exit_code", 2))
    return result if isinstance(result, int) else 0


def run() -> None:
    """Entry point of the command ``kepler``."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
