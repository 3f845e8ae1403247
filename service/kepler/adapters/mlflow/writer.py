"""Writes to MLflow through its own stores, imported at the first write or by `prewarm`.

Its stores, not its fluent API: they keep no global state, start no threads and call nobody.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from kepler.adapters.mlflow.record import JOB_ID, RECORD, mlflow_key, mlflow_tags, to_tag
from kepler.core.errors import InternalError, KeplerError, NotReady, Overloaded, Unavailable
from kepler.core.names import ModelName
from kepler.core.versions import VersionRecord

_BATCH = 100  # MLflow takes 100 params or tags and 1,000 metrics in one call
_MAX_VALUE = 5_000
_INIT_LOCK = 0x6B65706C6572  # PostgreSQL advisory lock, "kepler": services that start together take turns


def quiet_mlflow() -> None:
    """Before MLflow is imported: no telemetry, no handlers on our streams, no log of what we wrap anyway."""
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_CONFIGURE_LOGGING="false")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.CRITICAL)


class RegistryWriter:
    """Runs, versions, aliases and tags. Callers hold the store's lock, so one write runs at a time."""

    def __init__(self, url: str, artifacts: Path) -> None:
        self._url = url
        self._artifacts = artifacts
        self._lock = threading.Lock()
        self._stores: tuple[Any, Any] | None = None
        self._experiments: dict[str, str] = {}

    def open(self) -> tuple[Any, Any]:
        """MLflow's tracking and registry stores; the first call imports MLflow and takes seconds."""
        with self._lock:
            if self._stores is None:
                with _translated(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # those of MLflow's own imports are not our user's
                    self._stores = _open_stores(self._url, self._artifacts)
            return self._stores

    def run(
        self, name: ModelName, job_id: str, started: float, tags: Mapping[str, str], params: Mapping[str, str]
    ) -> str:
        """Create the run of ``job_id``, found again by its tag; gives its id."""
        from mlflow.entities import RunTag

        tracking, _ = self.open()
        with _translated():
            shown = {JOB_ID: job_id, "kepler.model": str(name), **_clean(tags)}
            run = tracking.create_run(
                experiment_id=self._experiment(name),
                user_id=tags.get("mlflow.user", ""),
                start_time=round(started * 1000),
                tags=[RunTag(key, value) for key, value in shown.items()],
                run_name=job_id,
            )
        self.log(run.info.run_id, started, params, ())
        return str(run.info.run_id)

    def log(
        self, run_id: str, started: float, params: Mapping[str, str], metrics: tuple[tuple[str, float], ...]
    ) -> None:
        """Log in batches. Said again after a crash it changes nothing: same values, same time."""
        from mlflow.entities import Metric, Param

        tracking, _ = self.open()
        entries = [Param(key, value) for key, value in _clean(params).items()]
        values = {mlflow_key(key): value for key, value in metrics}
        numbers = [Metric(key, value, round(started * 1000), 0) for key, value in values.items()]
        with _translated():
            for start in range(0, len(entries), _BATCH):
                tracking.log_batch(run_id, [], entries[start : start + _BATCH], [])
            for start in range(0, len(numbers), _BATCH):
                tracking.log_batch(run_id, numbers[start : start + _BATCH], [], [])

    def finish(self, run_id: str, ended: float) -> None:
        from mlflow.entities import RunStatus

        tracking, _ = self.open()
        with _translated():
            tracking.update_run_info(run_id, RunStatus.FINISHED, round(ended * 1000), None)

    def register(self, name: ModelName) -> None:
        _, registry = self.open()
        with _translated():
            registry.create_registered_model(name.flat)

    def version(self, name: ModelName, job_id: str, run_id: str, source: Path) -> int:
        """Take the next number. Found again by the tag of ``job_id``, which is written with it."""
        from mlflow.entities.model_registry import ModelVersionTag

        _, registry = self.open()
        with _translated():
            made = registry.create_model_version(
                name.flat, str(source), run_id=run_id, tags=[ModelVersionTag(JOB_ID, job_id)]
            )
        return int(made.version)

    def show(self, record: VersionRecord) -> None:
        """Make the version visible: its record goes last."""
        from mlflow.entities.model_registry import ModelVersionTag

        _, registry = self.open()
        with _translated():
            for key, value in (*mlflow_tags(record).items(), (RECORD, to_tag(record))):
                registry.set_model_version_tag(record.name.flat, record.version, ModelVersionTag(key, value))

    def tag_model(self, name: ModelName, key: str, value: str | None) -> None:
        """Set a tag of the model, or with None delete it."""
        from mlflow.entities.model_registry import RegisteredModelTag

        _, registry = self.open()
        with _translated():
            if value is None:
                registry.delete_registered_model_tag(name.flat, key)
            else:
                registry.set_registered_model_tag(name.flat, RegisteredModelTag(key, value))

    def alias(self, name: ModelName, alias: str, version: int | None) -> None:
        """Point the alias at ``version``, or with None delete it."""
        _, registry = self.open()
        with _translated():
            if version is None:
                registry.delete_registered_model_alias(name.flat, alias)
            else:
                registry.set_registered_model_alias(name.flat, alias, version)

    def delete(self, record: VersionRecord) -> None:
        """Delete the version with the aliases on it, and mark its run deleted."""
        tracking, registry = self.open()
        with _translated():
            registry.delete_model_version(record.name.flat, str(record.version))
            if record.run_id:
                tracking.delete_run(record.run_id)

    def close(self) -> None:
        with self._lock:
            for store in self._stores or ():
                type(store)._engine_map.pop(self._url, None)
                store._dispose_engine()
            self._stores = None

    def _experiment(self, name: ModelName) -> str:
        if name.flat not in self._experiments:
            tracking, _ = self.open()
            found = tracking.get_experiment_by_name(name.flat)
            if found is None:
                made = tracking.create_experiment(name.flat, artifact_location=str(self._artifacts))
            elif found.lifecycle_stage == "deleted":  # by somebody in MLflow's pages; its name stays taken
                tracking.restore_experiment(found.experiment_id)
                made = found.experiment_id
            else:
                made = found.experiment_id
            self._experiments[name.flat] = str(made)
        return self._experiments[name.flat]


def _open_stores(url: str, artifacts: Path) -> tuple[Any, Any]:
    quiet_mlflow()
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _INIT_LOCK})
            _prepare(engine, url)
            return TrackingStore(url, str(artifacts)), RegistryStore(url)
    finally:
        engine.dispose()  # ends the session, and with it the advisory lock


