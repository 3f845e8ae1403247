"""``kepler version export|import`` and the keys that decide whose packages this home takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli import home_tools
from kepler.adapters.cli.connected import Address, App, Home, Json, print_json, session
from kepler.core.errors import InvalidInput, NotFound
from kepler.core.packages import SUFFIX

if TYPE_CHECKING:
    from kepler.client.packages import MovedVersion

app = typer.Typer()

Name = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="app:NAME@7, NAME@prod; else the newest.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The package; its name ends in .kepler.")]


@app.command("export")
def export(
    name: Name, file: File, as_json: Json = False, address: Address = "", home: Home = "", app: App = "search"
) -> None:
    """Save a version as a signed package that another Kepler can import.

    It holds what the version holds, also the search it was trained by and the values its categories have.
    """
    if file.suffix != SUFFIX:
        raise InvalidInput(f"{file} does not end in {SUFFIX}", fix=f"Write {file.name}{SUFFIX}.")
    with session(address, home, app) as connected:
        moved = connected.export_version(name, file)
    _say(moved, f"{moved.version.full_name} is in {file}, signed with key {moved.key_id}", as_json)


@app.command("import")
def import_(
    file: File,
    into: Annotated[
        str, typer.Option(help="Model that gets a new version. [default: the name in the package]")
    ] = "",
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Make a package the next version of a model, once a trusted key's signature and all its content hold."""
    with session(address, home, app) as connected:
        moved = connected.import_version(file, into)
    _say(moved, f"{moved.version.full_name} is {moved.origin}, signed with key {moved.key_id}", as_json)


@app.command("key")
def key(
    home: home_tools.Home = None, config: home_tools.Config = None, as_json: home_tools.Json = False
) -> None:
    """Print this home's public key, for those who shall trust its packages."""
    with home_tools.opened(home, config) as security:
        key_id, pem = security.signer.key_id, security.signer.public_pem()
    if as_json:
        home_tools.print_json({"key_id": key_id, "public_key": pem})
        return
    typer.echo(pem, nl=False)


@app.command("trust")
def trust(
    file: Annotated[Path, typer.Argument(metavar="KEYFILE", help="What `kepler version key` printed there.")],
    name: Annotated[str, typer.Option(help="What to call it. [default: the file's name]")] = "",
    home: home_tools.Home = None,
    config: home_tools.Config = None,
    as_json: home_tools.Json = False,
) -> None:
    """Take packages that this key has signed. Compare its id with the owner's before."""
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise NotFound(f"{file} cannot be read", cause=error.strerror or str(error)) from error
    with home_tools.opened(home, config) as security:
        added = security.trust.add(pem, name or file.stem)
        home_tools.audit(security, "key.trust", added.key_id, {"name": added.name})
    if as_json:
        home_tools.print_json({"key_id": added.key_id, "name": added.name})
        return
    typer.echo(f"Packages signed with key {added.key_id} ({added.name}) are taken now.")


@app.command("distrust")
def distrust(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `kepler version trusted` lists it.")],
    home: home_tools.Home = None,
    config: home_tools.Config = None,
    as_json: home_tools.Json = False,
) -> None:
    """Take no more packages of a key. Versions that were imported before stay."""
    with home_tools.opened(home, config) as security:
        removed = security.trust.remove(key_id)
        home_tools.audit(security, "key.distrust", removed.key_id, {"name": removed.name})
    if as_json:
        home_tools.print_json({"key_id": removed.key_id, "name": removed.name})
        return
    typer.echo(f"Packages signed with key {removed.key_id} ({removed.name}) are refused now.")


@app.command("trusted")
def trusted(
    home: home_tools.Home = None, config: home_tools.Config = None, as_json: home_tools.Json = False
) -> None:
    """List the keys whose packages this home takes."""
    with home_tools.opened(home, config) as security:
        keys = security.trust.list()
    if as_json:
        home_tools.print_json([{"key_id": item.key_id, "name": item.name} for item in keys])
        return
    home_tools.print_table(("key", "name"), [(item.key_id, item.name) for item in keys])


def _say(moved: MovedVersion, text: str, as_json: bool) -> None:
    if as_json:
        print_json(moved)
    else:
        typer.echo(text)
