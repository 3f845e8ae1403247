"""Carry versions from one home to another as signed packages.

A package is taken only when a trusted key signed it, every byte is as it was signed, and the model gives the
answers it gave when it was made, in the loader that will serve it. What passes becomes the next version of a
model here, signed by this home; its manifest says where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kepler.core.errors import KeplerError
from kepler.core.manifest import Manifest, Origin
from kepler.core.names import ModelName, parse_new
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.core.versions import VersionRecord
from kepler.ports.models import ModelStore
from kepler.ports.packages import Incoming, Outgoing, Packages, Unpacked
from kepler.ports.security import AuditLog
from kepler.ports.serving import ModelLoader
from kepler.usecases.auditing import audited
from kepler.usecases.identity import Caller
from kepler.usecases.manage import ManageModels


@dataclass(frozen=True, slots=True)
class Imported:
    """A version that came in: as it is here, and as it was where it was made."""

    version: VersionRecord
    origin: Origin


class Export:
    """One package on its way out. `close` ends it."""

    def __init__(self, version: VersionRecord, outgoing: Outgoing) -> None:
        self.version = version
        self.size, self.sha256, self.key_id = outgoing.size, outgoing.sha256, outgoing.key_id
        self._outgoing = outgoing

    def chunks(self) -> Iterator[bytes]:
        return self._outgoing.chunks()

    def close(self) -> None:
        self._outgoing.close()


class Import:
    """One package on its way in. `finish` makes the version; `close` drops what did not become one."""

    def __init__(self, moves: MovePackages, caller: Caller, into: str, incoming: Incoming) -> None:
        self._moves = moves
        self._caller = caller
        self._into = into
        self._incoming = incoming

    def write(self, chunk: bytes) -> None:
        """Append bytes of the package. Raises `Overloaded` past the bound of a package or of the disk."""
        self._incoming.write(chunk)

    def finish(self, size: int, sha256: str) -> Imported:
        """Check everything and register the version. Raises when anything does not hold; nothing is kept then."""
        return self._moves.take(self._caller, self._into, self._incoming, size, sha256)

    def close(self) -> None:
        self._incoming.close()


class MovePackages:
    """Exports (capability: predict, as it shows nothing that `GetModel` hides) and imports (capability: train).

    Parameters
    ----------
    loader
        Loads the version in a folder by full name as it will be served, with the signatures that are trusted.
    """

    def __init__(
        self,
        manage: ManageModels,
        models: ModelStore,
        packages: Packages,
        loader: ModelLoader,
        audit: AuditLog,
    ) -> None:
        self._manage = manage
        self._models = models
        self._packages = packages
        self._loader = loader
        self._audit = audit

    def export(self, caller: Caller, text: str) -> Export:
        """The version ``text`` means, as a package. Raises `NotFound`, and `Conflict` when it was changed."""
        version = self._manage.resolve(caller, text)
        outgoing = self._packages.pack(Path(version.folder), version.full_name)
        try:
            self._audit.append(
                who=caller.user,
                action="version.export",
                what=version.full_name,
                outcome="sent",
                detail={"sha256": outgoing.sha256},
            )
        except BaseException:
            outgoing.close()
            raise
        return Export(version, outgoing)

    def open(self, caller: Caller, into: str) -> Import:
        """Begin to take a package. Raises `InvalidInput` for a name that cannot get a version."""
        if into:
            caller.check_sees(parse_new(into, user=caller.user, app=caller.app))
        return Import(self, caller, into, self._packages.receive())

    def take(self, caller: Caller, into: str, incoming: Incoming, size: int, sha256: str) -> Imported:
        """See `Import.finish`."""
        try:
            unpacked = incoming.unpack(size, sha256)
            self._loader.load(unpacked.folder, _full_name(unpacked.manifest))
        except KeplerError as error:
            self._audit.append(
                who=caller.user,
                action="version.import",
                what=f"sha256:{sha256[:64]}",
                outcome="refused",
                detail={"error": error.code},
            )
            raise
        manifest = unpacked.manifest
        name = _target(caller, into, ModelName.parse(manifest.name))
        origin = Origin(manifest.name, manifest.version, manifest.digest, unpacked.key_id)
        what = f"{name} from {origin.full_name} signed by {origin.key_id}"
        with audited(self._audit, caller.user, "version.import", what) as detail:
            record = self._register(caller, name, origin, incoming, unpacked)
            detail["version"] = str(record.version)
        return Imported(record, origin)

    def _register(
        self, caller: Caller, name: ModelName, origin: Origin, incoming: Incoming, unpacked: Unpacked
    ) -> VersionRecord:
        manifest = unpacked.manifest
        draft = replace(manifest, name="", version=0, run_id="", files={}, owner=caller.user, origin=origin)
        spec = TrainSpec(
            job_id=incoming.id,
            algorithm=manifest.algorithm,
            features=manifest.required_fields,
            columns=manifest.required_fields,
            target=manifest.target,
            by=manifest.groups.fields if manifest.groups else (),
            model=str(name),
            params=dict(manifest.params),
            nulls=manifest.preparation.nulls,
            tags=manifest.tags,
            owner=caller.user,
            search=manifest.search,
            rows=manifest.rows,
            data_sha256=manifest.data_sha256,
        )
        outcome = TrainOutcome(rows_used=manifest.rows, metrics=manifest.metrics)
        return self._models.register(spec, outcome, incoming.draft(draft, name))


def _full_name(manifest: Manifest) -> str:
    return f"{manifest.name}@{manifest.version}"


def _target(caller: Caller, into: str, origin: ModelName) -> ModelName:
    """Where the version goes. A private model stays private, but to whoever imports it."""
    if into:
        return parse_new(into, user=caller.user, app=caller.app)
    return ModelName("user", caller.user, origin.model_id) if origin.private else origin
