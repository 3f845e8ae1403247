"""``kepler version``: the one place that moves an alias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli import packages
from kepler.adapters.cli.connected import Address, App, Home, Json, print_json, session
from kepler.adapters.cli.models import show_versions

if TYPE_CHECKING:
    from kepler.client.records import ModelVersion

app = typer.Typer(
    help="List the versions of a model; promote, alias, roll back, export and import.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Model without version: NAME or app:NAME.")]
Version = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="Version to point at: app:NAME@7.")]
Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="A word such as prod or candidate.")]
Prod = Annotated[str, typer.Option("--alias", help="The alias that moves.")]


def _say(version: ModelVersion, text: str, as_json: bool) -> None:
    if as_json:
        print_json(version)
    else:
        typer.echo(text)


@app.command("list")
def list_(
    name: Name, as_json: Json = False, address: Address = "", home: Home = "", app: App = "search"
) -> None:
    """List all versions of a model, newest first."""
    with session(address, home, app) as connected:
        found = connected.versions(name)
    if as_json:
        print_json(found)
    else:
        show_versions(found)


@app.command("promote")
def promote(
    name: Version,
    alias: Prod = "prod",
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Make a version the one in production: point the alias prod at it."""
    _move(name, alias, as_json, address, home, app)


@app.command("alias")
def alias(
    name: Version,
    alias: Alias,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Point an alias at a version; it is made where it does not exist."""
    _move(name, alias, as_json, address, home, app)


def _move(name: str, alias: str, as_json: bool, address: str, home: str, app: str) -> None:
    with session(address, home, app) as connected:
        version = connected.set_alias(name, alias)
    _say(version, f"{version.name}@{alias} is version {version.version}", as_json)


@app.command("rollback")
def rollback(
    name: Name,
    alias: Prod = "prod",
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Move an alias back to the version it pointed at before."""
    with session(address, home, app) as connected:
        version = connected.rollback(name, alias)
    _say(version, f"{version.name}@{alias} is version {version.version} again", as_json)


@app.command("delete-alias")
def delete_alias(
    name: Name,
    alias: Alias,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Delete an alias. The version stays."""
    with session(address, home, app) as connected:
        version = connected.client.delete_alias(name, alias)
    _say(version, f"{version.name} has no alias {alias} any more", as_json)


app.registered_commands += packages.app.registered_commands
