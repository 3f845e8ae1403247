"""The table of job records, and what the database's errors become."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import exc

from kepler.adapters.jobs.job_records import (
    JobRecords,
    database_error,
    database_errors,
    decode,
    encode,
    open_engine,
    postgres_url,
)
from kepler.core.errors import InvalidInput, KeplerError, Overloaded, Unavailable
from kepler.core.jobs import Failure, JobRecord, JobState, Notice

texts = st.text(max_size=20)
times = st.floats(0, 1e12)
records_strategy = st.builds(
    JobRecord, id=texts, kind=texts, state=st.sampled_from(JobState), owner=texts, subject=texts,
    created_at=times, started_at=times, finished_at=times, progress=st.floats(0, 1), phase=texts, model=texts,
    rows=st.integers(0, 2**60), metrics=st.lists(st.tuples(texts, times), max_size=3).map(tuple),
    notices=st.lists(st.builds(Notice, texts, texts), max_size=3).map(tuple),
    failure=st.none() | st.builds(Failure, texts, texts, texts, texts), attempt=st.integers(1, 9), sid=texts,
    tags=st.dictionaries(texts, texts, max_size=3),
)  # fmt: skip


@given(records_strategy)
def test_a_record_comes_back_as_it_went(record: JobRecord) -> None:
    assert decode(encode(record)) == record


@pytest.fixture
def records(tmp_path: Path) -> Iterator[JobRecords]:
    engine = open_engine("", tmp_path / "jobs.sqlite")
    records = JobRecords(engine)
    records.create_table()
    records.create_table()  # at every start
    yield records
    engine.dispose()


QUEUED = JobRecord("a", "train", JobState.QUEUED, "ada", "Fake", 1.0)


def test_the_file_is_private(records: JobRecords, tmp_path: Path) -> None:
    assert (tmp_path / "jobs.sqlite").stat().st_mode & 0o777 == 0o600
    with records._engine.connect() as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 2


def test_an_id_is_taken_once(records: JobRecords) -> None:
    assert records.insert(QUEUED, "me")
    assert not records.insert(replace(QUEUED, owner="other"), "me")
    row = records.row("a")
    assert row is not None
    assert row.record == QUEUED
    assert records.row("b") is None


def test_a_final_state_stays(records: JobRecords) -> None:
    records.insert(QUEUED, "me")
    cancelled = replace(QUEUED, state=JobState.CANCELLED, finished_at=2.0)
    assert records.change(cancelled, JobState.QUEUED)
    assert not records.change(replace(QUEUED, state=JobState.SUCCEEDED), JobState.RUNNING)
    assert records.begin("a", 3.0) is None
    row = records.row("a")
    assert row is not None
    assert row.record == cancelled


def test_each_beginning_is_counted(records: JobRecords) -> None:
    records.insert(QUEUED, "me")
    for attempt in (1, 2):
        begun = records.begin("a", 10.0 * attempt)
        assert begun is not None
        assert (begun.record.attempt, begun.record.started_at) == (attempt, 10.0)
        assert begun.record.state is JobState.RUNNING
    records.count_drain("a")
    row = records.row("a")
    assert row is not None
    assert (row.starts, row.drains) == (2, 1)


def test_what_is_active_and_whose(records: JobRecords) -> None:
    for number, executor in enumerate(["me", "me", "other"]):
        records.insert(replace(QUEUED, id=f"j{number}", created_at=10.0 - number), executor)
    assert [row.record.id for row in records.active("me")] == ["j1", "j0"]
    assert records.count_active("me") == 2
    assert [record.id for record in records.list(None, None, 10, 0)] == ["j0", "j1", "j2"]
    assert records.list("grace", None, 10, 0) == []
    assert [r.id for r in records.list("ada", JobState.QUEUED, 1, 1)] == ["j1"]


def test_cancel_requests_and_withdrawals(records: JobRecords) -> None:
    records.insert(QUEUED, "me")
    assert not records.cancel_requested("a")
    records.request_cancel("a")
    assert records.cancel_requested("a")
    assert not records.cancel_requested("none")
    records.delete("a")
    assert records.row("a") is not None, "only what is final is deleted"
    records.withdraw("a")
    assert records.row("a") is None


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("database or disk is full", Overloaded, "disk is full"),
        ("could not extend file: No space left on device", Overloaded, "disk is full"),
        ("database disk image is malformed", Unavailable, "damaged"),
        ("file is not a database", Unavailable, "damaged"),
        ("database is locked", Unavailable, "locked"),
        ("connection refused", Unavailable, "connection"),
    ],
)
def test_database_errors_say_what_to_do(text: str, kind: type[KeplerError], words: str) -> None:
    error = database_error(exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError(text)))
    assert type(error) is kind
    assert words in str(error)
    assert error.fix


def test_errors_are_translated_where_they_happen(tmp_path: Path) -> None:
    with pytest.raises(Overloaded), database_errors():
        raise exc.TimeoutError("pool")
    with pytest.raises(exc.IntegrityError), database_errors():
        raise exc.IntegrityError("INSERT", {}, Exception("UNIQUE"))
    engine = open_engine("", tmp_path / "empty.sqlite")
    with pytest.raises(Unavailable):
        JobRecords(engine).row("a")
    engine.dispose()


@pytest.mark.parametrize(
    "url", ["postgresql://u:p@h/d", "postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"]
)
def test_addresses_of_postgres(url: str) -> None:
    parsed = postgres_url(url)
    assert parsed.drivername == "postgresql+psycopg"
    assert parsed.password == "p"


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "what is this"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="postgresql://") as caught:
        postgres_url(url)
    assert "hunter2" not in str(caught.value)
