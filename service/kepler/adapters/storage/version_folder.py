"""The folder of one model version: sealed when it is registered, verified before anything in it is parsed.

A sealed folder holds ``manifest.json`` with the SHA-256 and size of every other file, and ``manifest.sig``
with the signature over the manifest's bytes. Nothing else may lie in it, and no links.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from kepler.core.errors import Conflict, InvalidInput, KeplerError, NotFound
from kepler.core.manifest import FileEntry, Manifest
from kepler.ports.security import Signer, Verifier

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MAX_MANIFEST_BYTES = 64 * 2**20  # golden vectors and drift profiles of a wide model stay far below
MAX_FILES = 10_000
_BLOCK = 1 << 20
FILE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


def measure(folder: Path) -> dict[str, FileEntry]:
    """Hash every file but manifest and signature. Raises `InvalidInput` for links and odd names."""
    return {
        path: _entry(folder, path) for path in sorted(_files(folder)) if path not in (MANIFEST, SIGNATURE)
    }


def draft_manifest(folder: Path) -> Manifest:
    """The manifest that training left, before it is completed. Raises `InvalidInput`."""
    try:
        return Manifest.from_json(_small(folder / MANIFEST))
    except FileNotFoundError as error:
        raise InvalidInput("The trained model has no manifest", fix="Train it again.") from error


def seal(folder: Path, manifest: Manifest, signer: Signer) -> str:
    """Write the completed manifest and its signature, and make the whole folder durable.

    Repeating it writes the same. Gives the manifest's SHA-256.
    """
    payload = manifest.to_bytes()
    (folder / SIGNATURE).unlink(missing_ok=True)  # never an old signature beside a new manifest
    _write(folder / MANIFEST, payload)
    _write(folder / SIGNATURE, signer.sign(payload))
    for path in _files(folder):
        sync(folder / path)
    for below, _, _ in os.walk(folder):
        sync(Path(below))
    sync(folder.parent)
    return hashlib.sha256(payload).hexdigest()


def read_manifest(folder: Path, signer: Verifier, full_name: str = "") -> Manifest:
    """The manifest, parsed once its signature holds; the other files are not looked at.

    ``full_name`` (``app.search/pump@3``) is what the folder must hold: a signed folder in another's place is
    refused. Raises `NotFound` or `Conflict`.
    """
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise _changed(folder, "It is a link or no folder")
        payload, signature = _small(folder / MANIFEST), _small(folder / SIGNATURE)
    except FileNotFoundError as error:
        raise NotFound(
            f"The files of model version {full_name or folder.name} are not there",
            cause=f"{Path(error.filename).name!r} is missing",
            fix="Restore the service's home from a backup, or train the model again.",
        ) from error
    if not signer.verify(payload, signature):
        raise _changed(folder, "The manifest's signature does not hold")
    manifest = Manifest.from_json(payload)
    holds = f"{manifest.name}@{manifest.version}"
    if full_name and holds != full_name:
        raise _changed(folder, f"It holds {holds} in the place of {full_name}")
    return manifest


def verify_folder(folder: Path, signer: Verifier, full_name: str = "") -> Manifest:
    """Check signature, names, sizes and hashes of everything in ``folder``; then it may be parsed.

    Raises `NotFound` when files are gone and `Conflict` naming the first difference otherwise. Reads every byte
    once: about 1 s per GB.
    """
    manifest = read_manifest(folder, signer, full_name)
    expected = manifest.files
    for path in expected:
        if not all(FILE_PART.fullmatch(part) for part in path.split("/")) or path in (MANIFEST, SIGNATURE):
            raise _changed(folder, f"The manifest lists {path[:120]!r}, which is no file of a version")
    try:
        present = set(_files(folder)) - {MANIFEST, SIGNATURE}
    except InvalidInput as error:
        raise _changed(folder, error.message) from error
    for path in sorted(present ^ expected.keys()):
        raise _changed(folder, f"{path[:120]!r} is {'not in the manifest' if path in present else 'missing'}")
    for path, entry in expected.items():
        size = (folder / path).stat().st_size
        if size != entry.size:  # cheaper than the hash, and a bound on what is hashed
            raise _changed(folder, f"{path!r} has {size} bytes instead of {entry.size}")
        if _entry(folder, path) != entry:
            raise _changed(folder, f"{path!r} has another SHA-256")
    return manifest


def read_listed(folder: Path, manifest: Manifest, name: str) -> bytes:
    """One small file of a version whose ``manifest`` was verified. Raises `Conflict` for any difference."""
    entry = manifest.files.get(name)
    if entry is None:
        raise _changed(folder, f"The manifest lists no {name!r}")
    try:
        content = _small(folder / name)
    except FileNotFoundError as error:
        raise _changed(folder, f"{name!r} is missing") from error
    if FileEntry(hashlib.sha256(content).hexdigest(), len(content)) != entry:
        raise _changed(folder, f"{name!r} has another SHA-256")
    return content


def adopt(draft: Path, folder: Path) -> None:
    """Move a draft to where the version will live. Repeating it is safe; what is there already is kept."""
    if folder.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
        return
    if not draft.is_dir():
        raise NotFound(
            "The trained model is gone before it was registered",
            cause=f"{draft.name!r} is not in the job's folder",
            fix="Train it again.",
        )
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        draft.rename(folder)
    except (
        OSError
    ):  # another file system: copy beside it, so that the name appears with all files or not at all
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(draft, partial, symlinks=True)
        partial.rename(folder)
        shutil.rmtree(draft, ignore_errors=True)
    sync(folder.parent)
    sync(folder.parent.parent)


def remove(folder: Path) -> None:
    """Delete a version's files; can be repeated."""
    gone = folder.with_name(f".{folder.name}.deleted")
    if folder.exists():
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)  # first out of sight, then file by file
    shutil.rmtree(gone, ignore_errors=True)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(folder: Path, prefix: str = "") -> Iterator[str]:
    """Relative paths of all files. Raises `InvalidInput` for links, devices, odd names and too many."""
    count = 0
    waiting = [prefix]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                path = f"{below}{entry.name}"
                if not FILE_PART.fullmatch(entry.name):
                    raise InvalidInput(f"{path[:120]!r} is not a legal file name in a model version")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    count += 1
                    if count > MAX_FILES:
                        raise InvalidInput(f"A model version may hold {MAX_FILES} files and no more")
                    yield path
                else:
                    raise InvalidInput(f"{path[:120]!r} is a link or no plain file")


def _entry(folder: Path, path: str) -> FileEntry:
    digest, size = hashlib.sha256(), 0
    with (folder / path).open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return FileEntry(digest.hexdigest(), size)


def _small(path: Path) -> bytes:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_MANIFEST_BYTES:
        raise _changed(path.parent, f"{path.name} is no plain file of a sensible size")
    return path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _changed(folder: Path, cause: str) -> KeplerError:
    return Conflict(
        f"Model version {folder.parent.name}/{folder.name} is not as it was signed",
        cause=cause,
        fix="Restore its folder from a backup, or train the model again.",
    )
