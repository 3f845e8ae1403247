"""``kepler score``."""

from __future__ import annotations

from typing import Annotated

import typer

from kepler.adapters.cli.connected import (
    Address,
    App,
    Home,
    Json,
    Params,
    key_values,
    print_json,
    print_table,
    session,
)
from kepler.adapters.cli.input_rows import input_rows


def score(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV file with a header, or - for stdin.")],
    method: Annotated[
        str, typer.Option("--method", "-m", help="accuracy_score, r2_score, ...; several with commas.")
    ],
    actual: Annotated[list[str], typer.Option("--actual", help="Column with the truth; may be repeated.")],
    predicted: Annotated[
        list[str], typer.Option("--predicted", help="Column to compare with it; may be repeated.")
    ],
    by: Annotated[list[str] | None, typer.Option(help="One result per value of this column.")] = None,
    param: Params = None,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Compare columns of FILE with each other."""
    params = key_values(param)
    with input_rows(file) as source, session(address, home, app) as connected:
        table = connected.score(
            source, method=method, actual=actual, predicted=predicted, by=by or (), params=params
        )
    if as_json:
        print_json(table.to_dicts())
    else:
        print_table(table.columns, table.rows)
