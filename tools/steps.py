"""What the runners of the suite share: where things are, how a step is announced, how pytest is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

# One thread for each process: two cores run two tests at a time, and small matrices gain nothing from more.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
CHECKS: dict[str, tuple[list[str], dict[str, str]]] = {
    "generated code is current": ([sys.executable, "tools/make_proto.py", "--check"], {}),
    "no address or key in the tree": ([sys.executable, "tools/check_tree.py"], {}),
    "links between pages hold": ([sys.executable, "tools/check_links.py"], {}),
    "style": ([str(BIN / "ruff"), "check", "--quiet", "."], {}),
    "import contracts": ([str(BIN / "lint-imports")], {"PYTHONPATH": "edge_agent"}),
    "types": ([str(BIN / "pyright")], {}),
}


def say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def pytest_arguments(paths: Sequence[str], *, workers: int = 2, durations: int = 5) -> list[str]:
    """Arguments that spread test files over ``workers`` processes."""
    spread = ["-n", str(workers), "--dist", "loadfile"] if workers else []
    return ["-m", "pytest", *paths, *spread, "-q", f"--durations={durations}"]
