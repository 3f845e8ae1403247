"""Rows as splunkd would send them: real sensor data repeated to the size a benchmark asks for."""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PLAIN = re.compile(r"[A-Za-z0-9]*")


@dataclass(frozen=True)
class Source:
    """Named columns of text. ``fields`` are numeric features, ``target`` a numeric field."""

    name: str
    fields: tuple[str, ...]
    target: str
    rows: tuple[tuple[str, ...], ...]  # fields, then the target


def quote(value: str) -> str:
    """splunkd's rule: quoted iff it holds a character outside [A-Za-z0-9]."""
    return value if _PLAIN.fullmatch(value) else '"' + value.replace('"', '""') + '"'


@lru_cache(maxsize=1)
def source() -> Source:
    """cpu_act (8,192 real rows) from KEPLER_TEST_DATA, else scikit-learn's bundled diabetes set (442)."""
    folder = Path(os.environ.get("KEPLER_TEST_DATA") or ROOT.parent / "shared")
    path = folder / "data" / "cpu_act.csv"
    if path.is_file():
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            target = "usr" if "usr" in names else names[-1]
            fields = tuple(name for name in names if name != target)[:10]
            rows = tuple(tuple(row[name] for name in (*fields, target)) for row in reader)
        return Source("cpu_act", fields, target, rows)
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    rows = tuple(
        tuple(f"{value:g}" for value in (*x, y))
        for x, y in zip(data.data.tolist(), data.target.tolist(), strict=True)
    )
    return Source("diabetes", tuple(data.feature_names), "target", rows)


def chunks(
    rows: int, *, chunk: int = 50_000, target: bool = False, index: bool = False, raw: bool = False
) -> list[tuple[int, bytes]]:
    """Chunks of (rows, CSV with header): the ten fields, plus what is asked for.

    ``index`` adds ``_chunked_idx`` (selected-fields mode); ``raw`` a 200-byte ``_raw``.
    """
    data = source()
    names = [*data.fields, *([data.target] if target else []), *(["_raw"] if raw else []),
             *(["_chunked_idx"] if index else [])]  # fmt: skip
    width = len(data.fields) + (1 if target else 0)
    filler = ',"' + ("Nov 23 10:00:00 host-17 sensord[4242]: level=info msg=reading seq=" * 4)[:200] + '"'
    lines = [",".join(map(quote, row[:width])) + (filler if raw else "") for row in data.rows]
    header = ",".join(map(quote, names)) + "\n"
    found: list[tuple[int, bytes]] = []
    done = 0
    while done < rows:
        size = min(chunk, rows - done)
        picked = [lines[(done + number) % len(lines)] for number in range(size)]
        if index:
            picked = [f"{line},{number}" for number, line in enumerate(picked)]
        found.append((size, (header + "\n".join(picked) + "\n").encode()))
        done += size
    return found
