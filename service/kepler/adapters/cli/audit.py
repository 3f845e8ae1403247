"""``kepler audit``: whether the record of what was done is whole."""

from __future__ import annotations

import typer

from kepler.adapters.cli.home_tools import Config, Home, Json, opened, print_json

app = typer.Typer(help="Check this machine's audit log.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Check this machine's audit log."""


@app.command("verify")
def verify(home: Home = None, config: Config = None, as_json: Json = False) -> None:
    """Check every record against the ones before it; fails naming the first that was changed or removed."""
    with opened(home, config) as security:
        count = security.audit.verify()
        path = security.audit.path
    if as_json:
        print_json({"records": count, "file": str(path)})
        return
    typer.echo(f"{count} records in {path}: none changed, removed or moved.")
