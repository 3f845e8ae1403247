"""An answer holds exactly until somebody commits to the database, whoever and wherever that is."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kepler.adapters.mlflow import resolutions
from kepler.adapters.mlflow.resolutions import Resolutions
from kepler.core.names import ModelName, ModelRef, parse_ref
from kepler.core.versions import VersionRecord

PUMP = parse_ref("app:pump@prod", user="ana", app="search")
WRITE = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('INSERT INTO t VALUES (1)'); db.commit()"


def record(version: int) -> VersionRecord:
    return VersionRecord(ModelName("app", "search", "pump"), version, "folder", "hash")


@pytest.fixture(params=["wal", "delete"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "a registry?.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {request.param}")
        db.execute("CREATE TABLE t (x)")
        db.commit()
    return path


@pytest.fixture
def known(database: Path) -> Iterator[Resolutions]:
    known = Resolutions(database)
    yield known
    known.close()


def learn(known: Resolutions, ref: ModelRef = PUMP, version: int = 1) -> None:
    known.keep(ref, record(version), known.get(ref)[1])


def test_an_answer_is_given_again_until_another_connection_commits(
    known: Resolutions, database: Path
) -> None:
    assert known.get(PUMP)[0] is None
    learn(known)
    assert known.get(PUMP)[0] == record(1)
    assert known.get(PUMP)[0] == record(1)
    with closing(sqlite3.connect(database)) as other:
        other.execute("INSERT INTO t VALUES (1)")
        assert known.get(PUMP)[0] == record(1), "nothing is committed yet"
        other.commit()
        assert known.get(PUMP)[0] is None


def test_a_commit_of_another_process_counts(known: Resolutions, database: Path) -> None:
    learn(known)
    subprocess.run([sys.executable, "-c", WRITE, str(database)], check=True)
    assert known.get(PUMP)[0] is None
    learn(known, version=2)
    assert known.get(PUMP)[0] == record(2)


def test_an_answer_read_before_a_commit_is_not_kept_after_it(known: Resolutions, database: Path) -> None:
    _, before = known.get(PUMP)
    subprocess.run([sys.executable, "-c", WRITE, str(database)], check=True)
    known.keep(PUMP, record(1), before)  # nobody has looked since: forgotten at the next look
    assert known.get(PUMP)[0] is None
    known.keep(PUMP, record(1), before)  # somebody has: refused
    assert known.get(PUMP)[0] is None


def test_references_that_mean_different_models_are_kept_apart(known: Resolutions) -> None:
    learn(known)
    for text, user, app in (
        ("app:pump@prod", "ana", "it"),
        ("app:pump", "ana", "search"),
        ("pump@prod", "ana", "search"),
    ):
        assert known.get(parse_ref(text, user=user, app=app))[0] is None
    assert known.get(parse_ref("app.search/pump@prod", user="bo", app="it"))[0] == record(1)


def test_a_locked_database_is_not_waited_for_and_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    known = Resolutions(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        learn(known)
        other.execute("BEGIN EXCLUSIVE")
        started = time.perf_counter()
        assert known.get(PUMP) == (None, None)
        assert time.perf_counter() - started < 1
        known.keep(PUMP, record(1), None)
        other.execute("INSERT INTO t VALUES (1)")
        other.execute("COMMIT")
    assert known.get(PUMP)[0] is None
    known.close()


def test_an_answer_kept_for_one_connection_is_not_taken_by_the_next(
    known: Resolutions, database: Path
) -> None:
    _, before = known.get(PUMP)
    assert known._db is not None
    known._db.close()  # the next look fails, the one after opens anew
    assert known.get(PUMP) == (None, None)
    assert known.get(PUMP)[1] is not None
    known.keep(PUMP, record(1), before)
    assert known.get(PUMP)[0] is None


def test_no_file_is_made_and_none_needed(tmp_path: Path) -> None:
    for known in (Resolutions(tmp_path / "none.sqlite"), Resolutions(None)):
        learn(known)
        assert known.get(PUMP) == (None, None)
        known.close()
        known.close()
    assert not list(tmp_path.iterdir())


def test_what_is_kept_is_bounded(known: Resolutions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolutions, "_KEPT", 3)
    refs = [parse_ref(f"app:m{number}", user="ana", app="search") for number in range(10)]
    for ref in refs:
        learn(known, ref)
        assert known.get(ref)[0] == record(1)
    assert sum(known.get(ref)[0] is not None for ref in refs) <= 3
