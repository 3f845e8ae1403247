"""Writes to MLflow's tables as MLflow itself writes them, each a single transaction.

MLflow's own client would take seconds to import, two hundred megabytes of the service and several
transactions for one version (`docs/decisions`). `tests/contract` reads everything written here back with
MLflow's client.
"""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from kepler.adapters.mlflow import history as past
from kepler.adapters.mlflow import tables as t
from kepler.adapters.mlflow.record import DELETED, HISTORY, JOB_ID, RECORD, mlflow_key, mlflow_tags, to_tag
from kepler.core.errors import KeplerError, Overloaded, Unavailable
from kepler.core.names import ModelName
from kepler.core.versions import VersionRecord

_RETRIES = 7  # another service may take the number between our look and our insert
_MAX_VALUE = 5_000
_LARGEST = 1.7976931348623157e308  # what MLflow stores for infinity
Row = dict[str, Any]
T = TypeVar("T")


class RegistryWriter:
    """Runs, versions, aliases and tags."""

    def __init__(self, url: str, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._engine = sa.create_engine(
            url, pool_size=2, max_overflow=8, pool_timeout=30, pool_pre_ping=not url.startswith("sqlite")
        )
        if url.startswith("sqlite"):
            event.listen(self._engine, "connect", _sqlite_writer)
            event.listen(self._engine, "begin", _sqlite_begin)
        self._checked = False
        self._checking = threading.Lock()

    def add_version(
        self,
        name: ModelName,
        job_id: str,
        created_at: float,
        source: Path,
        *,
        owner: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        metrics: Iterable[tuple[str, float]],
    ) -> tuple[int, str]:
        """Add the run of ``job_id`` and the model's next version, which stays invisible until `show`.

        Gives the version's number and the run's id.
        """
        run_id, at = uuid.uuid4().hex, _millis(created_at)
        numbers = list({row["key"]: row for row in (_number(run_id, *item, at) for item in metrics)}.values())
        run_tags = {**tags, JOB_ID: job_id, "kepler.model": str(name), "mlflow.runName": job_id}

        def add(db: sa.Connection) -> int:
            experiment = _experiment(db, name, at, self._artifacts)
            _add_run(db, run_id, experiment, job_id, owner, at, self._artifacts)
            _add_all(db, t.RUN_TAGS, run_id, run_tags)
            _add_all(db, t.PARAMS, run_id, params)
            if numbers:
                db.execute(sa.insert(t.METRICS), numbers)
                db.execute(sa.insert(t.LATEST_METRICS), numbers)
            return _next_version(db, name, job_id, run_id, owner, at, source)

        return self._write(add), run_id

    def show(self, record: VersionRecord) -> None:
        """Make the version visible."""
        shown = {**mlflow_tags(record), RECORD: to_tag(record)}

        def tag(db: sa.Connection) -> None:
            for key, value in shown.items():
                _upsert(
                    db,
                    t.VERSION_TAGS,
                    {"name": record.name.flat, "version": record.version, "key": key},
                    value,
                )

        self._write(tag)

    def set_alias(self, name: ModelName, alias: str, version: int, trail: past.History) -> None:
        """Point the alias at ``version`` and keep where it has been."""

        def point(db: sa.Connection) -> None:
            of_alias = {"workspace": t.WORKSPACE, "name": name.flat, "alias": alias}
            db.execute(sa.delete(t.ALIASES).where(*_is(t.ALIASES, of_alias)))
            db.execute(sa.insert(t.ALIASES), {**of_alias, "version": version})
            _upsert(db, t.MODEL_TAGS, {"name": name.flat, "key": HISTORY + alias}, past.to_text(trail))

        self._write(point)

    def delete_alias(self, name: ModelName, alias: str) -> None:
        self._write(lambda db: _forget_alias(db, name, alias))

    def delete(self, records: Iterable[VersionRecord], at: float) -> None:
        """Delete versions as MLflow does, with the aliases on them, and mark their runs deleted."""
        doomed, now = list(records), _millis(at)

        def remove(db: sa.Connection) -> None:
            for record in doomed:
                _delete_version(db, record, now)

        self._write(remove)

    def close(self) -> None:
        self._engine.dispose()

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run ``work`` in one transaction; again when another writer was quicker."""
        with _translated():
            with self._checking:
                if not self._checked:
                    t.check(self._engine)
                    self._checked = True
            for _ in range(_RETRIES):
                with suppress(IntegrityError), self._engine.begin() as db:
                    return work(db)
            with self._engine.begin() as db:
                return work(db)


def _experiment(db: sa.Connection, name: ModelName, at: int, artifacts: Path) -> int:
    """One experiment per model, so that MLflow's pages compare what can be compared."""
    of_name = {"workspace": t.WORKSPACE, "name": name.flat}
    found = db.execute(
        sa.select(t.EXPERIMENTS.c.experiment_id, t.EXPERIMENTS.c.lifecycle_stage).where(
            *_is(t.EXPERIMENTS, of_name)
        )
    ).first()
    if found is None:
        row = {
            **of_name,
            "artifact_location": _fit(str(artifacts), 256),
            "lifecycle_stage": "active",
            "creation_time": at,
            "last_update_time": at,
        }
        return int(
            db.execute(
                sa.insert(t.EXPERIMENTS).values(row).returning(t.EXPERIMENTS.c.experiment_id)
            ).scalar_one()
        )
    if found.lifecycle_stage != "active":  # deleted by somebody in MLflow's pages; its name stays taken
        db.execute(
            sa.update(t.EXPERIMENTS)
            .where(t.EXPERIMENTS.c.experiment_id == found.experiment_id)
            .values(lifecycle_stage="active", last_update_time=at)
        )
    return int(found.experiment_id)


def _add_run(
    db: sa.Connection, run_id: str, experiment: int, job_id: str, owner: str, at: int, artifacts: Path
) -> None:
    row = {
        "run_uuid": run_id,
        "name": job_id,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": owner,
        "status": "FINISHED",
        "start_time": at,
        "end_time": at,
        "deleted_time": None,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": _fit(str(artifacts / run_id / "artifacts"), 200),
        "experiment_id": experiment,
    }
    db.execute(sa.insert(t.RUNS), row)


def _next_version(
    db: sa.Connection, name: ModelName, job_id: str, run_id: str, owner: str, at: int, source: Path
) -> int:
    model = {"workspace": t.WORKSPACE, "name": name.flat}
    touched = db.execute(sa.update(t.MODELS).where(*_is(t.MODELS, model)).values(last_updated_time=at))
    if touched.rowcount == 0:
        db.execute(sa.insert(t.MODELS), {**model, "creation_time": at, "last_updated_time": at})
    newest = db.execute(sa.select(sa.func.max(t.VERSIONS.c.version)).where(*_is(t.VERSIONS, model))).scalar()
    version = int(newest or 0) + 1
    row = {
        **model,
        "version": version,
        "creation_time": at,
        "last_updated_time": at,
        "user_id": owner,
        "current_stage": "None",
        "source": _fit(str(source), 500),
        "storage_location": _fit(str(source), 500),
        "run_id": run_id,
        "status": "READY",
    }
    db.execute(sa.insert(t.VERSIONS), row)
    db.execute(sa.insert(t.VERSION_TAGS), {**model, "version": version, "key": JOB_ID, "value": job_id})
    return version


def _delete_version(db: sa.Connection, record: VersionRecord, now: int) -> None:
    model = {"workspace": t.WORKSPACE, "name": record.name.flat}
    one = {**model, "version": record.version}
    for alias in db.execute(sa.select(t.ALIASES.c.alias).where(*_is(t.ALIASES, one))).scalars().all():
        _forget_alias(db, record.name, alias)
    db.execute(sa.delete(t.VERSION_TAGS).where(*_is(t.VERSION_TAGS, {**one, "key": RECORD})))
    db.execute(
        sa.update(t.VERSIONS)
        .where(*_is(t.VERSIONS, one))
        .values(
            current_stage=DELETED,
            last_updated_time=now,
            description=None,
            user_id=None,
            source="REDACTED-SOURCE-PATH",
            run_id="REDACTED-RUN-ID",
            run_link="REDACTED-RUN-LINK",
            status_message=None,
        )
    )
    db.execute(sa.update(t.MODELS).where(*_is(t.MODELS, model)).values(last_updated_time=now))
    db.execute(
        sa.update(t.RUNS)
        .where(t.RUNS.c.run_uuid == record.run_id)
        .values(lifecycle_stage="deleted", deleted_time=now)
    )


def _forget_alias(db: sa.Connection, name: ModelName, alias: str) -> None:
    of_alias = {"workspace": t.WORKSPACE, "name": name.flat, "alias": alias}
    db.execute(sa.delete(t.ALIASES).where(*_is(t.ALIASES, of_alias)))
    tag = {"workspace": t.WORKSPACE, "name": name.flat, "key": HISTORY + alias}
    db.execute(sa.delete(t.MODEL_TAGS).where(*_is(t.MODEL_TAGS, tag)))


def _upsert(db: sa.Connection, table: sa.TableClause, key: Row, value: str) -> None:
    full = {"workspace": t.WORKSPACE, **key}
    db.execute(sa.delete(table).where(*_is(table, full)))
    db.execute(sa.insert(table), {**full, "value": value})


def _add_all(db: sa.Connection, table: sa.TableClause, run_id: str, entries: Mapping[str, str]) -> None:
    rows = {mlflow_key(key): value[:_MAX_VALUE] for key, value in entries.items()}
    db.execute(
        sa.insert(table), [{"run_uuid": run_id, "key": key, "value": value} for key, value in rows.items()]
    )


def _number(run_id: str, key: str, value: float, at: int) -> Row:
    is_nan = math.isnan(value)
    stored = 0.0 if is_nan else math.copysign(_LARGEST, value) if math.isinf(value) else float(value)
    return {
        "run_uuid": run_id,
        "key": mlflow_key(key),
        "value": stored,
        "timestamp": at,
        "step": 0,
        "is_nan": is_nan,
    }


def _is(table: sa.TableClause, values: Row) -> list[sa.ColumnElement[bool]]:
    return [table.c[key] == value for key, value in values.items()]


def _fit(text: str, width: int) -> str | None:
    """MLflow's own column widths; a path cut short would be another path."""
    return text if len(text) <= width else None


def _millis(seconds: float) -> int:
    return round(seconds * 1000)


def _sqlite_writer(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # `_sqlite_begin` begins
    connection.execute("PRAGMA busy_timeout = 20000")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")


def _sqlite_begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "BEGIN IMMEDIATE"
    )  # a read that turns into a write could not wait for the lock


@contextmanager
def _translated() -> Iterator[None]:
    """The database's errors as ours."""
    try:
        yield
    except KeplerError:
        raise
    except SQLAlchemyError as error:
        text = str(getattr(error, "orig", None) or error)
        if "disk is full" in text or "No space left" in text:
            raise Overloaded(
                "The model store's disk is full", fix="Free space under the service's home, then try again."
            ) from error
        raise Unavailable(
            "The model store does not take a write",
            cause=text.splitlines()[0][:300] if text else type(error).__name__,
            fix="Check the model store's database and try again.",
            retry_after_s=1.0,
        ) from error
