"""``kepler secret``: the credentials the service uses towards others."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kepler.adapters.cli.home_tools import Config, Home, Json, audit, opened, print_json
from kepler.core.errors import Denied, InvalidInput

app = typer.Typer(help="Keep credentials in this machine's secret store.", no_args_is_help=True)

OWN_PREFIX = "kepler."  # made and used by the service itself
Name = Annotated[str, typer.Argument(help="Name of the secret.")]


@app.command("set")
def set_(name: Name, home: Home = None, config: Config = None, as_json: Json = False) -> None:
    """Store the value read from standard input: `kepler secret set NAME < FILE`.

    A value is never an argument, where other users of the machine could read it. One newline at its end is
    left out.
    """
    _check_not_own(name)
    if sys.stdin.isatty():
        value = typer.prompt(f"Value of {name}", hide_input=True)
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise InvalidInput("Standard input held no value", fix=f"Run: kepler secret set {name} < FILE")
    with opened(home, config) as security:
        security.secrets.set(name, value)
        audit(security, "secret.set", name)
    _say(as_json, name, "stored")


@app.command("list")
def list_(home: Home = None, config: Config = None, as_json: Json = False) -> None:
    """List the names of the stored secrets; values are never shown."""
    with opened(home, config) as security:
        names = [name for name in security.secrets.names() if not name.startswith(OWN_PREFIX)]
    if as_json:
        print_json(names)
        return
    for name in names:
        typer.echo(name)


@app.command("delete")
def delete(name: Name, home: Home = None, config: Config = None, as_json: Json = False) -> None:
    """Delete a secret."""
    _check_not_own(name)
    with opened(home, config) as security:
        security.secrets.delete(name)
        audit(security, "secret.delete", name)
    _say(as_json, name, "deleted")


@app.command("rotate")
def rotate(home: Home = None, config: Config = None, as_json: Json = False) -> None:
    """Seal every secret under a new key and forget the old key."""
    with opened(home, config) as security:
        key_id = security.secrets.rotate()
        audit(security, "secret.rotate", key_id)
    if as_json:
        print_json({"key_id": key_id})
        return
    typer.echo(f"All secrets are sealed with key {key_id} now.")


def _check_not_own(name: str) -> None:
    if name.startswith(OWN_PREFIX):
        raise Denied(
            f"Secret {name!r} belongs to the service itself", fix=f"Choose a name without {OWN_PREFIX!r}."
        )


def _say(as_json: bool, name: str, done: str) -> None:
    if as_json:
        print_json({"name": name, "done": done})
    else:
        typer.echo(f"Secret {name} is {done}.")
