"""The model store on MLflow's registry and folders under the home."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kepler.adapters.mlflow import history as past
from kepler.adapters.mlflow import messages, schema
from kepler.adapters.mlflow.drafts import complete, run_params, run_tags
from kepler.adapters.mlflow.lock import FileLock
from kepler.adapters.mlflow.reader import RegistryReader, visible_to
from kepler.adapters.mlflow.record import version_path
from kepler.adapters.mlflow.resolutions import Resolutions
from kepler.adapters.mlflow.writer import RegistryWriter
from kepler.adapters.storage import version_folder
from kepler.core.errors import Conflict, InvalidInput, NotReady, Overloaded, Unavailable
from kepler.core.names import LATEST, PART, ModelName, ModelRef, check_alias
from kepler.core.patterns import matches
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.core.versions import VersionRecord
from kepler.ports.clock import Clock
from kepler.ports.security import Signer

_ALIAS = re.compile(r"(?!v\d+$)[\w-]{1,100}", re.ASCII | re.IGNORECASE)  # what MLflow takes, too

_STOP_S = 120.0  # how long a stop waits for a migration; its process then ends by itself


class MlflowModelStore:
    """`ModelStore` whose one truth is MLflow's registry.

    Parameters
    ----------
    home
        The service's home: ``mlflow.sqlite``, ``models/<flat name>/<job id>/`` and ``mlflow/`` lie in it.
    signer
        Signs manifests.
    clock
        Gives the versions' times.
    url
        SQLAlchemy URL of a PostgreSQL database; empty for SQLite under the home.
    before
        Called with the name of each durable step before it is taken; tests stop a registration there.
    """

    def __init__(
        self,
        home: Path,
        signer: Signer,
        clock: Clock,
        *,
        url: str = "",
        before: Callable[[str], None] | None = None,
    ) -> None:
        self._root = home / "models"
        self._database = home / "mlflow.sqlite"
        self._signer = signer
        self._clock = clock
        self._local = not url
        self._url = database_url(url) if url else f"sqlite:///{self._database}"
        self._before = before or _nothing
        self._lock = FileLock(home / "models" / ".lock")
        self._reader = RegistryReader(self._url, self._root)
        self._writer = RegistryWriter(self._url, home / "mlflow")
        self._resolutions = Resolutions(self._database if self._local else None)
        self._migration: threading.Thread | None = None
        self.failure = ""  # why the store did not become ready, for health checks

    def start(self) -> None:
        """Make the store usable: at once where nothing must be migrated, else in the background."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._local:
            with self._lock:
                schema.create_sqlite(self._database)
        if schema.revision(self._url) == schema.template_revision():
            self._sweep()
        else:
            self._migration = threading.Thread(
                target=self._migrate, name="kepler-mlflow-migration", daemon=True
            )
            self._migration.start()

    @property
    def ready(self) -> bool:
        """Whether models can be read and written."""
        return (self._migration is None or not self._migration.is_alive()) and self._reader.ready()

    def recall(self, ref: ModelRef) -> VersionRecord | None:
        return self._resolutions.get(ref)[0]

    def resolve(self, ref: ModelRef) -> VersionRecord:
        record, stamp = self._resolutions.get(ref)
        if record is None:
            record = self._resolve(ref)
            self._resolutions.keep(ref, record, stamp)
        return record

    def _resolve(self, ref: ModelRef) -> VersionRecord:
        for name in ref.candidates:
            record = self._select(name, ref)
            if record is not None:
                return record
            newest = self._reader.latest(name)
            if newest is None:
                continue
            # The first model that exists is the one meant: a private model hides the app's of the same name.
            if ref.version is not None:
                raise messages.no_version(_plain(ref), ref.version, newest.version)
            raise messages.no_alias(_plain(ref), ref.selector, self._reader.aliases(name))
        raise messages.no_model(_plain(ref), self._near(ref))

    def _get(self, name: ModelName, version: int) -> VersionRecord:
        """One version by its number. Raises `NotFound` naming the newest."""
        record = self._reader.version(name, version)
        if record is None:
            newest = self._reader.latest(name)
            raise (
                messages.no_version(str(name), version, newest.version)
                if newest
                else messages.no_model(str(name))
            )
        return record

    def register(self, spec: TrainSpec, outcome: TrainOutcome, draft: Path) -> VersionRecord:
        name = ModelName.parse(spec.model)
        if not PART.fullmatch(spec.job_id) or spec.job_id.startswith("."):
            raise InvalidInput(f"{spec.job_id[:120]!r} is not a legal job id")
        folder = version_path(self._root, name, spec.job_id)
        with self._writing(), _files_translated():
            known = self._reader.by_job(name, spec.job_id)
            if known and known.deleted:
                raise Conflict(
                    f"Job {spec.job_id} made version {known.version} of {name}, which was deleted since",
                    fix="Train it again.",
                )
            if known and known.record:
                return known.record
            self._before("folder")
            version_folder.adopt(draft, folder)
            self._before("rows")
            if known is None:
                created_at = round(self._clock.now(), 3)  # MLflow keeps milliseconds, and a retry reads them
                version, run_id = self._writer.add_version(
                    name,
                    spec.job_id,
                    created_at,
                    folder,
                    owner=spec.owner,
                    params=run_params(spec),
                    tags=run_tags(spec),
                    metrics=outcome.metrics,
                )
            else:
                version, run_id, created_at = known.version, known.run_id, known.created_at
            self._before("seal")
            record = complete(folder, name, version, spec, outcome, run_id, created_at, self._signer)
            self._before("show")
            self._writer.show(record)
            self._before("answer")
            return record

    def list_models(
        self, pattern: str = "*", *, user: str = "", everything: bool = False
    ) -> list[VersionRecord]:
        wanted = pattern or "*"
        return [
            record
            for record in self._reader.newest()
            if visible_to(record.name, user, everything) and matches(wanted, str(record.name))
        ]

    def list_versions(self, name: ModelName) -> list[VersionRecord]:
        versions = self._reader.versions(name)
        if not versions:
            raise messages.no_model(str(name))
        return versions

    def set_alias(self, name: ModelName, alias: str, version: int) -> VersionRecord:
        check_mlflow_alias(alias)
        with self._writing():
            self._get(name, version)
            present = self._reader.aliases(name).get(alias)
            trail = self._reader.history(name, alias) if present is not None else ()
            trail = past.push(past.settle(trail, present) if present is not None else (), version)
            self._writer.set_alias(name, alias, version, trail)
        return self._get(name, version)

    def delete_alias(self, name: ModelName, alias: str) -> VersionRecord:
        with self._writing():
            version = self._target(name, alias)
            self._writer.delete_alias(name, alias)
        return self._get(name, version)

    def rollback(self, name: ModelName, alias: str) -> VersionRecord:
        with self._writing():
            present = self._target(name, alias)
            alive = {record.version for record in self._reader.versions(name)}
            trail = past.pop(past.settle(self._reader.history(name, alias), present), alive)
            if trail is None:
                raise messages.nothing_before(str(name), alias, present)
            self._writer.set_alias(name, alias, trail[-1], trail)
        return self._get(name, trail[-1])

    def delete(self, name: ModelName, version: int | None) -> list[int]:
        with self._writing():
            if version is None:
                doomed = self.list_versions(name)
            else:
                doomed = [self._get(name, version)]
                if doomed[0].aliases:
                    raise messages.still_aliased(str(name), version, doomed[0].aliases)
            for record in doomed:
                self._note(record).touch()
            self._before("delete")
            self._writer.delete(doomed, self._clock.now())
            for record in doomed:
                self._before("files")
                self._drop(record.name, record.job_id)
        return [record.version for record in doomed]

    def close(self) -> None:
        if self._migration is not None:
            self._migration.join(_STOP_S)
        self._resolutions.close()
        self._writer.close()
        self._reader.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time, and none while a migration runs: a job that ends meanwhile waits for it."""
        if self._migration is not None:
            self._migration.join()
        with self._lock:
            yield

    def _select(self, name: ModelName, ref: ModelRef) -> VersionRecord | None:
        if ref.version is not None:
            return self._reader.version(name, ref.version)
        if ref.alias is None:
            return self._reader.latest(name)
        version = self._reader.aliases(name).get(ref.alias)
        return None if version is None else self._reader.version(name, version)

    def _near(self, ref: ModelRef) -> list[str]:
        """Names the caller may be told: the apps', and those of the owner the reference itself names."""
        owners = {name.holder for name in ref.candidates if name.private}
        return [str(name) for name in self._reader.names() if not name.private or name.holder in owners]

    def _target(self, name: ModelName, alias: str) -> int:
        self.list_versions(name)
        aliases = self._reader.aliases(name)
        if alias not in aliases:
            raise messages.no_alias(str(name), alias, aliases)
        return aliases[alias]

    def _note(self, record: VersionRecord) -> Path:
        """A file that says: the files of this version go as soon as its row is gone."""
        folder = self._root / ".deleting"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / f"{record.name.flat}~{record.job_id}"

    def _drop(self, name: ModelName, job_id: str) -> None:
        version_folder.remove(version_path(self._root, name, job_id))
        (self._root / ".deleting" / f"{name.flat}~{job_id}").unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Finish deletions that a crash cut short."""
        with self._lock:
            for note in (self._root / ".deleting").glob("*~*~*"):
                flat, _, job_id = note.name.rpartition("~")
                name = ModelName.parse(flat)
                known = self._reader.by_job(name, job_id)
                if known is None or known.deleted:
                    self._drop(name, job_id)
                else:  # the crash came before the row went: the version stays
                    note.unlink(missing_ok=True)

    def _migrate(self) -> None:
        try:
            schema.migrate(self._url)
        except NotReady as error:
            self.failure = error.sentence
            return
        self._sweep()


@contextmanager
def _files_translated() -> Iterator[None]:
    """The file system's errors as ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Overloaded(
                "The model store's disk is full", fix="Free space under the service's home, then try again."
            ) from error
        raise Unavailable(
            "The model's files could not be written",
            cause=f"{error.strerror or type(error).__name__}",
            fix="Check the file system under the service's home, then try again.",
            retry_after_s=1.0,
        ) from error


def check_mlflow_alias(alias: str) -> None:
    """Raise `InvalidInput` for an alias that Kepler or MLflow refuses."""
    check_alias(alias)
    if not _ALIAS.fullmatch(alias) or alias.lower() == LATEST:
        raise InvalidInput(
            f"{alias!r} cannot be an alias",
            cause="MLflow takes letters, digits, '_' and '-', and keeps latest, v1, v2, ... for itself",
            fix="Choose a word such as prod.",
        )


def database_url(url: str) -> str:
    """A PostgreSQL URL as SQLAlchemy wants it, with the driver we ship."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def _plain(ref: ModelRef) -> str:
    return ref.text.partition("@")[0]


def _nothing(_step: str) -> None:
    return None
