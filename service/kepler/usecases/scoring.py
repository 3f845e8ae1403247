"""Answers for the rows of a training: for the caller in the order they were sent, and for the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kepler.core import metrics
from kepler.core.algorithms import Fitted, Matrix, RawScores, Run, Task
from kepler.core.outputs import OutputPlan
from kepler.core.records import Bools
from kepler.core.targets import Target
from kepler.ports.training import PredictionSink

BLOCK_ROWS = 50_000
METRIC_ROWS = 1_000_000  # with output=summary|none metrics come from evenly spaced rows beyond this
_COLLECTED = ("label", "value", "cluster", "normal")


def cast_rows(x: Matrix, dtype: str) -> Matrix:
    """``x`` as scorers take it: C order and their dtype."""
    return np.ascontiguousarray(x, dtype=dtype)


@dataclass(slots=True)
class Answers:
    """What a model says about the kept rows, in their order: one array per key, `positive` for two classes."""

    task: Task
    raw: RawScores

    @classmethod
    def empty(cls, task: Task, n_rows: int, template: RawScores) -> Answers:
        raw = {key: np.empty(n_rows, dtype=template[key].dtype) for key in _COLLECTED if key in template}
        if "probabilities" in template and template["probabilities"].shape[1] == 2:
            raw["positive"] = np.empty(n_rows, dtype=np.float64)
        return cls(task, raw)

    def put(self, rows: slice | Bools, raw: RawScores) -> None:
        for key, out in self.raw.items():
            out[rows] = raw["probabilities"][:, 1] if key == "positive" else raw[key]

    def metrics(self, target: Target | None, rows: Bools | slice, x: Matrix, seed: int) -> metrics.Metrics:
        """Metrics over ``rows`` of the answers; ``x`` are the rows they are about."""
        raw = {key: values[rows] for key, values in self.raw.items()}
        if self.task is Task.CLASSIFICATION and target:
            return metrics.classification(
                target.y[rows], raw["label"], len(target.classes), raw.get("positive")
            )
        if self.task is Task.REGRESSION and target:
            return metrics.regression(target.y[rows], raw["value"])
        if self.task is Task.CLUSTERING:
            return metrics.clustering(x[rows], raw["cluster"], seed)
        return metrics.anomaly(raw["normal"]) if self.task is Task.ANOMALY else {}


def score_blocks(
    fitted: Fitted, x: Matrix, bounds: Iterator[tuple[int, int]]
) -> Iterator[tuple[int, int, RawScores]]:
    """Raw scores of ``x`` from start to stop for each of ``bounds``; empty where they are equal."""
    template: RawScores | None = None
    for start, stop in bounds:
        if start == stop:
            template = template or _score(fitted, x, 0, min(1, len(x)))
            yield start, stop, {key: values[:0] for key, values in template.items()}
            continue
        raw = _score(fitted, x, start, stop)
        template = template or raw
        yield start, stop, raw


def _score(fitted: Fitted, x: Matrix, start: int, stop: int) -> RawScores:
    if fitted.training_scores is not None:
        return {key: values[start:stop] for key, values in fitted.training_scores.items()}
    return fitted.score(cast_rows(x[start:stop], fitted.dtype))


def answer_all(
    fitted: Fitted, x: Matrix, kept: Bools | None, n_sent: int, plan: OutputPlan, sink: PredictionSink,
    run: Run, *, as_name: str, probabilities: bool,
) -> Answers:  # fmt: skip
    """Write the new columns of all ``n_sent`` rows to ``sink``; rows that were not kept are blank."""
    answers: Answers | None = None
    starts = range(0, n_sent, BLOCK_ROWS)
    for at, (start, stop, raw) in zip(
        starts, score_blocks(fitted, x, _sent_bounds(kept, n_sent)), strict=True
    ):
        if answers is None:
            answers = Answers.empty(plan.task, len(x), raw)
        answers.put(slice(start, stop), raw)
        here = None if kept is None else kept[at : at + BLOCK_ROWS]
        size = min(BLOCK_ROWS, n_sent - at)
        outputs = plan.build(raw, here, as_name=as_name, probabilities=probabilities)
        sink.write(outputs, size)
        run.progress(0.9 + 0.1 * (at + size) / n_sent, "scoring")
    assert answers is not None
    return answers


def answer_rows(fitted: Fitted, x: Matrix, task: Task) -> Answers:
    """Answers for ``x`` alone, nothing written."""
    answers: Answers | None = None
    for start, stop, raw in score_blocks(fitted, x, _bounds(len(x))):
        if answers is None:
            answers = Answers.empty(task, len(x), raw)
        answers.put(slice(start, stop), raw)
    assert answers is not None
    return answers


def _bounds(n_rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n_rows, BLOCK_ROWS):
        yield start, min(start + BLOCK_ROWS, n_rows)


def _sent_bounds(kept: Bools | None, n_sent: int) -> Iterator[tuple[int, int]]:
    """For each block of sent rows, which of the kept rows lie in it."""
    start = 0
    for at in range(0, n_sent, BLOCK_ROWS):
        block = min(BLOCK_ROWS, n_sent - at)
        stop = start + (block if kept is None else int(np.count_nonzero(kept[at : at + block])))
        yield start, stop
        start = stop
