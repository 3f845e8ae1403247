"""A registration or deletion that is cut short at any step, and tried again."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.model_store import make_outcome, make_spec, write_draft
from fakes.signer import FakeSigner
from kepler.adapters.mlflow.store import MlflowModelStore
from kepler.adapters.storage import version_folder
from kepler.core.errors import InvalidInput, NotFound, Overloaded, Unavailable
from kepler.core.names import ModelName, parse_ref

PUMP = ModelName("app", "search", "pump")
LATEST = parse_ref("pump", user="ana", app="search")


class FixedClock:
    def now(self) -> float:
        return 1_700_000_000.5


class Crash(BaseException):
    """Not an `Exception`: nothing on its way may take it for an error and carry on."""


def crash_at(step: str) -> Callable[[str], None]:
    def before(reached: str) -> None:
        if reached == step:
            raise Crash(step)

    return before


def open_store(home: Path, before: Callable[[str], None] | None = None) -> MlflowModelStore:
    store = MlflowModelStore(home, FakeSigner(), FixedClock(), before=before)
    store.start()
    return store


REGISTER_STEPS = ("folder", "rows", "seal", "show", "answer")


def test_every_step_of_a_registration_is_crashed_below(tmp_path: Path) -> None:
    steps: list[str] = []
    store = open_store(tmp_path / "home", steps.append)
    spec = make_spec("j1")
    store.register(spec, make_outcome(), write_draft(tmp_path / "draft", spec))
    store.close()
    assert tuple(steps) == REGISTER_STEPS


@pytest.mark.parametrize("step", REGISTER_STEPS)
def test_a_registration_crashed_anywhere_gives_one_version_when_retried(tmp_path: Path, step: str) -> None:
    spec, draft = make_spec("j1"), tmp_path / "draft"
    write_draft(draft, spec)
    store = open_store(tmp_path / "home", crash_at(step))
    with pytest.raises(Crash):
        store.register(spec, make_outcome(), draft)
    store.close()

    store = open_store(tmp_path / "home")
    if step != "answer":
        assert store.list_models() == []
        with pytest.raises(NotFound):
            store.resolve(LATEST)
    made = store.register(spec, make_outcome(), draft)
    assert made.version == 1
    assert [record.full_name for record in store.list_versions(PUMP)] == ["app.search/pump@1"]
    manifest = version_folder.verify_folder(Path(made.folder), FakeSigner(), made.full_name)
    assert (manifest.run_id, manifest.created_at, manifest.job_id) == (made.run_id, made.created_at, "j1")
    assert not draft.exists()
    other = make_spec("j2")
    assert store.register(other, make_outcome(), write_draft(tmp_path / "j2", other)).version == 2
    store.close()


@pytest.mark.parametrize("step", ["rows", "seal", "show"])
def test_a_service_killed_in_a_registration_goes_on_after_its_restart(tmp_path: Path, step: str) -> None:
    """SIGKILL in another process: nothing runs after it, no lock stays."""
    script = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from fakes.model_store import make_outcome, make_spec
from fakes.signer import FakeSigner
from kepler.adapters.mlflow.store import MlflowModelStore
class Clock:
    def now(self): return 5.0
def before(step):
    if step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
root = Path(sys.argv[1])
store = MlflowModelStore(root / "home", FakeSigner(), Clock(), before=before)
store.start()
store.register(make_spec("j1"), make_outcome(), root / "draft")
"""
    spec = make_spec("j1")
    write_draft(tmp_path / "draft", spec)
    tests = str(Path(__file__).resolve().parent.parent)
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path), tests, step], check=False)
    assert ended.returncode == -signal.SIGKILL
    store = open_store(tmp_path / "home")
    made = store.register(spec, make_outcome(), tmp_path / "draft")
    assert made.version == 1
    assert len(store.list_versions(PUMP)) == 1
    version_folder.verify_folder(Path(made.folder), FakeSigner(), made.full_name)
    store.close()


def test_a_retry_that_brings_a_new_draft_keeps_the_first(tmp_path: Path) -> None:
    spec = make_spec("j1")
    store = open_store(tmp_path / "home", crash_at("seal"))
    with pytest.raises(Crash):
        store.register(spec, make_outcome(), write_draft(tmp_path / "one", spec, b"first"))
    store.close()
    store = open_store(tmp_path / "home")
    made = store.register(spec, make_outcome(), write_draft(tmp_path / "two", spec, b"second"))
    assert (Path(made.folder) / "model.onnx").read_bytes() == b"first"
    store.close()


@pytest.mark.parametrize(("step", "survives"), [("delete", True), ("files", False)])
@pytest.mark.parametrize("whole", [True, False])
def test_a_deletion_crashed_anywhere_is_finished_or_undone_at_the_next_start(
    tmp_path: Path, step: str, survives: bool, whole: bool
) -> None:
    store = open_store(tmp_path / "home", crash_at(step))
    folders = []
    for job in ("j1", "j2"):
        spec = make_spec(job)
        folders.append(Path(store.register(spec, make_outcome(), write_draft(tmp_path / job, spec)).folder))
    with pytest.raises(Crash):
        store.delete(PUMP, None if whole else 1)
    store.close()

    store = open_store(tmp_path / "home")
    assert folders[0].exists() == survives
    assert folders[1].exists() == (survives or not whole)
    assert len(store.list_models()) == (0 if whole and not survives else 1)
    assert not list((tmp_path / "home" / "models" / ".deleting").iterdir())
    store.close()


@pytest.mark.parametrize("job_id", ["", "..", ".", ".hidden", "../x", "a/b", "a~b", "x" * 101, "a\x00b"])
def test_a_job_id_that_is_no_name_makes_no_folder(tmp_path: Path, job_id: str) -> None:
    store = open_store(tmp_path / "home")
    draft = write_draft(tmp_path / "draft", make_spec("j1"))
    with pytest.raises(InvalidInput, match="not a legal job id"):
        store.register(make_spec(job_id), make_outcome(), draft)
    assert draft.exists()
    store.close()


@pytest.mark.parametrize(
    "model", ["app.search/..", "app.search/%2e%2e/x", "file:///etc", "app.search/a\\b", "../x"]
)
def test_a_model_name_that_is_a_path_is_refused(tmp_path: Path, model: str) -> None:
    store = open_store(tmp_path / "home")
    with pytest.raises(InvalidInput):
        store.register(make_spec("j1", model), make_outcome(), tmp_path / "draft")
    store.close()


def test_a_draft_with_a_link_in_it_is_not_registered(tmp_path: Path) -> None:
    store = open_store(tmp_path / "home")
    draft = write_draft(tmp_path / "draft", make_spec("j1"))
    (draft / "secret").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="'secret' is a link"):
        store.register(make_spec("j1"), make_outcome(), draft)
    assert store.list_models() == []
    store.close()


def test_a_full_disk_is_said_and_the_retry_succeeds(tmp_path: Path) -> None:
    failing = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), OSError(errno.EIO, os.strerror(errno.EIO))]

    def before(step: str) -> None:
        if step == "seal" and failing:
            raise failing.pop(0)

    spec, draft = make_spec("j1"), tmp_path / "draft"
    write_draft(draft, spec)
    store = open_store(tmp_path / "home", before)
    with pytest.raises(Overloaded, match="disk is full"):
        store.register(spec, make_outcome(), draft)
    with pytest.raises(Unavailable, match="Input/output error"):
        store.register(spec, make_outcome(), draft)
    assert store.register(spec, make_outcome(), draft).version == 1
    store.close()
