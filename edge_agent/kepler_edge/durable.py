"""Small files that are whole or not there, whenever the power goes."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import cast


def write_atomically(path: Path, content: bytes, mode: int = 0o640) -> None:
    """Replaces ``path``: readers, and the next boot, see the old content or the new one.

    Raises
    ------
    OSError
        When the disk is full or read-only; the old file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Puts a folder's entries on the disk, so that a rename outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Durable:
    """A small JSON object on disk: numbers that must only rise, and what was agreed.

    Apart from the outbox, because it must outlive one that had to be rebuilt. A file that cannot be read is set
    aside, and ``lost`` is True then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._values: dict[str, object] = {}
        self.lost = False
        try:
            found: object = json.loads(path.read_bytes())
            if not isinstance(found, dict):
                raise ValueError("no object")
            self._values = cast("dict[str, object]", found)
        except FileNotFoundError:
            pass
        except ValueError:
            self.lost = True
            path.replace(path.with_suffix(".corrupt"))

    def number(self, name: str, default: int = 0) -> int:
        """A whole number; ``default`` where there is none."""
        found = self.get(name)
        return found if isinstance(found, int) and not isinstance(found, bool) else default

    def get(self, name: str) -> object:
        """A value, or None. Not to be changed by the caller."""
        with self._lock:
            return self._values.get(name)

    def put(self, **values: object) -> None:
        """Writes values; they are on the disk when this returns.

        Raises
        ------
        OSError
            When the disk refuses; nothing has changed then.
        """
        with self._lock:
            merged = {**self._values, **values}
            if merged == self._values:
                return
            write_atomically(self._path, json.dumps(merged, sort_keys=True).encode(), mode=0o600)
            self._values = merged

    def rise(self, name: str) -> int:
        """Adds one to a number, on disk, and returns it."""
        with self._lock:
            found = self._values.get(name)
            value = (found if isinstance(found, int) else 0) + 1
            merged = {**self._values, name: value}
            write_atomically(self._path, json.dumps(merged, sort_keys=True).encode(), mode=0o600)
            self._values = merged
            return value
