"""Training without files: rows, predictions and drafts in memory, and small algorithms on NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kepler.core.algorithms import (
    Algorithm,
    AlgorithmInfo,
    Fitted,
    Matrix,
    RawScores,
    Run,
    SummaryTable,
    Task,
    TrainingSet,
    algorithm,
    declared_by,
    param,
)
from kepler.core.datasets import TrainingTable, WideText, number_column, text_column
from kepler.core.errors import InvalidInput
from kepler.core.manifest import Manifest
from kepler.core.outputs import NumberOutput, Output
from kepler.core.saved import SavedModel


@dataclass
class RecordingRun:
    """A `Run` that remembers what it was told."""

    seed: int = 42
    threads: int = 1
    phases: list[str] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def progress(self, fraction: float, phase: str) -> None:
        self.fractions.append(fraction)
        if not self.phases or self.phases[-1] != phase:
            self.phases.append(phase)

    def notice(self, level: str, text: str) -> None:
        self.notices.append(text)


class MemoryRows:
    """Rows as lists of text; a field is numeric when every value reads as a number."""

    def __init__(self, columns: Mapping[str, Sequence[str]]) -> None:
        self._data = {name: list(values) for name, values in columns.items()}
        self.columns = tuple(columns)
        self.n_rows = len(next(iter(self._data.values()), []))

    def read(
        self,
        fields: Sequence[str],
        *,
        as_text: frozenset[str] = frozenset(),
        keys: frozenset[str] = frozenset(),
    ) -> TrainingTable:
        table = TrainingTable({}, self.n_rows)
        for name in fields:
            values = self._data[name]
            numbers = None if name in as_text else _numbers(values)
            if numbers is None:
                text = text_column(values)
                wide = len(text.categories) > 200 and name not in keys
                table.columns[name] = WideText(text.missing) if wide else text
                table.bad_numbers[name] = next((v for v in values if v and _numbers([v]) is None), "")
            else:
                table.columns[name] = number_column(numbers)
        return table


def _numbers(values: Sequence[str]) -> list[float | None] | None:
    try:
        return [float(value) if value else None for value in values]
    except ValueError:
        return None


@dataclass
class MemorySink:
    """Collects outputs as one list of texts per column, None where blank."""

    columns: tuple[str, ...]
    values: dict[str, list[Any]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    closed: bool = False

    def write(self, outputs: Sequence[Output], n_rows: int) -> None:
        assert tuple(output.name for output in outputs) == self.columns
        self.sizes.append(n_rows)
        for output in outputs:
            column = self.values.setdefault(output.name, [])
            if isinstance(output, NumberOutput):
                blank = np.zeros(n_rows, bool) if output.blank is None else output.blank
                assert len(output.values) == n_rows
                column += [None if b else v for v, b in zip(output.values.tolist(), blank, strict=True)]
            else:
                column += [None if code < 0 else output.labels[code] for code in output.codes.tolist()]

    def close(self) -> None:
        self.closed = True


class MemoryFiles:
    """`kepler.ports.training.TrainingFiles`; drafts lie in ``folder``."""

    predictions_name = "predictions.arrow"
    draft_name = "model"

    def __init__(self, folder: Path, columns: Mapping[str, Sequence[str]]) -> None:
        self.rows = MemoryRows(columns)
        self.sink: MemorySink | None = None
        self.manifest: Manifest | None = None
        self._folder = folder
        self.parents: dict[str, Manifest] = {}

    def predictions(self, columns: tuple[str, ...]) -> MemorySink:
        self.sink = MemorySink(columns)
        return self.sink

    def draft(self) -> Path:
        path = self._folder / "model"
        path.mkdir(exist_ok=True)
        return path

    def write_manifest(self, manifest: Manifest) -> None:
        self.manifest = Manifest.from_json(manifest.to_bytes())

    def parent(self, folder: str, digest: str) -> Manifest:
        return self.parents[folder]


@dataclass
class DoubleScorer:
    fitted: Fitted
    size_bytes: int = 1000

    def score(self, x: Matrix) -> RawScores:
        return self.fitted.score(x)


class DoubleFormats:
    """Keeps fitted estimators in memory under the draft's path."""

    def __init__(self) -> None:
        self.saved: dict[Path, Fitted] = {}
        self.samples: list[Matrix] = []

    def save(self, fitted: Fitted, sample: Matrix, folder: Path) -> SavedModel:
        self.saved[folder] = fitted
        self.samples.append(sample)
        return SavedModel("onnx", ("model.onnx",), fitted.dtype, tuple(fitted.score(sample[:1])))

    def load(self, saved: SavedModel, folder: Path, *, threads: int = 1) -> DoubleScorer:
        return DoubleScorer(self.saved[folder])


