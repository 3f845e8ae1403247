"""Reads straight from MLflow's tables, because MLflow itself takes seconds to import.

Only columns that MLflow's public entities show are used. `tests/contract` compares each answer with MLflow's
own client on the installed version.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from kepler.adapters.mlflow import history as past
from kepler.adapters.mlflow.record import DELETED, HISTORY, JOB_ID, RECORD, from_tag
from kepler.core.errors import InvalidInput, NotReady, Unavailable
from kepler.core.names import ModelName
from kepler.core.versions import VersionRecord

# MLflow marks a deleted version and keeps its number taken; the workspace is its single-tenant default.
_VISIBLE = f"""
FROM model_version_tags t JOIN model_versions v
  ON v.workspace = t.workspace AND v.name = t.name AND v.version = t.version
WHERE t.workspace = 'default' AND t.key = '{RECORD}' AND v.current_stage <> '{DELETED}'"""
_LATEST = sa.text(f"SELECT t.version, t.value {_VISIBLE} AND t.name = :name ORDER BY t.version DESC LIMIT 1")
_ONE = sa.text(f"SELECT t.version, t.value {_VISIBLE} AND t.name = :name AND t.version = :version")
_ALL = sa.text(f"SELECT t.version, t.value {_VISIBLE} AND t.name = :name ORDER BY t.version DESC")
_ALIASES = sa.text(
    "SELECT alias, version FROM registered_model_aliases "
    "WHERE workspace = 'default' AND name = :name ORDER BY alias"
)
_EVERY_ALIAS = sa.text(
    "SELECT name, alias, version FROM registered_model_aliases "
    "WHERE workspace = 'default' ORDER BY name, alias"
)
_NAMES = sa.text(f"SELECT DISTINCT t.name {_VISIBLE}")
_NEWEST = sa.text(
    f"""SELECT t.name, t.version, t.value FROM model_version_tags t JOIN
    (SELECT t.name AS name, MAX(t.version) AS version {_VISIBLE} GROUP BY t.name) newest
    ON newest.name = t.name AND newest.version = t.version
    WHERE t.workspace = 'default' AND t.key = '{RECORD}'"""  # noqa: S608 (our own constants)
)
_BY_JOB = sa.text(
    f"""SELECT v.version, v.current_stage, v.creation_time, v.run_id, r.value
    FROM model_version_tags t JOIN model_versions v
    ON v.workspace = t.workspace AND v.name = t.name AND v.version = t.version
    LEFT JOIN model_version_tags r
    ON r.workspace = t.workspace AND r.key = '{RECORD}' AND r.name = t.name AND r.version = t.version
    WHERE t.workspace = 'default' AND t.key = '{JOB_ID}' AND t.name = :name AND t.value = :job
    ORDER BY v.version"""  # noqa: S608 (our own constants)
)
_MODEL_TAG = sa.text(
    "SELECT value FROM registered_model_tags WHERE workspace = 'default' AND name = :name AND key = :key"
)
_PROBE = sa.text("SELECT workspace FROM registered_model_aliases LIMIT 1")


@dataclass(frozen=True, slots=True)
class JobVersion:
    """The version row made for a job; ``record`` is None until it is whole."""

    version: int
    deleted: bool
    created_at: float
    run_id: str
    record: VersionRecord | None


class RegistryReader:
    """Versions, aliases and names, each in one or two indexed queries. Safe from several threads."""

    def __init__(self, url: str, root: Path) -> None:
        self._root = root
        self._engine = sa.create_engine(
            url, pool_size=8, max_overflow=24, pool_timeout=10, pool_pre_ping=not url.startswith("sqlite")
        )
        if url.startswith("sqlite"):
            event.listen(self._engine, "connect", _sqlite_reader)

    def ready(self) -> bool:
        """Whether MLflow's tables are there."""
        try:
            with self._engine.connect() as connection:
                connection.execute(_PROBE)
        except SQLAlchemyError:
            return False
        return True

    def latest(self, name: ModelName) -> VersionRecord | None:
        with self._connect() as db:
            rows = db.execute(_LATEST, {"name": name.flat}).all()
            return self._records(db, name, rows)[0] if rows else None

    def version(self, name: ModelName, version: int) -> VersionRecord | None:
        if version > 2**31 - 1:  # PostgreSQL's column is 32 bits wide and refuses to compare
            return None
        with self._connect() as db:
            rows = db.execute(_ONE, {"name": name.flat, "version": version}).all()
            return self._records(db, name, rows)[0] if rows else None

    def versions(self, name: ModelName) -> list[VersionRecord]:
        with self._connect() as db:
            return self._records(db, name, db.execute(_ALL, {"name": name.flat}).all())

    def aliases(self, name: ModelName) -> dict[str, int]:
        with self._connect() as db:
            return {alias: int(version) for alias, version in db.execute(_ALIASES, {"name": name.flat})}

    def names(self) -> list[ModelName]:
        with self._connect() as db:
            return sorted(name for (flat,) in db.execute(_NAMES) if (name := _parse(flat)) is not None)

    def newest(self) -> list[VersionRecord]:
        """The newest version of every model, by name."""
        with self._connect() as db:
            aliases: dict[tuple[str, int], list[str]] = {}
            for flat, alias, version in db.execute(_EVERY_ALIAS):
                aliases.setdefault((flat, int(version)), []).append(alias)
            found = [
                replace(
                    from_tag(name, int(version), text, self._root),
                    aliases=tuple(aliases.get((flat, int(version)), ())),
                )
                for flat, version, text in db.execute(_NEWEST)
                if (name := _parse(flat)) is not None
            ]
        return sorted(found, key=lambda record: record.name)

    def by_job(self, name: ModelName, job_id: str) -> JobVersion | None:
        """The version made for ``job_id``, whole or not. The first, should there ever be two."""
        with self._connect() as db:
            row = db.execute(_BY_JOB, {"name": name.flat, "job": job_id}).first()
            if row is None:
                return None
            version, stage, created, run_id, text = row
            deleted = stage == DELETED
            record = None if text is None or deleted else self._records(db, name, [(version, text)])[0]
            return JobVersion(int(version), deleted, int(created) / 1000, str(run_id), record)

    def history(self, name: ModelName, alias: str) -> past.History:
        with self._connect() as db:
            return past.from_text(
                db.execute(_MODEL_TAG, {"name": name.flat, "key": HISTORY + alias}).scalar()
            )

    def close(self) -> None:
        self._engine.dispose()

    def _records(self, db: sa.Connection, name: ModelName, rows: Any) -> list[VersionRecord]:
        aliases: dict[int, list[str]] = {}
        for alias, version in db.execute(_ALIASES, {"name": name.flat}):
            aliases.setdefault(int(version), []).append(alias)
        return [
            replace(
                from_tag(name, int(version), text, self._root), aliases=tuple(aliases.get(int(version), ()))
            )
            for version, text in rows
        ]

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            if not self.ready():
                raise NotReady(
                    "The model store is still being prepared",
                    cause=str(getattr(error, "orig", None) or error).splitlines()[0],
                    fix="Try again in a few seconds.",
                    retry_after_s=2.0,
                ) from error
            raise Unavailable(
                "The model store does not answer",
                cause=str(getattr(error, "orig", None) or error).splitlines()[0],
                fix="Check the model store's database and try again.",
                retry_after_s=1.0,
            ) from error


def visible_to(name: ModelName, user: str, everything: bool) -> bool:
    """Private models are their owner's; ``everything`` is an administrator's look."""
    return everything or not name.private or (bool(user) and name.holder == user)


def _parse(flat: str) -> ModelName | None:
    """None for a name somebody registered past Kepler."""
    try:
        return ModelName.parse(flat)
    except InvalidInput:
        return None


def _sqlite_reader(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA busy_timeout = 20000")
    connection.execute("PRAGMA query_only = 1")
