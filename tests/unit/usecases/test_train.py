"""Everything that can be known before rows come is checked before they come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fakes.manifests import make_manifest
from fakes.model_store import InMemoryModelStore
from fakes.service_parts import IdleWorker, MemoryAudit, MemoryJobs, MemorySpools
from kepler.core.errors import Conflict, InvalidInput, NotFound, Overloaded
from kepler.core.manifest import Manifest
from kepler.core.training import SearchContext, TrainOrder, TrainOutcome, TrainSpec
from kepler.ports.security import CAPABILITIES, Principal
from kepler.registry import default_registry
from kepler.usecases.identity import Caller, caller_of
from kepler.usecases.train import TrainLimits, TrainModel

ANA = caller_of(
    Principal("ana", frozenset(CAPABILITIES) - {"admin"}, "t1"), user="", app="search", search=SearchContext()
)
ORDER = TrainOrder("LogisticRegression", ("y", "a", "b", "_time"), ("*",), target="y", into="m")


class House:
    """The use case on doubles."""

    def __init__(self, root: Path, limits: TrainLimits | None = None) -> None:
        self.jobs = MemoryJobs(root)
        self.models = InMemoryModelStore()
        self.spools = MemorySpools()
        self.worker = IdleWorker()
        self.audit = MemoryAudit()
        self.forged: set[str] = set()
        self.train = TrainModel(
            default_registry(), self.models, self.jobs, self.spools, self.worker, self.audit,
            limits or TrainLimits(max_upload_bytes=100, queue_limit=2, threads=1), self.verify,
        )  # fmt: skip

    def verify(self, folder: Path, full_name: str) -> Manifest:
        """Stands for the check of the signature."""
        if full_name in self.forged:
            raise Conflict(f"Model version {full_name} is not as it was signed")
        return make_manifest()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_rows_become_a_job_with_everything_resolved(house: House):
    upload = house.train.open(ANA, ORDER)
    assert upload.info.name == "LogisticRegression"
    assert upload.used_fields == ("a", "b", "y")
    assert house.worker.prewarmed == 1
    upload.write(b"1,2,3,4\n")
    upload.write(b"1,2,3,4\n")
    record = upload.finish()
    spec = house.jobs.specs[record.id]
    assert (spec.model, spec.features, spec.rows, spec.data_sha256) == (
        "user.ana/m",
        ("a", "b"),
        2,
        "ab" * 32,
    )
    assert house.audit.records == [("ana", "train", "user.ana/m", "queued")]
    assert house.spools.opened[0][1] == ("a", "b", "y")


def test_an_upload_that_is_dropped_leaves_nothing(house: House):
    upload = house.train.open(ANA, ORDER)
    folder = house.jobs.folder(upload.spec.job_id)
    assert folder.is_dir()
    upload.abort()
    upload.abort()
    assert not folder.exists()
    assert house.jobs.records == {}


def test_the_same_request_twice_is_one_job(house: House):
    order = replace(ORDER, request_id="sid-1/0")
    first = house.train.open(ANA, order)
    first.write(b"1,2,3,4\n")
    job = first.finish()
    again = house.train.open(ANA, order)
    again.write(b"5,6,7,8\n")
    assert again.finish().id == job.id
    again.abort()
    assert len(house.spools.opened) == 1
    bob = replace(ANA, user="bob")
    assert house.train.open(bob, order).spec.job_id != job.id


def test_no_rows_is_an_error_and_no_job(house: House):
    with pytest.raises(InvalidInput, match="no rows to train on"):
        house.train.open(ANA, ORDER).finish()
    assert house.jobs.records == {}


def test_an_upload_past_its_limit_is_refused(house: House):
    upload = house.train.open(ANA, ORDER)
    with pytest.raises(Overloaded, match="larger than"):
        upload.write(b"x" * 101)


def test_a_full_queue_is_refused_before_rows_are_sent(house: House):
    for number in range(2):
        upload = house.train.open(ANA, replace(ORDER, request_id=str(number)))
        upload.write(b"1\n")
        upload.finish()
    with pytest.raises(Overloaded, match="2 trainings wait"):
        house.train.open(ANA, ORDER)


def test_a_dry_run_touches_no_disk(house: House):
    upload = house.train.open(ANA, replace(ORDER, dry_run=True))
    upload.write(b"1\n")
    assert upload.dry_run
    assert house.spools.opened == []
    assert not house.jobs.folder(upload.spec.job_id).exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algorithm": "LogisticRegresion"}, "The nearest are LogisticRegression"),
        ({"params": {"fit_intercpt": "t"}}, "fit_intercept"),
        ({"params": {"max_iter": "many"}}, "max_iter"),
        ({"target": ""}, "predicts a field and none is named"),
        ({"target": "z"}, "'z' is not in the rows"),
        ({"features": ("q",)}, "'q' is not in the rows"),
        ({"features": ("y",)}, "both the target and a feature"),
        ({"algorithm": "KMeans"}, "has no field to predict"),
        ({"algorithm": "DBSCAN", "target": ""}, "makes no model to keep"),
        ({"output": "rows"}, "Invalid value for output"),
        ({"nulls": "keep"}, "Invalid value for nulls"),
        ({"categoricals": "x"}, "Invalid value for categoricals"),
        ({"test_size": 1.0}, "test_size"),
        ({"kfold_cv": 1, "into": ""}, "kfold_cv"),
        ({"kfold_cv": 5}, "keeps no model"),
        ({"by": ("nope",)}, "Field 'nope' is not in the rows"),
        ({"by": ("y",)}, "Field 'y' chooses the group"),
        ({"by": ("b",), "features": ("a", "b")}, "Field 'b' chooses the group"),
        ({"by": ("b",), "partial_fit": True}, "partial_fit does not go with 'by'"),
        ({"into": "m@3"}, "names a version to train into"),
        ({"into": "a/b"}, "not a full model name"),
        ({"partial_fit": True, "into": ""}, "none is named"),
    ],
)
def test_wrong_orders_are_one_sentence_before_any_row(house: House, change, said):
    with pytest.raises(InvalidInput, match=said):
        house.train.open(ANA, replace(ORDER, **change))
    assert house.spools.opened == []


def test_somebody_elses_private_model_is_not_there(house: House):
    with pytest.raises(NotFound, match="may see"):
        house.train.open(ANA, replace(ORDER, into="user.bob/m"))


def test_partial_fit_goes_on_from_the_newest_version_or_from_nothing(house: House, tmp_path: Path):
    order = replace(ORDER, partial_fit=True, algorithm="SGDClassifier")
    assert house.train.open(ANA, order).spec.parent == ""
    spec = TrainSpec("j", "SGDClassifier", ("a",), ("a",), model="user.ana/m", owner="ana")
    house.models.register(spec, TrainOutcome(), tmp_path / "v1")
    opened = house.train.open(ANA, order).spec
    assert (opened.parent, opened.parent_sha256) == (str(tmp_path / "v1"), make_manifest().digest)


def test_partial_fit_goes_on_from_nothing_that_was_not_signed(house: House, tmp_path: Path):
    spec = TrainSpec("j", "SGDClassifier", ("a",), ("a",), model="user.ana/m", owner="ana")
    house.forged.add(house.models.register(spec, TrainOutcome(), tmp_path / "v1").full_name)
    with pytest.raises(Conflict, match="not as it was signed"):
        house.train.open(ANA, replace(ORDER, partial_fit=True, algorithm="SGDClassifier"))
    assert house.spools.opened == []


def test_callers_names_become_legal_parts():
    open_door = Principal("", frozenset(CAPABILITIES))
    caller = caller_of(open_door, user="ana@corp.example", app="", search=SearchContext())
    assert caller.app == "search"
    assert caller.user.startswith("ana_corp.example-")
    other = caller_of(open_door, user="ana_corp.example", app="", search=SearchContext())
    assert other.user == "ana_corp.example"
    long = [caller_of(open_door, user="x" * 200 + end, app="", search=SearchContext()).user for end in "ab"]
    assert long[0] != long[1]
    assert caller_of(open_door, user="...", app="x", search=SearchContext()).user.startswith("local-")
    assert isinstance(caller, Caller)


def test_after_finish_nothing_drops_the_rows(house: House):
    upload = house.train.open(ANA, ORDER)
    upload.write(b"1,2,3,4\n")
    upload.finish()
    upload.abort()
    assert house.spools.opened[0][2].state == "finished"


def test_a_change_that_cannot_be_recorded_is_not_made(house: House, monkeypatch: pytest.MonkeyPatch):
    def full(**_: object) -> None:
        raise Overloaded("The audit log's disk is full")

    monkeypatch.setattr(house.audit, "append", full)
    upload = house.train.open(ANA, ORDER)
    upload.write(b"1,2,3,4\n")
    with pytest.raises(Overloaded, match="audit"):
        upload.finish()
    assert house.jobs.records == {}
    upload.abort()
    assert not house.jobs.folder(upload.spec.job_id).exists()


def test_a_spool_that_does_not_open_leaves_no_folder(house: House, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise Overloaded("The disk is nearly full")

    monkeypatch.setattr(house.spools, "open", refuse)
    with pytest.raises(Overloaded):
        house.train.open(ANA, replace(ORDER, request_id="r"))
    assert list(house.jobs.root.iterdir()) == []


def test_fields_after_by_are_no_features_and_are_kept(house: House):
    upload = house.train.open(ANA, replace(ORDER, by=("b",)))
    assert (upload.spec.by, upload.spec.features) == (("b",), ("a",))
    assert upload.used_fields == ("a", "y", "b")
    upload.abort()
