"""From a version to its form for gateways: rows, refusals, and what is on record."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes.manifests import make_manifest
from fakes.model_store import InMemoryModelStore
from fakes.service_parts import MemoryAudit
from kepler.adapters.storage import version_folder
from kepler.adapters.storage.package_files import PackageFiles
from kepler.core.algorithms import Matrix
from kepler.core.errors import InvalidInput, NotFound
from kepler.core.golden import GoldenVectors
from kepler.core.manifest import Manifest
from kepler.core.names import ModelName
from kepler.core.optimization import Candidate, Cost, Optimization, Refit
from kepler.core.profile_sample import sample_rows
from kepler.core.records import NumberColumn, RecordBatch, TextColumn
from kepler.core.training import SearchContext, TrainOutcome, TrainSpec
from kepler.core.versions import VersionRecord
from kepler.ports.security import CAPABILITIES, Principal
from kepler.usecases.identity import caller_of
from kepler.usecases.manage import ManageModels
from kepler.usecases.optimize import MAX_ROWS, OptimizeVersion
from support.packages import Maker, trusting

ANA = caller_of(
    Principal("ana", frozenset(CAPABILITIES) - {"admin"}, "t1"), user="", app="search", search=SearchContext()
)


class Halves:
    """An optimiser that keeps half of the bytes and remembers its rows."""

    def __init__(self, *, pays: bool = True) -> None:
        self.pays = pays
        self.rows: Matrix = np.zeros((0, 3))
        self.model = b""

    def optimize(
        self, manifest: Manifest, model: bytes, rows: Matrix, thresholds: dict[str, float], calibrated_on: str
    ) -> Optimization:
        self.rows, self.model = rows, model
        half = model[: len(model) // 2]
        refits = tuple(Refit(name, value, value + 0.25, 0.999) for name, value in thresholds.items())
        golden = GoldenVectors(manifest.golden.inputs, manifest.golden.outputs, 0.02)
        refused = "" if self.pays else "0.9000 of the rows get the same answer and 0.995 are asked for"
        item = Candidate("int8", half, Cost(len(half), 10.0, 12.0), 0.998, 0.01, golden, refits, refused)
        return Optimization(Cost(len(model), 30.0, 40.0), (item,), calibrated_on, 10, 10)


class Keeping(InMemoryModelStore):
    """Takes the draft over, as the real store does."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._kept = root

    def register(self, spec: TrainSpec, outcome: TrainOutcome, draft: Path) -> VersionRecord:
        return super().register(
            spec, outcome, Path(shutil.copytree(draft, self._kept / f"kept-{spec.job_id}"))
        )


class House:
    def __init__(self, root: Path, optimizer: Halves | None = None) -> None:
        self.root, self.maker = root, Maker()
        self.models, self.audit, self.optimizer = Keeping(root), MemoryAudit(), optimizer or Halves()
        self.files = PackageFiles(root / "imports", self.maker.signer, trusting(self.maker))
        self.uses = OptimizeVersion(
            ManageModels(self.models, self.audit),
            self.models,
            self.optimizer,
            self.files,
            lambda folder, _name: version_folder.draft_manifest(folder),
            lambda folder, _manifest, name: (folder / name).read_bytes(),
            self.audit,
        )

    def add(self, manifest: Manifest | None = None) -> None:
        draft = self.root / f"draft-{len(list(self.root.iterdir()))}"
        draft.mkdir()
        manifest = manifest or make_manifest()
        (draft / "manifest.json").write_bytes(manifest.to_bytes())
        (draft / "model.onnx").write_bytes(bytes(range(100)))
        spec = TrainSpec(
            draft.name, "LogisticRegression", ("a", "c"), ("a", "c"), "y", model="app.search/pump"
        )
        self.models.register(spec, TrainOutcome(), draft)


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    made.add()
    return made


def rows(n: int) -> RecordBatch:
    rng = np.random.default_rng(0)
    numbers = NumberColumn(rng.normal(size=n))
    return RecordBatch({"a": numbers, "c": TextColumn(rng.integers(0, 2, n).astype(np.int32), ("x", "z"))}, n)


