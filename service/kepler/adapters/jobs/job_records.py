"""Job records in a table beside DBOS's own, in the same database.

A record is one JSON document with the few columns that are searched or changed alone. Every change of
state is one conditional UPDATE, so two that race have one winner and a final state stays.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from kepler.core.errors import InvalidInput, Overloaded, Unavailable
from kepler.core.jobs import Failure, JobRecord, JobState, Notice

_FINAL = [state.value for state in JobState if state.final]
_ACTIVE = [state.value for state in JobState if not state.final]

_metadata = sa.MetaData()
_jobs = sa.Table(
    "kepler_jobs",
    _metadata,
    sa.Column("id", sa.String(100), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("executor", sa.String(64), nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("finished_at", sa.Float(53), nullable=False, default=0.0),
    sa.Column("starts", sa.Integer, nullable=False, default=0),  # workers started
    sa.Column("drains", sa.Integer, nullable=False, default=0),  # of these, ended by an orderly stop
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("announced", sa.Boolean, nullable=False, default=False),  # on_final has run
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("kepler_jobs_by_time", "created_at"),
    sa.Index("kepler_jobs_by_state", "state", "created_at"),
    sa.Index("kepler_jobs_by_owner", "owner", "created_at"),
)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A record with what only the runner needs to know."""

    record: JobRecord
    executor: str
    starts: int
    drains: int
    cancel_requested: bool


