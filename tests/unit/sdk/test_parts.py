"""Parts of the SDK that need no service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import kepler as kp
from kepler import sdk_predict, sdk_progress
from kepler.client.records import AlgorithmDescription, Opened
from kepler.core.errors import InvalidInput, MissingExtra
from kepler.core.jobs import JobRecord, JobState
from kepler.sdk_algorithms import SHORTCUTS, canonical
from kepler.sdk_data import as_source, guess_task
from kepler.sdk_train import Shortcut, Train


def test_the_package_has_what_it_says_and_no_more() -> None:
    assert set(dir(kp)) == set(kp.__all__)
    for name in kp.__all__:
        assert getattr(kp, name)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = kp.trian  # type: ignore[attr-defined]


def test_every_shortcut_is_an_attribute_with_its_own_name() -> None:
    declared = {name: item._algorithm for name, item in vars(Train).items() if isinstance(item, Shortcut)}
    assert declared == {name: name for name in SHORTCUTS}
    assert set(dir(kp.train)) == {*SHORTCUTS, "algorithms"}


def test_a_shortcut_without_a_session_says_so() -> None:
    with pytest.raises(InvalidInput, match="belongs to no session"):
        Train.lightgbm({"a": [1]})


def described(name: str, task: str, *aliases: str) -> AlgorithmDescription:
    return AlgorithmDescription(name, (task,), aliases=aliases)


def test_aliases_that_only_one_algorithm_has_pass_as_they_are() -> None:
    known = [
        described("A", "classification", "x"),
        described("B", "clustering", "x"),
        described("C", "regression"),
    ]
    assert canonical("x", "auto", lambda: ("", ""), lambda: known) == ("x", "")
    both = [*known[:1], described("D", "regression", "X")]
    assert canonical("X", "regression", lambda: ("", ""), lambda: both)[0] == "D"


def test_names_in_any_spelling() -> None:
    def never() -> Any:
        raise AssertionError("the data was read")

    for name in ("KMeans", "k_means", "k-means"):
        assert canonical(name, "auto", never)[0] == "KMeans"


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([], "classification"),
        ([None, None], "classification"),
        (["1.0", "0.0"], "classification"),
        (list(range(21)), "regression"),
        (["1.5"], "regression"),
    ],
)
def test_the_task_is_guessed_from_the_target(values: list[Any], task: str) -> None:
    assert guess_task(as_source({"a": values, "y": values}), "y")[0] == task


def test_data_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("a\n1\n")
    source = as_source(path)
    assert as_source(source) is source
    assert as_source(str(path)).columns == as_source({"a": [1]}).columns == ("a",)


def test_from_splunk_leaves_no_file_behind_when_it_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InvalidInput, match="is empty"):
        kp.data.from_splunk(" ", session=object())
    with pytest.raises(InvalidInput, match="no metric name"):
        kp.data.from_splunk("a b", session=object(), metrics=True)
    assert list(tmp_path.iterdir()) == []


def test_pandas_is_asked_for_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = sdk_predict.Predictions(as_source({"a": [1]}), Opened("m@1", "", (), ("p",)), [b"1\n"], 1)
    with pytest.raises(MissingExtra, match="pip install pandas"):
        found.to_pandas()


def job(state: JobState, phase: str = "fitting") -> JobRecord:
    return JobRecord("j", "train", state, "ana", "s", 1.0, progress=0.25, phase=phase)


def test_progress_goes_from_rows_to_the_job_and_never_beyond_its_end() -> None:
    seen: list[tuple[str, float | None]] = []
    bar = sdk_progress._Bar(lambda text, share: seen.append((text, share)))
    assert b"".join(sdk_progress.counted([b"1" * 600_000, b"2" * 600_000], bar, 1_000_000))
    bar.sent(1, 0)
    bar.job(job(JobState.RUNNING))
    bar.job(job(JobState.SUCCEEDED))
    assert seen == [
        ("sending rows, 0.6 MB", 0.6),
        ("sending rows, 1.2 MB", 1.0),
        ("sending rows, 1.2 MB", None),
        ("running: fitting", 0.25),
        ("succeeded", 1.0),
    ]


def test_a_bar_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with sdk_progress.shown(True) as bar:
        bar.job(job(JobState.RUNNING))
        bar.sent(10, 100)
    with sdk_progress.shown(False) as bar:
        bar.job(job(JobState.RUNNING))
        bar.sent(10, 100)
    assert isinstance(bar, sdk_progress.Silent)
    assert capsys.readouterr().out == ""