def _prepare(engine: sa.Engine, url: str) -> None:
    """Bring the tables to the installed MLflow's revision, or say who must."""
    from mlflow.store.db import utils

    if utils._is_empty_database(engine):
        utils._initialize_tables(engine)
        return
    present, wanted = utils._get_schema_version(engine), utils._get_latest_schema_revision()
    if present is None or present == wanted:
        return
    if engine.dialect.name != "sqlite":
        raise NotReady(
            "The model store's database is of another MLflow version",
            cause=f"It is at revision {present}, the installed MLflow needs {wanted}",
            fix="Back it up, then run `mlflow db upgrade` with its URL once.",
        )
    path = Path(str(sa.make_url(url).database))
    with engine.connect() as connection:  # a copy first: migrations are not promised to be atomic
        connection.execute(
            sa.text("VACUUM INTO :copy"), {"copy": _free(path.with_name(f"{path.name}.{present}"))}
        )
    utils._upgrade_db(engine)


def _free(path: Path) -> str:
    path.unlink(missing_ok=True)
    return str(path)


def _clean(entries: Mapping[str, str]) -> dict[str, str]:
    return {mlflow_key(key): value[:_MAX_VALUE] for key, value in entries.items()}


@contextmanager
def _translated() -> Iterator[None]:
    """MLflow's and the database's errors as ours."""
    try:
        yield
    except KeplerError:
        raise
    except Exception as error:
        text = str(error)
        code = getattr(error, "error_code", "")
        if "disk is full" in text or "No space left" in text:
            raise Overloaded(
                "The model store's disk is full", fix="Free space under the service's home, then try again."
            ) from error
        if code == "TEMPORARILY_UNAVAILABLE" or isinstance(error, sa.exc.SQLAlchemyError):
            raise Unavailable(
                "The model store does not answer",
                cause=text.splitlines()[0][:300] if text else type(error).__name__,
                fix="Check the model store's database and try again.",
                retry_after_s=1.0,
            ) from error
        raise InternalError(
            "The model store refused a write",
            cause=f"{type(error).__name__}: {text.splitlines()[0][:300] if text else ''}",
        ) from error
