"""Packages to import: the released one in tests/data, and any like it that a test makes."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from fakes.secret_store import InMemorySecretStore
from kepler.adapters.secrets.signer import Ed25519Signer
from kepler.adapters.secrets.trusted_keys import TrustedKeys
from kepler.adapters.storage import version_folder
from kepler.core.manifest import Manifest

RELEASED = Path(__file__).resolve().parents[1] / "data" / "packages"
LINE = RELEASED / "linear_v1.kepler"


class Maker:
    """Another home that makes packages: its key, and versions like the released one under any name."""

    def __init__(self) -> None:
        self.signer = Ed25519Signer(InMemorySecretStore())

    @property
    def pem(self) -> bytes:
        return self.signer.public_pem().encode()

    def version(self, folder: Path, files: dict[str, bytes] | None = None, **changes: Any) -> Manifest:
        """A sealed version folder; ``files`` are added, ``changes`` are to its manifest."""
        with zipfile.ZipFile(LINE) as archive:
            archive.extractall(folder)
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        manifest = Manifest.from_json((folder / version_folder.MANIFEST).read_bytes())
        manifest = replace(manifest, files=version_folder.measure(folder), **changes)
        version_folder.seal(folder, manifest, self.signer)
        return manifest

    def members(self, folder: Path, **changes: Any) -> dict[str, bytes]:
        """The files of such a version by name, as a package holds them."""
        self.version(folder, **changes)
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }


def trusting(*makers: Maker) -> TrustedKeys:
    """A home's keys that trust those of ``makers``."""
    secrets = InMemorySecretStore()
    keys = TrustedKeys(secrets, Ed25519Signer(secrets))
    for maker in makers:
        keys.add(maker.pem, "plant")
    return keys


def zipped(members: dict[str, bytes] | list[tuple[zipfile.ZipInfo | str, bytes]]) -> bytes:
    """A zip of ``members`` as they are, whatever they are."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return target.getvalue()
