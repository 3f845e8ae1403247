"""The main job, as a Splunk user sees it: train, predict, score and look, through the app's real commands.

Starts a service on a temporary home and the splunkd stand-in of the tests, with data that any installation
has: scikit-learn's bundled real sets, and our own simulator of machine failures, said to be one.
"""

from __future__ import annotations

import csv
import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

from rich.console import Console  # noqa: E402
from rich.markup import escape  # noqa: E402
from rich.table import Table  # noqa: E402
from sklearn import datasets  # noqa: E402

from fakes.splunkd import SearchResult, Splunkd, has_python  # noqa: E402
from simulate_machines import simulate  # noqa: E402
from support.running_service import RunningService, running  # noqa: E402

console = Console(width=min(shutil.get_terminal_size((120, 40)).columns, 160))
SHOWN = 5

STEPS = (
    ("Is everything there?", "| keplerhealth"),
    (
        "Train on machine failures [dim](simulated: tools/simulate_machines.py)[/]. Whoever knows fit changes the verb.",
        "| inputlookup machines.csv | keplertrain LightGBMClassifier failure from * into app:failure test_size=0.3 "
        "output=summary",
    ),
    (
        "Predict with it: new columns beside the rows.",
        "| inputlookup machines.csv | keplerpredict app:failure probabilities=true "
        "| fields machine torque_nm tool_wear_min failure predicted(failure) probability(failure=1) | head 5",
    ),
    (
        "How good is it?",
        "| inputlookup machines.csv | keplerpredict app:failure "
        "| keplerscore confusion_matrix failure against predicted(failure)",
    ),
    ("What did it learn?", "| keplersummary app:failure view=importance limit=6"),
    (
        "A second version, logistic regression; versions are kept, aliases move.",
        "| inputlookup machines.csv | keplertrain LogisticRegression failure from * into app:failure "
        "test_size=0.3 output=summary",
    ),
    ("Production stays on version 1.", "| keplerversion promote app:failure@1 to=prod"),
    (
        "Real data: Fisher's iris, clustered.",
        "| inputlookup iris.csv | keplertrain KMeans sepal* petal* k=3 | head 3",
    ),
    (
        "Real data: diabetes progression, with the figures of five folds.",
        "| inputlookup diabetes.csv | keplertrain Ridge progression from * kfold_cv=5 output=summary",
    ),
    ("What is there now?", "| keplermodels"),
    ("A slip of the pen is one sentence.", "| inputlookup iris.csv | keplertrain LigtGBM species from *"),
)


def bundled() -> dict[str, str]:
    """scikit-learn's bundled real sets as CSV lookups."""
    iris = datasets.load_iris()
    names = [name.removesuffix(" (cm)").replace(" ", "_") for name in iris.feature_names]
    labels = [str(iris.target_names[number]) for number in iris.target]
    diabetes = datasets.load_diabetes(scaled=False)
    return {
        "iris.csv": _csv(
            [*names, "species"], [[*x, y] for x, y in zip(iris.data.tolist(), labels, strict=True)]
        ),
        "diabetes.csv": _csv(
            [*diabetes.feature_names, "progression"],
            [[*x, y] for x, y in zip(diabetes.data.tolist(), diabetes.target.tolist(), strict=True)],
        ),
    }


def _csv(header: list[str], rows: list[list[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def show(title: str, search: str, result: SearchResult, seconds: float) -> None:
    console.print(f"\n[bold]{title}[/]")
    console.print(f"[cyan]{escape(search)}[/]  [dim]{seconds:.1f} s[/]")
    for level, text in result.messages:
        colour = {"ERROR": "red", "WARN": "yellow"}.get(level, "dim")
        console.print(f"[{colour}]{level.lower()}: {escape(text)}[/]")
    if result.rows:
        console.print(_table(result.rows))


def _table(rows: list[dict[str, str]]) -> Table:
    names = [name for name in rows[0] if not name.startswith("_")]
    if len(names) > 9 or len(rows) == 1:  # few rows of many columns read better upright
        upright = Table("field", *(f"row {number + 1}" for number in range(min(len(rows), 3))), box=None)
        for name in names:
            upright.add_row(name, *(escape(row[name]) for row in rows[:3]))
        return upright
    table = Table(*names, box=None)
    for row in rows[: max(SHOWN, 12)]:
        table.add_row(*(escape(row[name]) for name in names))
    return table


def run(service: RunningService, python: str | None) -> int:
    lookups = {**bundled(), "machines.csv": simulate()}
    app = ROOT / "build" / "app" / "kepler"
    env = {"KEPLER_ADDRESS": service.grpc}
    with Splunkd(apps=[app], lookups=lookups, python=python, env=env, listen=False) as splunkd:
        for title, search in STEPS:
            started = time.monotonic()
            result = splunkd.search(search)
            show(title, search, result, time.monotonic() - started)
            wanted_error = title.startswith("A slip")
            if result.is_failed != wanted_error:
                console.print("[red]This search should have ended otherwise.[/]")
                return 1
    console.print(
        "\n[bold]Where to look next[/]\n"
        "  docs/tutorials/          the same on your own Splunk, step by step\n"
        "  docs/reference/          every command, algorithm, setting\n"
        "  .venv/bin/kepler --help  the command line: train, predict, models, jobs, extract, serve\n"
    )
    return 0


def main() -> int:
    python = "3.9" if has_python("3.9") else None
    note = "" if python else " (CPython 3.9 is not here: the commands run under this Python)"
    console.print(f"[dim]Starting a service on a temporary home and a splunkd stand-in{note} ...[/]")
    with (
        tempfile.TemporaryDirectory(prefix="kepler-demo-") as folder,
        running(Path(folder) / "home") as service,
    ):
        return run(service, python)


if __name__ == "__main__":
    raise SystemExit(main())
