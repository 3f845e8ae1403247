"""Secrets that must turn up nowhere, and the places where they might."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil


def files_of(home: Path, *, but: Iterable[Path] = ()) -> dict[str, bytes]:
    """Every file under ``home`` except those that are the secret itself."""
    left_out = set(but)
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and path not in left_out
    }


def processes_of(pid: int) -> dict[str, bytes]:
    """What the service's workers were started with: arguments and environment."""
    found: dict[str, bytes] = {}
    for child in psutil.Process(pid).children(recursive=True):
        try:
            found[f"process {child.pid}"] = repr((child.cmdline(), child.environ())).encode()
        except psutil.Error:
            continue
    return found


def found_in(places: Mapping[str, bytes], canaries: Mapping[str, str]) -> list[str]:
    """Which canary is in which place; none, if all is well."""
    return [
        f"{name} in {place}"
        for place, content in places.items()
        for name, canary in canaries.items()
        if canary.encode() in content
    ]
