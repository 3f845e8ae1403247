"""``kepler hec``: what is on its way into Splunk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli.connected import Address, Home, Json, print_json, print_table, session, when
from kepler.core.errors import Unavailable

if TYPE_CHECKING:
    from kepler.client.hec import Spool

app = typer.Typer(help="Look at the spool into Splunk.", no_args_is_help=True)
dead = typer.Typer(help="Events that Splunk refused.", no_args_is_help=True)
app.add_typer(dead, name="dead-letter")

Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Ids of dead letters.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
_PREVIEW_CHARS = 120


def _show(spools: list[Spool]) -> None:
    columns = (
        "destination",
        "waiting",
        "MiB",
        "oldest",
        "sent",
        "sent again",
        "dropped",
        "refused",
        "problem",
    )
    now = time.time()
    rows = [
        (
            s.destination, f"{s.events:,}", f"{s.bytes / 2**20:.1f}",
            f"{max(0.0, now - s.oldest_at):.0f} s" if s.oldest_at else "", f"{s.sent:,}", f"{s.resent:,}",
            f"{s.dropped:,}", f"{s.dead_letters:,}", s.problem,
        )
        for s in spools
    ]  # fmt: skip
    print_table(columns, rows)
    for s in spools:
        if s.failures:
            typer.echo(
                f"{s.destination}: failed posts: "
                + ", ".join(f"{reason} {count}" for reason, count in sorted(s.failures.items()))
            )


@app.command("status")
def status(as_json: Json = False, address: Address = "", home: Home = "") -> None:
    """Show what waits for Splunk, since when, and why; counts are since the service started."""
    with session(address, home, "search") as connected:
        found = connected.client.spool.states()
    if as_json:
        print_json(found)
    else:
        _show(found)


@app.command("flush")
def flush(
    timeout: Annotated[
        float, typer.Option(min=0, max=20, help="Seconds to wait for all to be delivered.")
    ] = 10.0,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
) -> None:
    """Try now what waits for its next attempt; fails when not all is delivered in time."""
    with session(address, home, "search") as connected:
        empty, found = connected.client.spool.flush(timeout)
    if as_json:
        print_json({"empty": empty, "states": found})
    else:
        _show(found)
    if not empty:
        problem = next((s.problem for s in found if s.problem), "")
        raise Unavailable(
            f"{sum(s.events for s in found):,} events still wait for Splunk",
            cause=problem,
            fix="They stay in the spool and are sent as soon as Splunk takes them.",
        )


@dead.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Dead letters to show, oldest first.")] = 20,
    after: Annotated[int, typer.Option(min=0, help="Only those behind this id.")] = 0,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
) -> None:
    """List events that Splunk refused, with its reason; --json shows them whole."""
    with session(address, home, "search") as connected:
        found = connected.client.spool.dead_letters(limit, after)
    if as_json:
        print_json(found)
    elif found:
        rows = [
            (
                str(d.id),
                when(d.refused_at),
                d.destination,
                d.source,
                str(d.code),
                d.reason,
                d.body[:_PREVIEW_CHARS],
            )
            for d in found
        ]
        print_table(("id", "refused", "destination", "source", "code", "reason", "event"), rows)
    else:
        typer.echo("No dead letters.", err=True)


@dead.command("retry")
def retry(
    ids: Ids = None, everything: All = False, as_json: Json = False, address: Address = "", home: Home = ""
) -> None:
    """Put refused events back into the spool, once what was wrong with the index or the token is mended."""
    with session(address, home, "search") as connected:
        count = connected.client.spool.retry(ids or (), everything=everything)
    _say(count, "put back", as_json)


@dead.command("delete")
def delete(
    ids: Ids = None, everything: All = False, as_json: Json = False, address: Address = "", home: Home = ""
) -> None:
    """Forget refused events for good."""
    with session(address, home, "search") as connected:
        count = connected.client.spool.delete(ids or (), everything=everything)
    _say(count, "deleted", as_json)


def _say(count: int, done: str, as_json: bool) -> None:
    if as_json:
        print_json({"events": count, "done": done})
    else:
        typer.echo(f"{count} dead letters {done}.")
