"""``kepler predict``."""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from kepler.adapters.cli.connected import (
    Address,
    App,
    Home,
    Json,
    Params,
    Quiet,
    key_values,
    print_json,
    print_notices,
    session,
)
from kepler.adapters.cli.input_rows import input_rows


def predict(
    model: Annotated[
        str, typer.Argument(metavar="NAME", help="Model: NAME, app:NAME@prod, app.search/NAME@3.")
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV file with a header, or - for stdin.")],
    output: Annotated[str, typer.Option("--output", "-o", help="CSV file to write. [default: stdout]")] = "",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add a column per class where the model has them.")
    ] = False,
    as_name: Annotated[str, typer.Option("--as", help="Name of the prediction column.")] = "",
    on_missing: Annotated[
        str, typer.Option(help="When a column of the model is absent: warn, error or null.")
    ] = "warn",
    param: Params = None,
    quiet: Quiet = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Score the rows of FILE and give them back with the new columns appended, as CSV.

    With --json: an array of objects, or with --output a summary of what was written.
    """
    from kepler.client.records import PredictChoice
    from kepler.sdk_predict import open_prediction, write_scored
    from kepler.sdk_progress import shown

    choice = PredictChoice(probabilities, as_name, on_missing, key_values(param))
    with input_rows(file) as source, session(address, home, app) as connected:
        with (
            shown(None if output and not quiet else False) as bar,
            open_prediction(connected.client, model, source, choice, bar) as stream,
            _sink(output, as_json) as out,
        ):
            n_rows, notices = write_scored(stream, source, out)
        opened = stream.opened
    if output and as_json:
        fields = {"model": opened.model, "rows": n_rows, "columns": opened.output_columns, "output": output}
        print_json({**fields, "notices": list(dict.fromkeys(notices))})
        return
    print_notices(notices, quiet)
    if output and not quiet:
        typer.echo(f"{n_rows:,} rows scored by {opened.model}, written to {output}", err=True)


@contextmanager
def _sink(output: str, as_json: bool) -> Iterator[BinaryIO]:
    """Where the CSV goes: a file that appears whole or not at all, stdout, or stdout as JSON."""
    if output:
        path = Path(output)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                yield out
            part.chmod(0o644 & ~_umask())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    elif as_json:
        memory = io.BytesIO()
        yield memory
        text = io.StringIO(memory.getvalue().decode(), newline="")
        print_json(list(csv.DictReader(text)))
    else:
        yield sys.stdout.buffer


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
