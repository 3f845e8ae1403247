"""``kepler models``, ``kepler summary``, ``kepler delete``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli.connected import (
    Address,
    App,
    Home,
    Json,
    metrics_text,
    print_json,
    print_table,
    session,
    when,
)
from kepler.core.errors import InvalidInput

if TYPE_CHECKING:
    from kepler.client.records import ModelVersion

Name = Annotated[str, typer.Argument(metavar="NAME", help="Model: NAME, app:NAME@prod, app.search/NAME@3.")]
COLUMNS = ("model", "aliases", "algorithm", "target", "rows", "metrics", "created")


def show_versions(versions: Sequence[ModelVersion]) -> None:
    """A line a version."""
    rows = [
        (
            item.full_name,
            ",".join(item.aliases),
            item.algorithm,
            item.target,
            f"{item.rows:,}",
            metrics_text(item.metrics.items()),
            when(item.created_at),
        )
        for item in versions
    ]
    print_table(COLUMNS, rows)


def models(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Full names to show; * stands for anything.")
    ] = "",
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """List the newest version of every model you may see."""
    with session(address, home, app) as connected:
        found = connected.models(pattern)
    if as_json:
        print_json(found)
    elif found:
        show_versions(found)
    else:
        typer.echo("No models.", err=True)


def summary(
    name: Name,
    view: Annotated[
        str, typer.Option(help="default, params, importance, metrics, schema, groups or optimization.")
    ] = "default",
    limit: Annotated[int, typer.Option(help="Rows, or depth of a tree; 0 for the default.")] = 0,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Show what a model learned: coefficients, importances, centres, metrics, schema."""
    with session(address, home, app) as connected:
        version, table = connected.client.summarize(name, view=view, limit=limit)
    if as_json:
        print_json({"model": version, "view": view, "rows": table.to_dicts()})
        return
    about = f"{version.full_name}  {version.algorithm}  {version.rows:,} rows"
    typer.echo(f"{about}  {metrics_text(version.metrics.items())}".rstrip())
    print_table(table.columns, table.rows)


def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Delete one version (NAME@3) or a whole model (NAME)."""
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidInput(f"Deleting {name} was not confirmed", fix="Add --yes")
        what = name if "@" in name else f"{name} with all its versions"
        typer.confirm(f"Delete {what}?", abort=True)
    with session(address, home, app) as connected:
        full_name, versions = connected.client.delete_model(name)
    if as_json:
        print_json({"name": full_name, "versions": versions})
    else:
        typer.echo(f"Deleted {full_name}, version {', '.join(str(version) for version in versions)}")
