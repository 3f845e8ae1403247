"""Model versions as single files (``.kepler``) that travel between homes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kepler.core.manifest import Manifest
from kepler.core.names import ModelName


class Trust(Protocol):
    """Whose packages are taken."""

    def signer_of(self, payload: bytes, signature: bytes) -> str:
        """Id of the trusted key that signed ``payload``; empty when none did."""
        ...


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A package's content in a folder of its own, its signature and hashes checked."""

    folder: Path
    manifest: Manifest
    key_id: str


class Outgoing(Protocol):
    """A package that is ready to be sent."""

    size: int
    sha256: str
    key_id: str

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, in chunks of at most 1 MiB."""
        ...

    def close(self) -> None:
        """Let go of the file; can be repeated."""
        ...


class Incoming(Protocol):
    """A package on its way in. What it wrote is gone after `close`, unless the model store took it over."""

    id: str

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises `Overloaded` past the bound of a package or of the disk."""
        ...

    def unpack(self, size: int, sha256: str) -> Unpacked:
        """Check and unpack what came, which must have ``size`` bytes and this digest.

        Raises `InvalidInput` for what is no package, `Denied` for a key that is not trusted, `Conflict` for
        content that is not as it was signed.
        """
        ...

    def place(self, files: Mapping[str, bytes]) -> None:
        """Take ``files``, by name, that were made here; nothing is unpacked then."""
        ...

    def draft(self, manifest: Manifest, into: ModelName) -> Path:
        """The unpacked or placed files as a draft with ``manifest``, for `ModelStore.register` as a version of ``into``."""
        ...

    def close(self) -> None:
        """Drop everything that is left; can be repeated."""
        ...


class Packages(Protocol):
    """Makes and takes packages."""

    def pack(self, folder: Path, full_name: str) -> Outgoing:
        """A package of the registered version in ``folder``, once it is as it was signed."""
        ...

    def receive(self, kind: str = "import") -> Incoming:
        """Begin something whose id starts with ``kind``. Raises `Overloaded` when too many packages come in at once."""
        ...
