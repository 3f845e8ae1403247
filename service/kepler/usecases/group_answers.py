"""What the models of all groups say about the rows they were trained on, at the rows' own places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core import metrics
from kepler.core.algorithms import RawScores, Run, Task
from kepler.core.outputs import OutputPlan
from kepler.core.records import Bools
from kepler.ports.training import PredictionSink
from kepler.usecases.scoring import BLOCK_ROWS

Int64 = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
FIGURES = {
    Task.CLASSIFICATION: "accuracy",
    Task.REGRESSION: "r2",
    Task.CLUSTERING: "clusters",
    Task.ANOMALY: "outlier_share",
    Task.TRANSFORM: "",
}


@dataclass(slots=True)
class GroupAnswers:
    """Scores by sent position; rows of no trained group, and rows that were dropped, are not ``answered``.

    ``wide`` keeps probabilities and components too: they are needed for predictions only.
    """

    task: Task
    n_sent: int
    wide: bool
    raw: RawScores = field(default_factory=dict[str, npt.NDArray[Any]])
    components: dict[str, Floats] = field(default_factory=dict[str, Floats])
    names: dict[str, int] = field(default_factory=dict[str, int])
    keys: dict[str, None] = field(default_factory=dict[str, None])
    answered: Bools = field(init=False)
    held: Bools = field(init=False)

    def __post_init__(self) -> None:
        self.answered = np.zeros(self.n_sent, dtype=np.bool_)
        self.held = np.zeros(self.n_sent, dtype=np.bool_)

    def columns(self, component_names: Sequence[str]) -> tuple[int, ...]:
        """The places of a group's components among those of all groups, new ones last."""
        return tuple(self.names.setdefault(name, len(self.names)) for name in component_names)

    def put(self, rows: Int64, raw: RawScores, component_names: Sequence[str]) -> None:
        """Note the scores of ``rows`` (sent positions)."""
        self.answered[rows] = True
        self.keys.update(dict.fromkeys(raw))
        for key, values in raw.items():
            if key == "components":
                if self.wide:
                    for at, name in enumerate(component_names):
                        out = self.components.get(name)
                        if out is None:
                            out = self.components[name] = np.full(self.n_sent, np.nan)
                        out[rows] = values[:, at]
                continue
            if key == "probabilities":
                if values.shape[1] == 2:
                    self._array("positive", values[:, 1])[rows] = values[:, 1]
                if not self.wide:
                    continue
            self._array(key, values)[rows] = values

    def _array(self, key: str, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if key not in self.raw:
            shape = (self.n_sent, *like.shape[1:])
            whole = np.issubdtype(like.dtype, np.integer)
            self.raw[key] = np.zeros(shape, np.int64) if whole else np.full(shape, np.nan)
        return self.raw[key]

    def write(
        self, plan: OutputPlan, sink: PredictionSink, run: Run, *, as_name: str, probabilities: bool
    ) -> None:
        """Give the new columns of all rows to ``sink``, in the order the rows were sent."""
        made = [self.components[name] for name in self.names]
        for start in range(0, self.n_sent, BLOCK_ROWS):
            block = slice(start, min(start + BLOCK_ROWS, self.n_sent))
            kept = self.answered[block]
            raw = {key: values[block][kept] for key, values in self.raw.items()}
            if made:
                raw["components"] = np.stack([values[block][kept] for values in made], axis=1)
            outputs = plan.build(raw, kept, as_name=as_name, probabilities=probabilities, blank_missing=True)
            sink.write(outputs, block.stop - start)
            run.progress(0.9 + 0.1 * block.stop / self.n_sent, "scoring")

    def metrics(self, y: npt.NDArray[Any] | None, n_classes: int) -> tuple[tuple[str, float], ...]:
        """Over the rows of all groups together, ``y`` by sent position; ``test_*`` over the held-out ones."""
        learned = self._metrics(y, self.answered & ~self.held, n_classes)
        if not self.held.any():
            return tuple(learned.items())
        tested = self._metrics(y, self.answered & self.held, n_classes)
        return (*learned.items(), *((f"test_{name}", value) for name, value in tested.items()))

    def _metrics(self, y: npt.NDArray[Any] | None, rows: Bools, n_classes: int) -> metrics.Metrics:
        if self.task is Task.CLASSIFICATION and y is not None:
            positive = self.raw.get("positive")
            chosen = None if positive is None else positive[rows]
            if chosen is not None and not np.isfinite(chosen).all():
                chosen = None
            return metrics.classification(y[rows], self.raw["label"][rows], n_classes, chosen)
        if self.task is Task.REGRESSION and y is not None:
            return metrics.regression(y[rows], self.raw["value"][rows])
        return metrics.anomaly(self.raw["normal"][rows]) if self.task is Task.ANOMALY else {}

    def figures(self, codes: Int64, y: npt.NDArray[Any] | None, n_groups: int) -> Floats:
        """`FIGURES` of each group (n_groups,) over its answered rows; ``codes`` and ``y`` by sent position."""
        rows = np.flatnonzero(self.answered & (codes >= 0))
        group = codes[rows]
        size = np.bincount(group, minlength=n_groups)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.task is Task.CLASSIFICATION and y is not None:
                hits = (self.raw["label"][rows] == y[rows]).astype(np.float64)
                return np.bincount(group, hits, n_groups) / size
            if self.task is Task.REGRESSION and y is not None:
                mean = np.bincount(group, y[rows], n_groups) / size
                spread = np.bincount(group, (y[rows] - mean[group]) ** 2, n_groups)
                left = np.bincount(group, (y[rows] - self.raw["value"][rows]) ** 2, n_groups)
                return np.where(spread > 0, 1.0 - left / spread, np.nan)
            if self.task is Task.ANOMALY:
                return np.bincount(group, (self.raw["normal"][rows] < 0).astype(np.float64), n_groups) / size
        out: Floats = np.full(n_groups, np.nan)
        if self.task is Task.CLUSTERING and len(rows):
            pairs = np.unique(np.stack([group, self.raw["cluster"][rows]], axis=1), axis=0)
            found = np.bincount(pairs[pairs[:, 1] >= 0, 0], minlength=n_groups)
            out = np.where(size > 0, found.astype(np.float64), np.nan)
        return out
