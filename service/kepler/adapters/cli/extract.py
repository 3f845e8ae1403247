"""``kepler extract``: results of a Splunk search as a CSV file. Credentials never come as arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli.connected import Home, Json, Quiet, print_json, print_notices
from kepler.core.errors import InvalidInput

if TYPE_CHECKING:
    from kepler.adapters.splunk.connection import SplunkAccess


def extract(
    search: Annotated[str, typer.Argument(metavar="SPL", help="The search; with --metrics a metric's name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV file to write.")],
    earliest: Annotated[str, typer.Option(help="Start of the time range, as in Splunk.")] = "-24h",
    latest: Annotated[str, typer.Option(help="End of the time range, as in Splunk.")] = "now",
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Read a metric with mstats; * is allowed.")
    ] = False,
    index: Annotated[str, typer.Option(help="With --metrics: index to read.")] = "*",
    span: Annotated[str, typer.Option(help="With --metrics: width of a time step.")] = "1m",
    by: Annotated[
        list[str] | None, typer.Option(help="With --metrics: a dimension; may be repeated.")
    ] = None,
    function: Annotated[str, typer.Option(help="With --metrics: avg, max, min, sum, p95, ...")] = "avg",
    export: Annotated[
        bool, typer.Option("--export", help="Stream instead of paging: no limit on the number of events.")
    ] = False,
    page_rows: Annotated[int, typer.Option(min=1, help="Results a request.")] = 50_000,
    timeout_s: Annotated[float, typer.Option(min=1.0, help="Longest time the search may run.")] = 3600.0,
    host: Annotated[str, typer.Option(help="Splunk's host. [default: KEPLER_SPLUNK_HOST]")] = "",
    port: Annotated[
        int, typer.Option(help="Management port. [default: KEPLER_SPLUNK_PORT or 8089]", show_default=False)
    ] = 0,
    scheme: Annotated[str, typer.Option(help="https or http. [default: KEPLER_SPLUNK_SCHEME or https]")] = "",
    username: Annotated[str, typer.Option(help="Splunk user. [default: KEPLER_SPLUNK_USERNAME]")] = "",
    app: Annotated[str, typer.Option("--app", help="App to search in. [default: KEPLER_SPLUNK_APP]")] = "",
    ca_file: Annotated[
        str, typer.Option(help="Authorities of Splunk's certificate. [default: KEPLER_SPLUNK_CA_FILE]")
    ] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="Do not check Splunk's certificate.")] = False,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the password, or without --username the token, from stdin.")
    ] = False,
    secret: Annotated[
        str, typer.Option(help="Take it from the secret store under this name (kepler secret set).")
    ] = "",
    home: Home = "",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a search in Splunk and write its results, page by page, to a CSV file.

    Password and token come from KEPLER_SPLUNK_PASSWORD and KEPLER_SPLUNK_TOKEN, from stdin or from the secret
    store, never from an argument.
    """
    from kepler.adapters.splunk.connection import SplunkAccess, connect
    from kepler.adapters.splunk.extract import extract as run
    from kepler.adapters.splunk.extract import metrics_search

    if stdin and secret:
        raise InvalidInput("--stdin and --secret exclude each other", fix="Use one of them")
    if not output.parent.is_dir():
        raise InvalidInput(f"There is no folder {output.parent}", fix="Make it, or write elsewhere")
    credential = sys.stdin.readline().strip() if stdin else _secret(secret, home) if secret else ""
    if (stdin or secret) and not credential:
        raise InvalidInput("The credential is empty", fix="Write the password or token into stdin")
    access: SplunkAccess = SplunkAccess.resolve(
        host=host,
        port=port,
        scheme=scheme,
        username=username,
        password=credential if username else "",
        token="" if username else credential,
        app=app,
        ca_file=ca_file,
        verify=not insecure,
    )
    if metrics:
        search = metrics_search(search, index=index, span=span, by=tuple(by or ()), function=function)
    with _bar(quiet) as told:
        done = run(
            connect(access),
            search,
            output,
            earliest=earliest,
            latest=latest,
            page_rows=page_rows,
            export=export,
            timeout_s=timeout_s,
            on_progress=told,
        )
    if as_json:
        print_json({"output": str(output), "search": search, **_fields(done)})
        return
    print_notices(done.notices, quiet)
    if not quiet:
        typer.echo(f"{done.rows:,} rows with {len(done.columns)} columns written to {output}", err=True)


def _fields(done: object) -> dict[str, object]:
    from kepler.adapters.cli.connected import plain

    return dict(plain(done))


def _secret(name: str, home: str) -> str:
    from kepler.adapters.cli.home_tools import opened

    with opened(Path(home) if home else None, None) as security:
        return security.secrets.get(name)


@contextmanager
def _bar(quiet: bool) -> Iterator[Callable[[float, int], None]]:
    """A bar for a search: its share done, then the rows fetched."""
    if quiet or not sys.stderr.isatty():
        yield lambda share, rows: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("searching", total=1.0)

        def told(share: float, rows: int) -> None:
            bars.update(task, completed=share, description=f"{rows:,} rows" if rows else "searching")

        yield told
