"""The parts of the full run: every test file in exactly one, and a ledger of what has passed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def full_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "tools"))
    import full_run  # type: ignore[import-not-found]

    return full_run


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., None]:
    if shutil.which("git") is None:
        pytest.skip("there is no git here, so no commit to follow")

    def run(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    return run


def test_every_test_file_is_in_one_part(full_run: ModuleType, root: Path) -> None:
    files = [str(path.relative_to(root)) for path in (root / "tests").rglob("test_*.py")]
    assert len(files) > 100
    owners = {file: [part.name for part in full_run.PARTS if part.owns(file)] for file in files}
    assert {file: names for file, names in owners.items() if len(names) != 1} == {}


def test_the_files_named_exist(full_run: ModuleType, root: Path) -> None:
    named = {path for part in full_run.PARTS for path in (*part.paths, *part.without)}
    assert [path for path in sorted(named) if not (root / path).exists()] == []


def test_the_key_follows_the_files(full_run: ModuleType, tmp_path: Path, git: Callable[..., None]) -> None:
    assert full_run.tree_key(tmp_path) == "", "no commit, nothing to note"
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    clean = full_run.tree_key(tmp_path)
    (tmp_path / "a").write_text("2")
    changed = full_run.tree_key(tmp_path)
    (tmp_path / "b").write_text("new")
    added = full_run.tree_key(tmp_path)
    (tmp_path / "b").write_text("other")
    assert len({clean, changed, added, full_run.tree_key(tmp_path)}) == 4
    assert changed.startswith(f"{clean}-")
    (tmp_path / "b").unlink()
    assert full_run.tree_key(tmp_path) == changed
    (tmp_path / "a").write_text("1")
    assert full_run.tree_key(tmp_path) == clean


@pytest.fixture
def small(full_run: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Two parts, the second of which fails; nothing is built."""

    def part(name: str, status: int) -> object:
        said = f"print('{name} ran'); print('3 passed, 1 skipped in 0.10s'); raise SystemExit({status})"
        return full_run.Part(name, "", commands=(([sys.executable, "-c", said], {}),))

    monkeypatch.setattr(full_run, "PARTS", (part("good", 0), part("bad", 1)))
    monkeypatch.setattr(full_run, "STATE", tmp_path / "state")
    monkeypatch.setattr(full_run, "ROOT", tmp_path)
    monkeypatch.setattr(full_run, "BUILD", ([sys.executable, "-c", ""], {}))
    monkeypatch.setattr(full_run, "tree_key", lambda: "commit")
    return full_run


def test_what_passed_is_not_run_again(small: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    assert small.full_run([], listing=False) == 1
    first = capfd.readouterr().out
    assert "good ran" in first
    assert "bad ran" in first
    assert "FAILED: bad" in first
    assert small.full_run([], listing=False) == 1
    again = capfd.readouterr().out
    assert "good ran" not in again
    assert "bad ran" in again
    assert small.Ledger("commit").passed()["good"].counts == "3 passed, 1 skipped"
    assert small.full_run(["good"], listing=False) == 0
    assert "good ran" in capfd.readouterr().out, "named, it is run again"
    assert small.full_run([], listing=True) == 0
    assert "passed 2" in capfd.readouterr().out


def test_files_that_change_meanwhile_void_it(
    small: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    keys = iter(("commit", "commit-changed"))
    monkeypatch.setattr(small, "tree_key", lambda: next(keys))
    assert small.full_run(["good"], listing=False) == 0
    assert "will be run again" in capfd.readouterr().out
    assert small.Ledger("commit").passed() == {}
