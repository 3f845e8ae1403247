"""Packages on their way out and in. Implements `ports.packages.Packages`.

What comes in lies under ``<home>/imports/<id>/`` until the model store has taken it over. A crash leaves such
a folder behind, and `PackageFiles.sweep` removes it with whatever of it the store already had.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from kepler.adapters.security.private_files import disk_error
from kepler.adapters.storage import version_folder
from kepler.adapters.storage.package_zip import not_a_package, open_zip, write_zip
from kepler.core.errors import Denied, InvalidInput, NotFound, Overloaded
from kepler.core.manifest import Manifest
from kepler.core.names import ModelName
from kepler.core.packages import CHUNK_BYTES, MAX_BYTES
from kepler.core.versions import VersionRecord
from kepler.ports.packages import Trust, Unpacked
from kepler.ports.security import Signer

MAX_MOVING = 4  # packages in or out at once; each may take twice its size of the disk
_PACKAGE = "package.kepler"
_VERSION = "version"
_TARGET = "into"


class PackageFiles:
    """Packages as files under the home.

    Parameters
    ----------
    root
        Folder of this alone, ``<home>/imports``.
    signer
        Verifies what is exported: versions of this home.
    trust
        Whose packages are taken.
    min_free_bytes
        What must stay free on the disk.
    """

    def __init__(self, root: Path, signer: Signer, trust: Trust, *, min_free_bytes: int = 0) -> None:
        self.root = root
        self.trust = trust
        self._signer = signer
        self._min_free_bytes = min_free_bytes
        self._lock = threading.Lock()
        self._moving = 0
        self._leftovers = sorted(root.glob("*-*")) if root.is_dir() else []

    def pack(self, folder: Path, full_name: str) -> OutgoingFile:
        with _disk(self.root):
            return self._pack(folder, full_name)

    def _pack(self, folder: Path, full_name: str) -> OutgoingFile:
        self._begin()
        try:
            manifest = version_folder.verify_folder(folder, self._signer, full_name)
            total = sum(entry.size for entry in manifest.files.values())
            if total + version_folder.MAX_MANIFEST_BYTES > MAX_BYTES:
                raise InvalidInput(
                    f"{full_name} has {total // 2**20:,} MB, too much for a package",
                    cause=f"A package holds at most {MAX_BYTES // 2**20:,} MB",
                )
            self.check_room(total)
            file = tempfile.TemporaryFile(dir=self.root)  # noqa: SIM115 - `OutgoingFile` closes it
            try:
                write_zip(folder, list(manifest.files), file)
            except BaseException:
                file.close()
                raise
        except BaseException:
            self._end()
            raise
        return OutgoingFile(file, self._signer.key_id, self._end)

    def receive(self, kind: str = "import") -> IncomingFile:
        self._begin()
        try:
            name = f"{kind}-{uuid.uuid4()}"
            (self.root / name).mkdir(mode=0o700)
        except BaseException:
            self._end()
            raise
        return IncomingFile(self, self.root / name, self._end)

    def sweep(self, versions: Callable[[ModelName], list[VersionRecord]], place: Callable[..., Path]) -> None:
        """Remove what an earlier process left unfinished.

        ``versions`` gives a model's versions, ``place`` where the store keeps the files of one by name and id.
        """
        for folder in self._leftovers:
            target = folder / _TARGET
            if target.is_file():
                name = ModelName.parse(target.read_text())
                try:
                    whole = any(version.job_id == folder.name for version in versions(name))
                except NotFound:
                    whole = False
                if not whole:
                    version_folder.remove(place(name, folder.name))
            shutil.rmtree(folder, ignore_errors=True)
        self._leftovers = []

    def check_room(self, size: int) -> None:
        """Raise `Overloaded` when ``size`` more bytes would fill the disk."""
        if shutil.disk_usage(self.root).free - size < self._min_free_bytes:
            raise Overloaded(
                "The service's disk has no room for the package",
                fix="Free space under the service's home, then try again.",
            )

    def _begin(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock:
            if self._moving >= MAX_MOVING:
                raise Overloaded(
                    f"{MAX_MOVING} packages are on their way already",
                    fix="Try again in a moment.",
                    retry_after_s=5.0,
                )
            self._moving += 1

    def _end(self) -> None:
        with self._lock:
            self._moving -= 1


class OutgoingFile:
    """Implements `ports.packages.Outgoing`; the file has no name, so a crash leaves nothing."""

    def __init__(self, file: IO[bytes], key_id: str, ended: Callable[[], None]) -> None:
        self._file = file
        self._ended = ended
        self.key_id = key_id
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        self.size = file.tell()
        self.sha256 = digest.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        self._file.seek(0)
        while chunk := self._file.read(CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._ended()


class IncomingFile:
    """Implements `ports.packages.Incoming`."""

    def __init__(self, files: PackageFiles, folder: Path, ended: Callable[[], None]) -> None:
        self.id = folder.name
        self._files = files
        self._folder = folder
        self._ended: Callable[[], None] | None = ended
        self._file = (folder / _PACKAGE).open("wb")
        self._digest, self._size = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        if len(chunk) > CHUNK_BYTES:
            raise InvalidInput(f"A chunk has more than {CHUNK_BYTES:,} bytes", fix="Send smaller ones.")
        if self._size + len(chunk) > MAX_BYTES:
            raise Overloaded(f"The package is larger than {MAX_BYTES // 2**20:,} MB, the most that is taken")
        with _disk(self._folder):
            self._files.check_room(len(chunk))
            self._file.write(chunk)
        self._digest.update(chunk)
        self._size += len(chunk)

    def unpack(self, size: int, sha256: str) -> Unpacked:
        with _disk(self._folder):
            self._file.close()
            return self._unpack(size, sha256)

    def _unpack(self, size: int, sha256: str) -> Unpacked:
        if (self._size, self._digest.hexdigest()) != (size, sha256):
            raise InvalidInput("The package did not come as it was sent", fix="Send it again.")
        folder = self._folder / _VERSION
        folder.mkdir(mode=0o700)
        with open_zip(self._folder / _PACKAGE) as package:
            payload, signature = package.signed()
            key_id = self._files.trust.signer_of(payload, signature)
            if not key_id:
                raise Denied(
                    "No key that is trusted here has signed the package as it is",
                    cause="Its maker's key was never added, or it was changed since",
                    fix="Get the maker's public key (`kepler version key` there) by a way you trust and add it "
                    "with `kepler version trust FILE`.",
                )
            manifest = Manifest.from_json(payload)
            if not manifest.name or not manifest.version:
                raise not_a_package("Its manifest is a draft")
            package.check_names(manifest)
            self._files.check_room(sum(entry.size for entry in manifest.files.values()))
            package.extract(manifest, folder)
        return Unpacked(folder, manifest, key_id)

    def place(self, files: Mapping[str, bytes]) -> None:
        with _disk(self._folder):
            self._file.close()
            self._files.check_room(sum(map(len, files.values())))
            folder = self._folder / _VERSION
            folder.mkdir(mode=0o700)
            for name, content in files.items():
                (folder / name).write_bytes(content)

    def draft(self, manifest: Manifest, into: ModelName) -> Path:
        with _disk(self._folder):
            return self._draft(manifest, into)

    def _draft(self, manifest: Manifest, into: ModelName) -> Path:
        folder = self._folder / _VERSION
        (self._folder / _TARGET).write_text(str(into))
        version_folder.sync(self._folder / _TARGET)
        version_folder.sync(self._folder)
        (folder / version_folder.SIGNATURE).unlink(missing_ok=True)
        (folder / version_folder.MANIFEST).write_bytes(manifest.to_bytes())
        return folder

    def close(self) -> None:
        if self._ended is not None:
            with contextlib.suppress(OSError):  # on a full disk what is buffered goes nowhere
                self._file.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._ended()
            self._ended = None


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """The file system's errors as ours."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error
