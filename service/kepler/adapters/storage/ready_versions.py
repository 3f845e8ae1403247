"""Registered versions as deployments read them: implements `ports.deploy.ReadyVersions`."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from kepler.adapters.storage import version_folder
from kepler.core.manifest import FileEntry
from kepler.core.names import ModelName, parse_ref
from kepler.ports.clock import Clock
from kepler.ports.deploy import ReadyVersion, ReadyVersions
from kepler.ports.models import ModelStore
from kepler.ports.security import Verifier


class VerifiedVersions:
    """Checks signature and hashes each time: what leaves the house must be what was signed."""

    def __init__(self, models: ModelStore, signer: Verifier) -> None:
        self._models = models
        self._signer = signer

    def ready(self, model: str, version: int) -> ReadyVersion:
        name = ModelName.parse(model)
        record = self._models.resolve(parse_ref(f"{name}@{version}", user="", app=""))
        folder = Path(record.folder)
        manifest = version_folder.verify_folder(folder, self._signer, record.full_name)
        files = dict(manifest.files)
        for path in (version_folder.MANIFEST, version_folder.SIGNATURE):
            content = (folder / path).read_bytes()
            files[path] = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
        return ReadyVersion(folder, manifest, files)


class RecentVersions:
    """Remembers what was verified within the last minute: a file is sent in many pieces, and its receiver checks it."""

    KEEP_S = 60.0
    MOST = 16

    def __init__(self, versions: ReadyVersions, clock: Clock) -> None:
        self._versions = versions
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[float, ReadyVersion]] = {}

    def ready(self, model: str, version: int) -> ReadyVersion:
        key, now = (model, version), self._clock.now()
        with self._lock:
            until, known = self._known.get(key, (0.0, None))
        if known is not None and now < until:
            return known
        found = self._versions.ready(model, version)
        with self._lock:
            while len(self._known) >= self.MOST:
                self._known.pop(next(iter(self._known)))
            self._known[key] = (now + self.KEEP_S, found)
        return found
