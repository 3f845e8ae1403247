"""``kepler optimize``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from kepler.adapters.cli.connected import (
    Address,
    App,
    Home,
    Json,
    Quiet,
    key_values,
    print_json,
    print_notices,
    print_table,
    session,
)
from kepler.adapters.cli.input_rows import input_rows
from kepler.core.errors import InvalidInput

if TYPE_CHECKING:
    from kepler.client.optimizing import OptimizedVersion


def optimize(
    name: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION]", help="app:NAME@7, NAME@prod; else the newest.")
    ],
    target: Annotated[str, typer.Option("--for", help="What it will run on: edge.")] = "edge",
    calibration: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="CSV file with rows as the model will see them, or - for stdin. "
            "[default: rows drawn field by field from the training profile]",
        ),
    ] = "",
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="OUTPUT=NUMBER", help="An alert's threshold to fit anew; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report only; make no version.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    address: Address = "",
    home: Home = "",
    app: App = "search",
) -> None:
    """Make the next version of a model as a gateway runs it fastest: single precision or INT8, simplified.

    It is made only where 99.5 % of held-out rows get the same answer and it is faster or much smaller; else the
    reason is said.
    """
    thresholds = _numbers(key_values(threshold))
    with (
        input_rows(calibration) if calibration else nullcontext(None) as source,
        session(address, home, app) as connected,
    ):
        done = connected.optimize(
            name, target=target, calibration=source, thresholds=thresholds, dry_run=dry_run
        )
    if as_json:
        print_json({**_shown(done), "report": done.report.to_dicts()})
        return
    print_notices(done.notices, quiet)
    print_table(done.report.columns, done.report.rows)
    for item in done.thresholds:
        typer.echo(
            f"threshold {item.output}: {item.before:.6g} becomes {item.after:.6g} "
            f"({100 * item.agreement:.2f} % same alerts)"
        )
    made = (
        "nothing was made (dry run)" if done.version is None else f"{done.version.full_name} is {done.method}"
    )
    typer.echo(f"{made}; {100 * done.agreement:.2f} % of held-out rows get the same answer")


def _shown(done: OptimizedVersion) -> dict[str, object]:
    return {
        "version": done.version,
        "method": done.method,
        "agreement": done.agreement,
        "thresholds": done.thresholds,
        "calibrated_on": done.calibrated_on,
        "notices": done.notices,
    }


def _numbers(texts: dict[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, text in texts.items():
        try:
            found[name] = float(text)
        except ValueError as error:
            raise InvalidInput(
                f"{text[:40]!r} is no number", fix=f"Write --threshold '{name}=0.5'."
            ) from error
    return found
