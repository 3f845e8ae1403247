"""Options and output that the commands which talk to the service share."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kepler.core.errors import InvalidInput

if TYPE_CHECKING:
    from kepler.core.jobs import JobRecord, Notice
    from kepler.sdk import Session

Address = Annotated[
    str,
    typer.Option("--address", help="HOST:PORT of the service. [default: KEPLER_ADDRESS, else by the home]"),
]
Home = Annotated[
    str, typer.Option("--home", help="Home whose service is used. [default: KEPLER_HOME or ~/.kepler]")
]
App = Annotated[str, typer.Option("--app", help="Splunk app that app:NAME means.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", "--set", "-p", metavar="K=V", help="A parameter, NAME=VALUE; may be repeated."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no notes.")]


@contextmanager
def session(address: str, home: str, app: str) -> Iterator[Session]:
    """A session with the service that the options and the environment name."""
    from kepler.sdk import connect

    with connect(address, home=home, app=app) as connected:
        yield connected


def key_values(items: Iterable[str] | None) -> dict[str, str]:
    """Parameters written as NAME=VALUE.

    >>> key_values(["n_estimators=200", "x=a=b"])
    {'n_estimators': '200', 'x': 'a=b'}
    """
    found: dict[str, str] = {}
    for item in items or ():
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise InvalidInput(f"{item[:80]!r} is no parameter", fix="Write it as NAME=VALUE")
        if name.strip() in found:
            raise InvalidInput(f"Parameter {name.strip()} is given twice", fix="Give it once")
        found[name.strip()] = value.strip()
    return found


def plain(value: Any) -> Any:
    """``value`` as JSON has it: records as objects, NaN as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal, aligned plain columns anywhere else."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    lines = [[cell.replace("\n", " ") for cell in row] for row in (columns, *rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_notices(notices: Iterable[Notice], quiet: bool = False) -> None:
    """Notes on stderr, so that stdout holds results only."""
    for notice in dict.fromkeys(notices):
        if not quiet or notice.level == "warn":
            typer.echo(f"{'warning' if notice.level == 'warn' else 'note'}: {notice.text}", err=True)


def figure(value: float) -> str:
    """A metric for people; counts stay whole.

    >>> figure(0.97123456), figure(1234567.5), figure(20000.0)
    ('0.9712', '1.235e+06', '20,000')
    """
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def when(seconds: float) -> str:
    """Local time for people; empty for 0."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def metrics_text(metrics: Iterable[tuple[str, float]]) -> str:
    """``accuracy=0.97 f1=0.8``."""
    return " ".join(f"{name}={figure(value)}" for name, value in metrics)


def job_json(job: JobRecord) -> dict[str, Any]:
    """A job as JSON has it, metrics as one object."""
    return {**plain(job), "metrics": plain(dict(job.metrics))}