class ResumableFormats(DoubleFormats):
    """Also keeps estimators for partial_fit."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[tuple[str, Path], Any] = {}

    def save_state(self, fitted: Fitted, folder: Path) -> str:
        self.states["state.skops", folder] = fitted.estimator
        return "state.skops"

    def load_state(self, name: str, folder: Path) -> Any:
        return self.states[name, folder]


@algorithm("Nearest", task=Task.CLASSIFICATION, native_nulls=True, native_categoricals=True)
class Nearest:
    """The class whose mean is nearest; NaN counts as 0."""

    power: float = param(2.0)
    fail: str = param("")

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        if self.fail == "value":
            raise ValueError("power is wrong\nmore")
        if self.fail == "unexpected":
            raise KeyError("boom")
        sums = np.stack([np.nan_to_num(data.x[data.y == k]).sum(axis=0) for k in range(len(data.classes))])
        counts = np.bincount(data.y, minlength=len(data.classes)).astype(float)
        return _nearest((sums, counts))

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        more = self.fit(data, run).estimator
        sums, counts = (0.0, 0.0) if earlier is None else earlier
        return _nearest((sums + more[0], counts + more[1]))


def _nearest(estimator: Any) -> Fitted:
    sums, counts = estimator
    means = sums / np.maximum(counts, 1)[:, None]

    def score(x: Matrix) -> RawScores:
        distances = np.abs(np.nan_to_num(x)[:, None, :] - means[None]).sum(axis=2)
        weights = np.exp(-distances) + 1e-9
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        return {"label": probabilities.argmax(axis=1), "probabilities": probabilities}

    table = SummaryTable(("class", "rows"), tuple((str(k), str(int(n))) for k, n in enumerate(counts)))
    return Fitted(Task.CLASSIFICATION, estimator, score, summary={"default": table})


@algorithm("Lines", task=Task.REGRESSION)
class Lines:
    """Least squares."""

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        design = np.column_stack([data.x, np.ones(len(data.x))])
        weights = np.linalg.lstsq(design, data.y, rcond=None)[0]
        return Fitted(Task.REGRESSION, weights, lambda x: {"value": x @ weights[:-1] + weights[-1]})


@algorithm("Halves", task=Task.CLUSTERING, savable=False)
class Halves:
    """Two clusters by the first column; answers only for its training rows."""

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        cluster = (data.x[:, 0] > np.median(data.x[:, 0])).astype(np.int64)

        def refuse(x: Matrix) -> RawScores:
            raise AssertionError("asked for new rows")

        scores: RawScores = {"cluster": cluster}
        return Fitted(Task.CLUSTERING, None, refuse, native_format="", training_scores=scores)


@algorithm("Stale", task=Task.CLASSIFICATION, savable=False)
class Stale:
    """A classifier that answers only for its training rows."""

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        return Fitted(Task.CLASSIFICATION, None, lambda x: {}, training_scores={"label": data.y})


@algorithm("Far", task=Task.ANOMALY)
class Far:
    """Rows far from the mean are outliers."""

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        centre = data.x.mean(axis=0)

        def score(x: Matrix) -> RawScores:
            distance = np.abs(x - centre).sum(axis=1)
            return {"normal": np.where(distance > 2.0, -1, 1), "score": distance}

        return Fitted(Task.ANOMALY, centre, score)


@algorithm("Centre", task=Task.TRANSFORM, output_prefix="CE_")
class Centre:
    """Subtracts the mean."""

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        centre = data.x.mean(axis=0)
        names = tuple(f"CE_{name}" for name in data.feature_names)
        return Fitted(Task.TRANSFORM, centre, lambda x: {"components": x - centre}, component_names=names)


@algorithm("Drift", task=Task.TRANSFORM, output_prefix="DR_")
class Drift:
    """Subtracts the mean of all rows it ever saw."""

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        return self.partial_fit(data, run, None)

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        before, rows = (0.0, 0) if earlier is None else earlier
        total, count = before + data.x.sum(axis=0), rows + len(data.x)
        names = tuple(f"DR_{name}" for name in data.feature_names)
        return Fitted(
            Task.TRANSFORM,
            (total, count),
            lambda x: {"components": x - total / count},
            component_names=names,
        )


class DoubleRegistry:
    """The algorithms above by name."""

    def __init__(self) -> None:
        classes = (Nearest, Lines, Halves, Stale, Far, Centre, Drift)
        self._infos = {info.name: info for cls in classes for info in declared_by(cls)}

    def find(self, name: str) -> AlgorithmInfo:
        if name not in self._infos:
            raise InvalidInput(f"Unknown algorithm {name!r}")
        return self._infos[name]

    def create(self, info: AlgorithmInfo, values: Mapping[str, Any]) -> Algorithm:
        instance = info.factory()
        for name, declared in info.params.items():
            setattr(instance, name, values.get(name, declared.default))
        return instance

    def without(self, name: str, **changes: Any) -> DoubleRegistry:
        self._infos[name] = replace(self._infos[name], **changes)
        return self