def test_it_becomes_the_next_version_with_its_parent_and_what_was_done(house: House) -> None:
    plan = house.uses.open(ANA, "app:pump", "edge", {"1": 0.5})
    plan.add(rows(300))
    plan.add(rows(200))
    done = plan.run()
    assert house.optimizer.rows.shape == (500, 3)
    assert done.version is not None
    assert done.version.version == 2
    made = version_folder.draft_manifest(Path(done.version.folder))
    assert made.parent == "app.search/pump@1"
    assert made.model.extra["optimization"] == "int8"
    assert made.model.extra["optimization_calibrated"] == "calibrated on 500 of 500 rows given"
    assert made.model.extra["threshold 1"] == "0.5 -> 0.75"
    assert made.golden.tolerance == 0.02
    assert dict(made.metrics)["edge_agreement"] == 0.998
    assert made.summary["optimization"].rows[-1][-1] == "chosen"
    assert made.origin is None
    assert made.preparation == make_manifest().preparation
    assert Path(done.version.folder, "model.onnx").read_bytes() == bytes(range(50))
    assert house.audit.records[-1][1] == "version.optimize"
    assert list(house.files.root.iterdir()) == []
    again = house.uses.open(ANA, "app:pump@1", "edge", {}, dry_run=True)
    assert again.run().version is None
    with pytest.raises(InvalidInput, match="optimised already, from app"):
        house.uses.open(ANA, "app:pump", "edge", {})


def test_without_rows_they_are_drawn_from_the_profile_and_that_is_said(house: House) -> None:
    done = house.uses.open(ANA, "app:pump", "edge", {}, dry_run=True).run()
    [notice] = done.notices
    assert notice.level == "warn"
    assert "field by field from the training profile" in notice.text
    assert len(house.optimizer.rows) > 2_000  # a quarter of `a` is missing and the model drops such rows


def test_rows_beyond_the_bound_are_not_kept(house: House) -> None:
    plan = house.uses.open(ANA, "app:pump", "edge", {}, dry_run=True)
    for _ in range(3):
        plan.add(rows(MAX_ROWS // 2))
    done = plan.run()
    assert len(house.optimizer.rows) == MAX_ROWS
    assert "20,000 of 30,000" in done.notices[0].text
    short = house.uses.open(ANA, "app:pump", "edge", {})
    with pytest.raises(InvalidInput, match="'c'"):
        short.add(RecordBatch({"a": rows(5)["a"]}, 5))


def test_what_does_not_pay_is_refused_with_the_reason_and_leaves_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, Halves(pays=False))
    house.add()
    plan = house.uses.open(ANA, "app:pump", "edge", {})
    plan.add(rows(300))
    with pytest.raises(InvalidInput, match="gains nothing") as caught:
        plan.run()
    assert "0.9000 of the rows" in caught.value.cause
    assert [record.version for record in house.models.list_versions(ModelName("app", "search", "pump"))] == [
        1
    ]
    assert not house.files.root.exists()


@pytest.mark.parametrize(
    ("model", "target", "message"),
    [("app:pump", "moon", "Nothing is optimised for 'moon'"), ("app:pimp", "edge", "pimp")],
)
def test_unknown_targets_and_models(house: House, model: str, target: str, message: str) -> None:
    with pytest.raises((InvalidInput, NotFound), match=message):
        house.uses.open(ANA, model, target, {})


def test_what_is_not_onnx_has_no_form_for_gateways(house: House) -> None:
    manifest = make_manifest()
    house.add(
        replace(manifest, model=replace(manifest.model, format="skops", reason="KNN has no exact ONNX form"))
    )
    with pytest.raises(InvalidInput, match="cannot be optimised") as caught:
        house.uses.open(ANA, "app:pump", "edge", {})
    assert "KNN has no exact ONNX form" in caught.value.cause


def test_rows_of_a_profile_have_its_ranges_and_shares() -> None:
    profile = make_manifest().profile
    drawn = sample_rows(profile, ("a", "c", "unknown"), 4_000)
    assert list(drawn) == ["a", "c"]
    numbers, texts = drawn["a"], drawn["c"]
    assert isinstance(numbers, NumberColumn)
    assert isinstance(texts, TextColumn)
    known = numbers.values[~numbers.missing]
    assert (known.min() >= 0, known.max() <= 2) == (True, True)
    assert numbers.missing.mean() == pytest.approx(0.25, abs=0.03)
    assert (texts.codes == 0).mean() == pytest.approx(0.75, abs=0.03)
    again = sample_rows(profile, ("a",), 4_000)["a"]
    assert isinstance(again, NumberColumn)
    assert np.array_equal(again.values, numbers.values, equal_nan=True)
