"""Folders of jobs: names that are no ids, privacy, trimming."""

from __future__ import annotations

from pathlib import Path

import pytest

from kepler.adapters.jobs.job_changes import JobChanges
from kepler.adapters.jobs.job_folders import JobFolders, write_text
from kepler.core.errors import InvalidInput


@pytest.mark.parametrize(
    "job_id", ["", ".", "..", "a/b", "/a", "a..b", ".a", "a\n", "a b", "x" * 101, "a\x00"]
)
def test_what_is_no_job_id(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(InvalidInput, match="not valid"):
        JobFolders(tmp_path).path(job_id)


def test_folders_are_private_and_known(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path / "jobs")
    assert folders.known() == {}
    folder = folders.make("job-1_a.b")
    assert folders.make("job-1_a.b") == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "jobs" / "a-file").write_text("")
    (tmp_path / "jobs" / ".hidden").mkdir()
    assert list(folders.known()) == ["job-1_a.b"]


def test_trimming_keeps_what_is_needed_and_follows_no_link(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path / "jobs")
    folder = folders.make("a")
    for name in ("rows.arrow", "predictions.arrow", "spec.json", "worker.log"):
        (folder / name).write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (folder / "link").symlink_to(outside)
    (folder / "model").mkdir()
    (folder / "model" / "m.onnx").write_text("x")
    folders.trim("a", ("predictions.arrow",))
    assert {path.name for path in folder.iterdir()} == {"predictions.arrow", "spec.json", "worker.log"}
    assert (outside / "precious").exists()
    folders.remove("a")
    folders.remove("a")
    folders.trim("a", ())
    assert folders.known() == {}


def test_size_counts_what_is_on_disk(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path)
    (folders.make("a") / "deep").mkdir()
    (folders.make("a") / "deep" / "file").write_bytes(b"x" * 100_000)
    assert 100_000 <= folders.size_bytes("a") < 200_000
    assert folders.size_bytes("none") == 0


def test_a_text_is_there_in_full_and_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "one")
    write_text(path, "zwei €")
    assert path.read_text("utf-8") == "zwei €"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_waiting_for_a_change() -> None:
    changes = JobChanges()
    count = changes.count("a")
    changes.tell("b")
    changes.wait("a", count, 0.01)
    changes.tell("a")
    changes.wait("a", count, 60)  # at once: it changed since it was counted
    assert changes.count("a") == count + 1
    changes.forget("a")
    assert changes.count("a") == 0
    assert not changes.wait_stopped(0.001)
    changes.stop()
    changes.wait("a", 0, 60)
    assert changes.stopped
    assert changes.wait_stopped(60)


def test_listeners_hear_of_their_job_until_they_end() -> None:
    changes = JobChanges()
    heard: list[str] = []
    ends = [changes.listen("a", lambda name=name: heard.append(name)) for name in ("one", "two")]
    changes.tell("b")
    changes.tell("a")
    ends[0]()
    ends[0]()
    changes.tell("a")
    ends[1]()
    changes.tell("a")
    assert heard == ["one", "two", "two"]
    assert changes.count("a") == 3
