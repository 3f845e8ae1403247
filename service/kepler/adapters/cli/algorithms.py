"""``kepler algorithms``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli.connected import Address, App, Home, Json, print_json, print_table, session

if TYPE_CHECKING:
    from kepler.client.records import AlgorithmDescription, AlgorithmParam


def algorithms(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Show the parameters of this one.")] = "",
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """List the algorithms that can be trained, or describe one with its parameters."""
    with session(address, home, app) as connected:
        found = connected.algorithms(name)
    if as_json:
        print_json(found)
    elif name:
        for item in found:
            _describe(item)
    else:
        rows = [
            (
                item.name,
                ",".join(item.tasks),
                "" if item.available else f"needs [{item.extra}]",
                _first_line(item),
            )
            for item in found
        ]
        print_table(("algorithm", "task", "", "description"), rows)


def _first_line(item: AlgorithmDescription) -> str:
    return item.description.strip().partition("\n")[0]


def _describe(item: AlgorithmDescription) -> None:
    typer.echo(f"{item.name}  {', '.join(item.tasks)}")
    if item.aliases:
        typer.echo(f"also called {', '.join(item.aliases)}")
    if not item.available:
        typer.echo(f"needs `pip install 'kepler-for-splunk[{item.extra}]'` where the service runs")
    typer.echo(f"\n{item.description.strip()}\n")
    rows = [
        (param.name, param.type, param.default, _range(param), param.description) for param in item.params
    ]
    if rows:
        print_table(("parameter", "type", "default", "range", "meaning"), rows)


def _range(param: AlgorithmParam) -> str:
    if param.choices:
        return " | ".join(param.choices)
    if param.low and param.high:
        return f"{param.low} to {param.high}"
    if param.low:
        return f"at least {param.low}"
    return f"at most {param.high}" if param.high else ""
