"""partial_fit from job folder to job folder: the second goes on from the first one's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

from fakes.training import RecordingRun
from kepler.adapters.formats import SafeModelFormats
from kepler.adapters.jobs.training_main import train_in_folder
from kepler.adapters.storage.csv_slices import ArrowRowSpools
from kepler.adapters.storage.version_folder import measure
from kepler.core.manifest import Manifest
from kepler.core.names import ModelName
from kepler.core.training import TrainOutcome, TrainSpec

RNG = np.random.default_rng(5)
N = 600
A, B = np.round(RNG.normal(size=N), 4), np.round(RNG.normal(1.0, 2.0, size=N), 4)
COLOURS = np.array(["green", "red"])[RNG.integers(0, 2, N)]
LABEL = np.where(A - 0.5 * B + (COLOURS == "red") > 0, "bad", "good")
COLUMNS = ("a", "b", "colour", "label")
ROWS = [f"{a!r},{b!r},{c},{y}\n" for a, b, c, y in zip(A.tolist(), B.tolist(), COLOURS, LABEL, strict=True)]


def train(folder: Path, rows: list[str], parent: Path | None = None, **more: Any) -> TrainOutcome:
    folder.mkdir()
    spool = ArrowRowSpools(0).open(folder, COLUMNS, COLUMNS)
    spool.write("".join(rows).encode())
    more = {"algorithm": "SGDClassifier", "target": "label", "partial_fit": True, **more}
    spec = TrainSpec(
        job_id="j",
        features=("a", "b", "colour"),
        columns=COLUMNS,
        model="app.search/m",
        data_sha256=spool.finish(),
        parent=str(parent or ""),
        parent_sha256=digest(parent),
        rows=len(rows),
        **more,
    )
    (folder / "spec.json").write_text(spec.to_json())
    return train_in_folder(folder, RecordingRun())


def digest(version: Path | None) -> str:
    """What the service pins once the signature held."""
    path = version and version / "manifest.json"
    return Manifest.from_json(path.read_bytes()).digest if path and path.exists() else ""


def register(folder: Path, version: int) -> Path:
    """As the store does it: hashes of every file into the manifest."""
    path = folder / "model"
    draft = Manifest.from_json((path / "manifest.json").read_bytes())
    done = draft.completed(name=ModelName("app", "search", "m"), version=version, files=measure(path))
    (path / "manifest.json").write_bytes(done.to_bytes())
    return path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    outcome = train(tmp_path / "first", ROWS[:300], params={"loss": "log_loss"})
    assert outcome.failure is None
    return register(tmp_path / "first", 1)


def sentence(outcome: TrainOutcome) -> str:
    assert outcome.failure is not None
    return " ".join((outcome.failure.message, outcome.failure.cause, outcome.failure.fix))


def test_three_searches_are_three_passes_of_the_library(tmp_path: Path, first: Path):
    assert train(tmp_path / "second", ROWS[300:], first).failure is None
    second = register(tmp_path / "second", 2)
    outcome = train(tmp_path / "third", ROWS[:100], second, params={"loss": "log_loss"})
    assert outcome.failure is None
    third = register(tmp_path / "third", 3)

    x = np.column_stack([A, B, COLOURS == "green", COLOURS == "red"]).astype(float)
    native = SGDClassifier(loss="log_loss", random_state=42)
    for part in (slice(0, 300), slice(300, 600), slice(0, 100)):
        native.partial_fit(x[part], LABEL[part], classes=["bad", "good"])
    manifest = Manifest.from_json((third / "manifest.json").read_bytes())
    scores = SafeModelFormats().load(manifest.model, third).score(x)
    np.testing.assert_allclose(scores["probabilities"], native.predict_proba(x), atol=1e-6)

    assert manifest.parent == "app.search/m@2"
    assert manifest.params == {"loss": "log_loss"}
    assert manifest.model.extra["state"] == "state.skops"
    assert manifest.files["state.skops"].size == (third / "state.skops").stat().st_size


def test_a_birch_tree_goes_on(tmp_path: Path):
    options = {"algorithm": "Birch", "target": "", "params": {"k": 2, "threshold": 0.2}}
    assert train(tmp_path / "first", ROWS[:300], **options).failure is None
    outcome = train(tmp_path / "second", ROWS[300:], register(tmp_path / "first", 1), **options)
    assert outcome.failure is None
    manifest = Manifest.from_json((tmp_path / "second" / "model" / "manifest.json").read_bytes())
    assert manifest.model.extra["state"] == "state.npz"


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        (
            {"algorithm": "GaussianNB"},
            "app.search/m@1 was trained with SGDClassifier, not GaussianNB, so it cannot be gone on from "
            " Use SGDClassifier, or name another model to begin anew.",
        ),
        (
            {"params": {"alpha": 0.5, "loss": "hinge"}},
            "app.search/m@1 was trained with alpha=0.0001, loss=log_loss, and partial_fit goes on with it as "
            "it is  Leave out alpha, loss, or name another model to begin anew.",
        ),
        (
            {"algorithm": "RandomForestClassifier"},
            "RandomForestClassifier cannot go on from an earlier model (partial_fit=true)  Leave out "
            "partial_fit and train on all rows: there is no limit to them.",
        ),
    ],
)
def test_what_cannot_go_on_says_what_to_do(tmp_path: Path, first: Path, more: dict[str, Any], wanted: str):
    assert sentence(train(tmp_path / "second", ROWS[300:], first, **more)) == wanted


def test_new_classes_and_new_values(tmp_path: Path, first: Path):
    known = train(tmp_path / "second", ["1,2,blue,bad\n", "1,2,blue,good\n", "0,1,red,bad\n"], first)
    assert known.failure is None
    assert [notice.text for notice in known.notices] == [
        "field 'colour' has values that the model does not know in 2 rows, such as 'blue': they count as none "
        "of the known ones"
    ]
    new = sentence(train(tmp_path / "third", ["1,2,red,bad\n", "1,2,red,ugly\n"], first))
    assert "has the value 'ugly', which the model does not know It knows bad, good" in new
    text = sentence(train(tmp_path / "fourth", ["high,2,red,bad\n"], first))
    assert "'a'" in text
    assert "'high'" in text


def test_a_deleted_or_changed_version(tmp_path: Path, first: Path):
    gone = sentence(train(tmp_path / "second", ROWS[300:], tmp_path / "nowhere"))
    assert gone.startswith("The version to go on from was deleted meanwhile")
    (first / "state.skops").write_bytes(b"other")
    assert "not those it was registered with" in sentence(train(tmp_path / "third", ROWS[300:], first))


def test_a_version_without_state(tmp_path: Path):
    assert train(tmp_path / "first", ROWS, partial_fit=False).failure is None
    outcome = train(tmp_path / "second", ROWS, register(tmp_path / "first", 1))
    assert "was not trained with partial_fit=true" in sentence(outcome)
