"""What a power cut leaves: all that was synced, and of the rest any part, whole or torn."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("shim.c")
SECTOR = 512
MARK = "committed"
"""A file whose writes are no data: each says what the process believes to be on the disk."""


def build_shim(folder: Path) -> Path:
    """The compiled library; skips where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = folder / "disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class Entry:
    """One thing that was done to the disk: `W`rite, `T`runcate, `S`ync, `U`nlink."""

    kind: str
    name: str
    at: int
    data: bytes


def read_journal(path: Path) -> list[Entry]:
    """All that was done, in order."""
    return list(_entries(path.read_bytes()))


def _entries(content: bytes) -> Iterator[Entry]:
    place = 0
    while place < len(content):
        kind, length, at, size = struct.unpack_from("<cIQI", content, place)
        place += 17
        name = content[place : place + length].decode()
        yield Entry(kind.decode(), name, at, content[place + length : place + length + size])
        place += length + size


def cut(entries: list[Entry], moment: int, folder: Path, chance: random.Random) -> str:
    """Makes ``folder`` as it is after a cut before entry ``moment``; returns the last mark before it.

    What was synced is there. Each later write is lost, there, or there in some of its sectors; later truncates happen
    or not. Unlinks are taken as done: an unlink that did not happen leaves a file SQLite knows how to judge.
    """
    files: dict[str, bytearray] = {}
    mark = ""
    synced = {entry.name: number for number, entry in enumerate(entries[:moment]) if entry.kind == "S"}
    for number, entry in enumerate(entries[:moment]):
        if entry.name == MARK:
            mark = entry.data.decode()
            continue
        file = files.setdefault(entry.name, bytearray())
        sure = number < synced.get(entry.name, -1)
        if entry.kind == "W":
            _write(file, entry, sure, chance)
        elif entry.kind == "T" and (sure or chance.random() < 0.5):
            del file[entry.at :]
            file.extend(bytes(entry.at - len(file)))
        elif entry.kind == "U":
            del files[entry.name]
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return mark


def _write(file: bytearray, entry: Entry, sure: bool, chance: random.Random) -> None:
    fate = 1.0 if sure else chance.choice((0.0, 0.5, 1.0))
    for start in range(0, len(entry.data), SECTOR):
        if fate == 1.0 or chance.random() < fate:
            place, part = entry.at + start, entry.data[start : start + SECTOR]
            if len(file) < place + len(part):
                file.extend(bytes(place + len(part) - len(file)))
            file[place : place + len(part)] = part
