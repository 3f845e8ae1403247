"""The zip that a ``.kepler`` package is: written the same each time, read as what a stranger sent.

Names, counts and sizes are checked before a byte is unpacked, and what is unpacked is counted and hashed on
its way: neither the zip's own directory nor its checksums are believed.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kepler.adapters.storage.version_folder import (
    FILE_PART,
    MANIFEST,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    SIGNATURE,
)
from kepler.core.errors import Conflict, InvalidInput
from kepler.core.manifest import FileEntry, Manifest
from kepler.core.packages import MAX_BYTES

SIGNATURE_BYTES = 64  # Ed25519
MAX_DIRECTORY_BYTES = 8 * 2**20
MAX_RATIO = 200  # a zip of zeros reaches a thousand, a model's numbers and texts ten
FREE_BYTES = 2**20  # of which the ratio says nothing
_END = struct.Struct("<4s4H2LH")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_BLOCK = 1 << 20


def write_zip(folder: Path, names: list[str], target: IO[bytes]) -> None:
    """Zip the files ``names`` of ``folder``, manifest and signature first; the same files give the same bytes."""
    ratio = _write(folder, names, target, zipfile.ZIP_DEFLATED)
    if ratio > MAX_RATIO:  # a reader would take it for a bomb
        target.seek(0)
        target.truncate()
        _write(folder, names, target, zipfile.ZIP_STORED)


def _write(folder: Path, names: list[str], target: IO[bytes], compression: int) -> float:
    with zipfile.ZipFile(target, "w", compression, allowZip64=False) as archive:
        for name in (MANIFEST, SIGNATURE, *sorted(set(names) - {MANIFEST, SIGNATURE})):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = compression
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(info, "w") as member:
                while block := source.read(_BLOCK):
                    member.write(block)
        return max(map(_ratio, archive.infolist()))


class PackageZip:
    """A zip whose directory holds nothing but files of a version, in bounds."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members = _checked(archive.infolist())

    def signed(self) -> tuple[bytes, bytes]:
        """The manifest's bytes and their signature."""
        return self._small(MANIFEST, MAX_MANIFEST_BYTES), self._small(SIGNATURE, SIGNATURE_BYTES)

    def check_names(self, manifest: Manifest) -> None:
        """Raise `Conflict` unless the zip holds what ``manifest`` lists, of those sizes, and nothing else."""
        present = {name: info.file_size for name, info in self._members.items()}
        del present[MANIFEST], present[SIGNATURE]
        listed = {name: entry.size for name, entry in manifest.files.items()}
        for name in sorted(present.keys() ^ listed.keys()):
            raise changed(f"{name[:120]!r} is {'not in the manifest' if name in present else 'missing'}")
        for name in sorted(name for name, size in listed.items() if size != present[name]):
            raise changed(f"{name!r} has {present[name]} bytes instead of {listed[name]}")

    def extract(self, manifest: Manifest, folder: Path) -> None:
        """Write every file into ``folder``, which is empty. Raises `Conflict` for another content."""
        payload, signature = self.signed()
        (folder / MANIFEST).write_bytes(payload)
        (folder / SIGNATURE).write_bytes(signature)
        for name, entry in sorted(manifest.files.items()):
            path = folder / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._extract(name, entry, path)

    def _extract(self, name: str, entry: FileEntry, path: Path) -> None:
        digest, size = hashlib.sha256(), 0
        with self._archive.open(self._members[name]) as source, path.open("xb") as target:
            while block := source.read(_BLOCK):
                size += len(block)
                if size > entry.size:
                    break
                digest.update(block)
                target.write(block)
        if FileEntry(digest.hexdigest(), size) != entry:
            raise changed(f"{name!r} has another content")

    def _small(self, name: str, limit: int) -> bytes:
        info = self._members.get(name)
        if info is None or info.file_size > limit:
            raise not_a_package(f"It has no {name} of a sensible size")
        with self._archive.open(info) as source:
            return source.read(limit)


@contextmanager
def open_zip(path: Path) -> Iterator[PackageZip]:
    """The package at ``path``. Raises `InvalidInput` for what is none, here and while it is read."""
    try:
        _check_end(path)
        with zipfile.ZipFile(path) as archive:
            yield PackageZip(archive)
    except (
        zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, EOFError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        raise not_a_package("Its zip is damaged") from error


def _check_end(path: Path) -> None:
    """Look at the zip's end before its directory is read: zipfile reads whatever size it claims."""
    size = path.stat().st_size
    if size < _END.size:
        raise not_a_package("It is too short")
    with path.open("rb") as file:
        file.seek(size - _END.size)
        mark, disk, start, here, count, length, offset, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\5\6" or disk or start or here != count or comment:
        raise not_a_package("It is no zip, or one with something behind it")
    if offset + length != size - _END.size:
        raise not_a_package("Its zip has parts that its directory does not name")
    if count > MAX_FILES + 2 or length > MAX_DIRECTORY_BYTES:
        raise not_a_package(f"It holds more than {MAX_FILES:,} files")


def _checked(infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name, mode = info.filename, info.external_attr >> 16
        if name != info.orig_filename or not all(map(FILE_PART.fullmatch, name.split("/"))):
            raise not_a_package(f"{info.orig_filename[:120]!r} is no file of a version")
        if name in members:
            raise not_a_package(f"{name[:120]!r} is in it twice")
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise not_a_package(f"{name[:120]!r} is a link or no plain file")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise not_a_package(f"{name[:120]!r} is encrypted, or packed in a way that is not taken")
        if _ratio(info) > MAX_RATIO:
            raise not_a_package(f"{name[:120]!r} unpacks to more than {MAX_RATIO} times its size")
        members[name] = info
    for name in members:
        if name.rpartition("/")[0] in members:
            raise not_a_package(f"{name[:120]!r} lies in a file")
    if sum(info.file_size for info in infos) > MAX_BYTES:
        raise not_a_package(f"It unpacks to more than {MAX_BYTES // 2**20:,} MB")
    return members


def _ratio(info: zipfile.ZipInfo) -> float:
    return 0.0 if info.file_size <= FREE_BYTES else info.file_size / max(1, info.compress_size)


def not_a_package(cause: str) -> InvalidInput:
    return InvalidInput(
        "This is no .kepler package of a model version", cause=cause, fix="Export the version again."
    )


def changed(cause: str) -> Conflict:
    return Conflict("The package is not as it was signed", cause=cause, fix="Export the version again.")
