"""Versions as tags, alias histories, and the small pure parts of the store."""

from __future__ import annotations

import doctest
import threading
from pathlib import Path

import pytest

from kepler.adapters.mlflow import history, messages, record
from kepler.adapters.mlflow.lock import FileLock
from kepler.adapters.mlflow.store import database_url
from kepler.core.names import ModelName
from kepler.core.versions import VersionRecord

PUMP = ModelName("app", "search", "pump")


@pytest.mark.parametrize("module", [record, history])
def test_examples_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # pyright: ignore[reportArgumentType]


def test_the_folder_of_a_record_never_comes_from_the_database(tmp_path: Path) -> None:
    made = VersionRecord(
        PUMP, 2, "/elsewhere", "ab" * 32, job_id="j2", metrics=(("r2", 0.5),), tags={"a": "é"}
    )
    back = record.from_tag(PUMP, 2, record.to_tag(made), tmp_path)
    assert back.folder == str(tmp_path / "app.search~pump" / "j2")
    assert (back.metrics, back.tags, back.manifest_sha256) == (made.metrics, made.tags, made.manifest_sha256)


def test_user_tags_cannot_take_the_names_that_mean_something() -> None:
    made = VersionRecord(
        PUMP,
        1,
        "",
        "",
        owner="ana",
        tags={"kepler.owner": "eve", "mlflow.user": "eve", "odd:key": "x", "line": "7"},
    )
    shown = record.mlflow_tags(made)
    assert shown["kepler.owner"] == "ana"
    assert shown["line"] == "7"
    assert not {"mlflow.user", "odd:key"} & shown.keys()


@pytest.mark.parametrize(
    ("key", "kept"), [("a/b", "a_b"), ("é", "_"), ("..", "_"), ("", "_"), ("x" * 300, "x" * 250)]
)
def test_keys_that_mlflow_refuses_are_mended(key: str, kept: str) -> None:
    assert record.mlflow_key(key) == kept


def test_histories_are_bounded_and_read_back() -> None:
    trail: history.History = ()
    for version in range(1, 2 * history.KEPT):
        trail = history.push(trail, version)
    assert len(trail) == history.KEPT
    assert history.from_text(history.to_text(trail)) == trail
    assert history.from_text(None) == history.from_text("x,") == ()
    assert history.pop((), {1}) is None
    assert history.pop((1, 2, 1), {1}) is None
    assert len(history.to_text((10**9,) * history.KEPT)) < 5000


def test_database_urls_get_the_driver_we_ship() -> None:
    assert (
        database_url("postgres://u@h/d") == database_url("postgresql://u@h/d") == "postgresql+psycopg://u@h/d"
    )
    assert database_url("postgresql+psycopg://u@h/d") == "postgresql+psycopg://u@h/d"


def test_messages_name_what_is_near() -> None:
    assert "nearest are app.a/x1, app.a/x2" in messages.no_model("x1", ["app.a/x1", "app.a/x2"]).sentence
    assert messages.no_model("x").cause == ""
    assert "It has none" in messages.no_alias("x", "prod", {}).sentence


def test_one_holder_at_a_time_and_none_left_after_an_error(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "deep" / ".lock")
    other = FileLock(tmp_path / "deep" / ".lock")  # as another process would open it
    entered = threading.Event()

    def enter() -> None:
        with other:
            entered.set()

    def fail_while_another_waits() -> None:
        with lock:
            thread.start()
            assert not entered.wait(0.1)
            raise RuntimeError

    thread = threading.Thread(target=enter)
    with pytest.raises(RuntimeError):
        fail_while_another_waits()
    assert entered.wait(5)
    thread.join()
    (tmp_path / "file").touch()
    broken = FileLock(tmp_path / "file" / ".lock")
    for _ in range(2):  # a lock that could not be taken is not held
        with pytest.raises(OSError), broken:
            raise AssertionError
