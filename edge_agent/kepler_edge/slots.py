"""Folders of model files: two slots for each model, and the factory's beside them.

::

    models/app.search~failure/a/        release.json manifest.json manifest.sig model.onnx
    models/app.search~failure/b/
    models/app.search~failure/factory/  put there by the image, never written

One slot serves; the other takes the next release, and holds the one before it until then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from kepler_edge.durable import sync_folder, write_atomically
from kepler_edge.errors import InvalidInput, Refused, Unavailable
from kepler_edge.release_doc import Release, ReleaseFile

SLOTS = ("a", "b")
FACTORY = "factory"
RELEASE = "release.json"
_PART = ".part"
_TRIES = 3  # of a file that arrives with another hash
_BLOCK = 1 << 20


class Fetch(Protocol):
    """Where files come from."""

    def __call__(self, file: ReleaseFile, offset: int) -> bytes:
        """Some bytes of ``file`` from ``offset`` on, at least one.

        Raises `Unavailable` for what is worth trying again and `Refused` for what is not.
        """
        ...


class Slots:
    """The folders below ``home``."""

    def __init__(self, home: Path) -> None:
        self._root = home / "models"
        self._root.mkdir(parents=True, exist_ok=True)

    def folder(self, model: str, slot: str) -> Path:
        """Where a slot lies. A model's name is checked by `Release`."""
        return self._root / model.replace("/", "~") / slot

    def other(self, slot: str) -> str:
        """The slot that does not serve."""
        return "b" if slot == "a" else "a"

    def models(self) -> Iterator[str]:
        """Names of models that have a folder."""
        for found in sorted(self._root.iterdir()):
            if found.is_dir():
                yield found.name.replace("~", "/")

    def has_factory(self, model: str) -> bool:
        return (self.folder(model, FACTORY) / "manifest.json").is_file()

    def held(self, model: str, slot: str) -> Release | None:
        """The release a slot was begun for."""
        try:
            return Release.load((self.folder(model, slot) / RELEASE).read_text("utf-8"))
        except (OSError, ValueError, InvalidInput):
            return None

    def begin(self, slot: str, release: Release) -> Path:
        """A folder for ``release``: what was fetched for it stays, anything else goes."""
        folder = self.folder(release.model, slot)
        held = self.held(release.model, slot)
        if held is None or held.sha256 != release.sha256:
            self.empty(release.model, slot)
            folder.mkdir(parents=True)
            write_atomically(folder / RELEASE, release.text.encode())
            sync_folder(folder.parent)
        return folder

    def empty(self, model: str, slot: str) -> None:
        """Delete a slot's files; can be repeated."""
        folder = self.folder(model, slot)
        gone = folder.with_name(f".{slot}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)  # first out of sight as a whole, then file by file
        shutil.rmtree(gone, ignore_errors=True)

    def free_bytes(self) -> int:
        """Room on the disk."""
        return shutil.disk_usage(self._root).free


def download(
    folder: Path,
    release: Release,
    fetch: Fetch,
    stop: threading.Event,
    *,
    beside: Path | None = None,
    first_wait_s: float = 1.0,
) -> int:
    """Fetch what ``folder`` lacks of ``release``, from where it ended; gives the bytes that came.

    A file that the slot ``beside`` holds already, for another release of the same version, is copied from there.

    What is worth trying again is tried until ``stop``, with waits from ``first_wait_s`` to 60 s. Raises `Refused`.
    """
    came = 0
    for file in release.files:
        wait_s, tries = first_wait_s, 0
        if beside is not None:
            _copy(beside / file.path, folder / (file.path + _PART), file)
        while not _whole(folder / file.path, file):
            if stop.is_set():
                raise Unavailable("The download was stopped")
            part = folder / (file.path + _PART)
            offset = part.stat().st_size if part.exists() else 0
            try:
                if offset < file.size:
                    piece = fetch(file, offset)
                    if not piece:
                        raise Unavailable(f"Nothing came of {file.path!r}")
                    if offset + len(piece) > file.size:
                        raise Refused(f"More came of {file.path!r} than its {file.size:,} bytes")
                    with part.open("ab") as out:
                        out.write(piece)
                    came += len(piece)
                    wait_s = first_wait_s
                    continue
            except (Unavailable, OSError):
                stop.wait(wait_s)
                wait_s = min(60.0, wait_s * 2)
                continue
            if offset > file.size or _sha256(part) != file.sha256:
                part.unlink()
                tries += 1
                if tries >= _TRIES:
                    raise Refused(
                        f"{file.path!r} came {tries} times with another hash than the release names"
                    )
                continue
            with part.open("rb") as done:
                os.fsync(done.fileno())
            part.replace(folder / file.path)
            sync_folder(folder)
    return came


def _copy(there: Path, part: Path, file: ReleaseFile) -> None:
    """Put ``there`` in the place of a download, if it is the file that is wanted."""
    if (
        not part.exists()
        and not part.with_suffix("").exists()
        and _whole(there, file)
        and _sha256(there) == file.sha256
    ):
        shutil.copyfile(there, part)


def check_files(folder: Path, release: Release) -> None:
    """Raise `Refused` unless every file is as the release names it, and a plain file."""
    for file in release.files:
        path = folder / file.path
        if path.is_symlink() or not _whole(path, file) or _sha256(path) != file.sha256:
            raise Refused(f"{file.path!r} is not the file that the release names")


def _whole(path: Path, file: ReleaseFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
