"""kfold_cv: measure an algorithm on folds of the rows and keep no model.

Every row is answered by the fit that did not see it. Metrics are ``cv_<name>_mean``, ``cv_<name>_std`` and
``cv_<name>_<fold>``, folds counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kepler.core.algorithms import AlgorithmInfo, Fitted, RawScores, Run, Task, TrainingSet
from kepler.core.errors import InvalidInput
from kepler.core.metrics import Metrics
from kepler.core.splits import folds
from kepler.core.training import TrainSpec
from kepler.usecases.prepare import Chosen, PreparedRows, build
from kepler.usecases.scoring import Answers, cast_rows

Fit = Callable[[TrainingSet], Fitted]


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """The last fold's ``prepared`` and ``fitted``, with the out-of-fold scores of every kept row."""

    prepared: PreparedRows
    fitted: Fitted
    metrics: tuple[tuple[str, float], ...]


def check_folds(spec: TrainSpec, info: AlgorithmInfo) -> None:
    """Raise `InvalidInput` where folds make no sense."""
    if not info.task.needs_target:
        raise InvalidInput(
            f"kfold_cv measures predictions of a field, and {info.name} predicts none",
            fix="Leave out kfold_cv.",
        )
    if spec.model:
        raise InvalidInput(
            "kfold_cv keeps no model, so it does not go with 'into'", fix="Leave out one of them."
        )
    if spec.test_size:
        raise InvalidInput(
            "kfold_cv and test_size are two ways to hold out rows", fix="Leave out one of them."
        )


def cross_validate(
    spec: TrainSpec, info: AlgorithmInfo, chosen: Chosen, fit: Fit, run: Run
) -> CrossValidated:
    """Fit once per fold. Preparation that learns from rows (imputing, target encoding) is learned per fold."""
    target = chosen.target
    assert target is not None
    n_rows = chosen.selection.n_kept
    fold = folds(n_rows, spec.kfold_cv, target.y if info.task is Task.CLASSIFICATION else None)
    learned = spec.nulls == "impute" or spec.categoricals == "target"
    prepared = build(chosen, None, spec.seed, consume=False)
    whole: RawScores = {}
    answers: Answers | None = None
    fitted: Fitted | None = None
    per_fold: list[Metrics] = []
    for k in range(spec.kfold_cv):
        run.progress(0.4 + 0.5 * k / spec.kfold_cv, "fitting")
        held = fold == k
        mine = build(chosen, ~held, spec.seed, consume=False) if learned else prepared
        mine.train = ~held
        fitted = fit(mine.training_set())
        if fitted.training_scores is not None:
            raise InvalidInput(
                f"{info.name} cannot answer for rows it has not seen", fix="Leave out kfold_cv."
            )
        raw = fitted.score(cast_rows(mine.x[held], fitted.dtype))
        if answers is None:
            answers = Answers.empty(info.task, n_rows, raw)
            whole = {key: np.empty((n_rows, *values.shape[1:]), values.dtype) for key, values in raw.items()}
        answers.put(held, raw)
        for key, values in raw.items():
            whole[key][held] = values
        per_fold.append(answers.metrics(target, held, mine.x, spec.seed))
    assert fitted is not None
    fitted.training_scores = whole
    prepared.train = None
    return CrossValidated(prepared, fitted, _summarized(per_fold))


def _summarized(per_fold: list[Metrics]) -> tuple[tuple[str, float], ...]:
    names = [name for name in per_fold[0] if all(name in item for item in per_fold)]
    out: list[tuple[str, float]] = []
    for name in names:
        values = [item[name] for item in per_fold]
        out += [(f"cv_{name}_mean", float(np.mean(values))), (f"cv_{name}_std", float(np.std(values)))]
        out += [(f"cv_{name}_{k}", value) for k, value in enumerate(values, start=1)]
    return tuple(out)