class JobRecords:
    """The table. Safe to use from several threads and services."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create_table(self) -> None:
        with database_errors():
            _metadata.create_all(self._engine)

    def insert(self, record: JobRecord, executor: str) -> bool:
        """False when the id is taken."""
        row = {
            "id": record.id, "owner": record.owner, "state": record.state.value, "executor": executor,
            "created_at": record.created_at, "finished_at": 0.0, "starts": 0, "drains": 0,
            "cancel_requested": False, "announced": False, "body": encode(record),
        }  # fmt: skip
        try:
            with database_errors(), self._engine.begin() as connection:
                connection.execute(sa.insert(_jobs).values(row))
        except exc.IntegrityError:
            return False
        return True

    def withdraw(self, job_id: str) -> None:
        """Undo `insert` of a job that nobody was promised, as far as the database lets us."""
        with contextlib.suppress(exc.SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(
                sa.delete(_jobs).where(_jobs.c.id == job_id, _jobs.c.state == JobState.QUEUED.value)
            )

    def row(self, job_id: str) -> JobRow | None:
        with database_errors(), self._engine.connect() as connection:
            found = connection.execute(sa.select(_jobs).where(_jobs.c.id == job_id)).one_or_none()
        return None if found is None else _row(found)

    def list(self, owner: str | None, state: JobState | None, limit: int, offset: int) -> list[JobRecord]:
        query = sa.select(_jobs).order_by(_jobs.c.created_at.desc(), _jobs.c.id.desc())
        if owner is not None:
            query = query.where(_jobs.c.owner == owner)
        if state is not None:
            query = query.where(_jobs.c.state == state.value)
        with database_errors(), self._engine.connect() as connection:
            return [_row(found).record for found in connection.execute(query.limit(limit).offset(offset))]

    def active(self, executor: str) -> list[JobRow]:
        """Jobs of ``executor`` that are not final, oldest first."""
        query = sa.select(_jobs).where(_jobs.c.executor == executor, _jobs.c.state.in_(_ACTIVE))
        with database_errors(), self._engine.connect() as connection:
            return [
                _row(found) for found in connection.execute(query.order_by(_jobs.c.created_at, _jobs.c.id))
            ]

    def count_active(self, executor: str) -> int:
        query = sa.select(sa.func.count()).where(_jobs.c.executor == executor, _jobs.c.state.in_(_ACTIVE))
        with database_errors(), self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def counts(self) -> dict[str, int]:
        """Number of jobs by state; states without any are left out."""
        query = sa.select(_jobs.c.state, sa.func.count()).group_by(_jobs.c.state)
        with database_errors(), self._engine.connect() as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}

    def change(self, record: JobRecord, was: JobState) -> bool:
        """Write ``record`` over the job if its state is still ``was``; False when it is not."""
        with database_errors(), self._engine.begin() as connection:
            done = connection.execute(
                sa.update(_jobs)
                .where(_jobs.c.id == record.id, _jobs.c.state == was.value)
                .values(state=record.state.value, finished_at=record.finished_at, body=encode(record))
            )
        return done.rowcount == 1

    def begin(self, job_id: str, now: float) -> JobRow | None:
        """Count a start and set the job running; None when it is final or gone."""
        with database_errors(), self._engine.begin() as connection:
            done = connection.execute(
                sa.update(_jobs)
                .where(_jobs.c.id == job_id, _jobs.c.state.in_(_ACTIVE))
                .values(state=JobState.RUNNING.value, starts=_jobs.c.starts + 1)
            )
            if done.rowcount != 1:
                return None
            row = _row(connection.execute(sa.select(_jobs).where(_jobs.c.id == job_id)).one())
            record = replace(
                row.record, state=JobState.RUNNING, started_at=row.record.started_at or now,
                attempt=row.starts, progress=0.0, phase="starting",
            )  # fmt: skip
            connection.execute(sa.update(_jobs).where(_jobs.c.id == job_id).values(body=encode(record)))
        return replace(row, record=record)

    def count_drain(self, job_id: str) -> None:
        self._set(job_id, drains=_jobs.c.drains + 1)

    def request_cancel(self, job_id: str) -> None:
        self._set(job_id, cancel_requested=True)

    def cancel_requested(self, job_id: str) -> bool:
        query = sa.select(_jobs.c.cancel_requested).where(_jobs.c.id == job_id)
        with database_errors(), self._engine.connect() as connection:
            return bool(connection.execute(query).scalar_one_or_none())

    def set_announced(self, job_id: str) -> None:
        self._set(job_id, announced=True)

    def unannounced(self, executor: str, limit: int = 1000) -> list[JobRecord]:
        query = sa.select(_jobs).where(
            _jobs.c.executor == executor, _jobs.c.state.in_(_FINAL), sa.not_(_jobs.c.announced)
        )
        with database_errors(), self._engine.connect() as connection:
            return [_row(found).record for found in connection.execute(query.limit(limit))]

    def finished(self, executor: str, before: float, limit: int = 1000) -> list[str]:
        """Ids of final jobs that ended before that time, longest ago first."""
        query = sa.select(_jobs.c.id).where(
            _jobs.c.executor == executor, _jobs.c.state.in_(_FINAL), _jobs.c.finished_at < before
        )
        with database_errors(), self._engine.connect() as connection:
            return list(connection.execute(query.order_by(_jobs.c.finished_at).limit(limit)).scalars())

    def delete(self, job_id: str) -> None:
        with database_errors(), self._engine.begin() as connection:
            connection.execute(sa.delete(_jobs).where(_jobs.c.id == job_id, _jobs.c.state.in_(_FINAL)))

    def _set(self, job_id: str, **values: Any) -> None:
        with database_errors(), self._engine.begin() as connection:
            connection.execute(sa.update(_jobs).where(_jobs.c.id == job_id).values(**values))


def encode(record: JobRecord) -> str:
    return json.dumps(asdict(record), ensure_ascii=False)


def decode(text: str) -> JobRecord:
    raw: dict[str, Any] = json.loads(text)
    failure = raw.get("failure")
    raw["state"] = JobState(raw["state"])
    raw["metrics"] = tuple((str(name), float(value)) for name, value in raw.get("metrics", ()))
    raw["notices"] = tuple(Notice(**notice) for notice in raw.get("notices", ()))
    raw["failure"] = Failure(**failure) if failure else None
    return JobRecord(**raw)


def _row(found: Any) -> JobRow:
    # The column is the truth about the state: a conditional UPDATE may have changed it alone.
    record = replace(decode(found.body), state=JobState(found.state))
    return JobRow(record, found.executor, found.starts, found.drains, bool(found.cancel_requested))


def open_engine(url: str, sqlite_file: Path) -> sa.Engine:
    """The engine of ``url``, or of ``sqlite_file`` (made private) when that is empty."""
    if url and not url.startswith("sqlite"):
        return sa.create_engine(postgres_url(url), pool_pre_ping=True, pool_size=5, max_overflow=15)
    if not url:
        os.close(os.open(sqlite_file, os.O_RDWR | os.O_CREAT, 0o600))
        url = f"sqlite:///{sqlite_file}"
    engine = sa.create_engine(url)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        # IMMEDIATE: a transaction that reads before it writes would otherwise fail as "locked" at once.
        connection.isolation_level = "IMMEDIATE"
        connection.execute("PRAGMA busy_timeout=30000")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an acknowledged job survives a power cut

    return engine


def postgres_url(url: str) -> sa.URL:
    """``url`` for SQLAlchemy with psycopg 3. Raises `InvalidInput` when it is none."""
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError as error:
        raise InvalidInput(
            "The database address for jobs cannot be read",
            fix="Write it as postgresql://USER@HOST:PORT/DATABASE",
        ) from error
    if parsed.get_backend_name() in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    raise InvalidInput(
        f"Jobs cannot be kept in a {parsed.get_backend_name()} database",
        fix="Leave the address empty for SQLite or write postgresql://USER@HOST:PORT/DATABASE",
    )


@contextlib.contextmanager
def database_errors(what: str = "job database") -> Iterator[None]:
    """Turn what the database answers into errors that say what to do; ``what`` is it called."""
    try:
        yield
    except exc.IntegrityError:
        raise
    except exc.DBAPIError as error:
        raise database_error(error, what) from error
    except exc.TimeoutError as error:
        raise Overloaded(
            f"The {what} is busy",
            cause="All its connections are in use",
            fix="Try again",
            retry_after_s=2.0,
        ) from error


def database_error(error: exc.DBAPIError, what: str = "job database") -> Overloaded | Unavailable:
    text = str(error.orig).lower()
    if "disk is full" in text or "no space left" in text or "disk i/o error" in text:
        return Overloaded(
            f"The {what} cannot be written",
            cause="Its disk is full or failing",
            fix="Free space on the disk of the service's home and try again",
            retry_after_s=30.0,
        )
    if "malformed" in text or "not a database" in text:
        return Unavailable(
            f"The {what} is damaged",
            cause="Its file is not a SQLite database any more",
            fix="Stop the service, restore its .sqlite file from a backup or move it away, and start again",
        )
    return Unavailable(
        f"The {what} does not answer",
        cause="It is locked by another process"
        if "locked" in text
        else "The connection failed or was refused",
        fix="Try again, and look at the service's log when it stays so",
        retry_after_s=5.0,
    )
