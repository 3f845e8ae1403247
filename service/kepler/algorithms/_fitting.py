"""What every scikit-learn style algorithm shares: threads, seeds, warnings, class indices, scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kepler.algorithms._scores import ClassScores, Scores, ValueScores, threads_limited
from kepler.core.algorithms import (
    Fitted,
    Matrix,
    RawScores,
    Run,
    SummaryTable,
    Task,
    TrainingSet,
    declared_by,
    param,
)
from kepler.core.errors import InvalidInput

Summary = Mapping[str, SummaryTable]
SEED_LIMIT = 2**32 - 1


class Seeded:
    """Parameters of every algorithm that draws random numbers."""

    random_state: int | None = param(
        None,
        "int",
        low=0,
        high=SEED_LIMIT,
        help="Seed of this algorithm; left out, the run's seed.",
        aliases=("seed",),
    )

    def seed_for(self, run: Run) -> int:
        return run.seed % (SEED_LIMIT + 1) if self.random_state is None else self.random_state


@contextmanager
def quiet_fit(run: Run, name: str) -> Iterator[None]:
    """Fit within ``run.threads``; a library's warnings become notices and its refusals `InvalidInput`."""
    with threads_limited(run.threads), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        # How scikit-learn refuses rows, or a missing target.
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f"{name} could not be trained on these rows", cause=first_line(error)
            ) from error
    told: set[str] = set()
    for item in caught:
        text = _notice_for(item)
        if text and text not in told:
            told.add(text)
            run.notice("warn", f"{name}: {text}")


def _notice_for(item: warnings.WarningMessage) -> str:
    kind = item.category.__name__
    if kind == "ConvergenceWarning":
        return "it had not converged when its iterations ran out; raise max_iter or scale the fields first."
    # Deprecations and the like concern us, not the user.
    return "" if issubclass(item.category, DeprecationWarning | FutureWarning) else first_line(item.message)


def first_line(error: object, limit: int = 300) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:limit] if lines else type(error).__name__


def matrix(data: TrainingSet, dtype: str, order: Literal["C", "K"] = "C") -> Matrix:
    """The matrix as the algorithm sees it; a copy, so that no library can change the caller's rows.

    ``order`` K leaves it column by column as it is prepared: quicker to copy, and what LAPACK works on.
    """
    _need_rows(data)
    x: Matrix = np.array(data.x, dtype=dtype, order=order, copy=True)
    return x


def only_read(data: TrainingSet) -> Matrix:
    """The rows without a copy, locked: for estimators that write nothing or copy for themselves."""
    _need_rows(data)
    x = data.x.view()
    x.flags.writeable = False
    return x


def _need_rows(data: TrainingSet) -> None:
    if not len(data.x):
        raise InvalidInput("No rows are left to train on", fix="Widen the search or use nulls=impute.")


def dense_classes(data: TrainingSet, name: str) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
    """Target as 0..m-1 over the classes that occur, and which they are. Raises unless there are two."""
    present, dense = np.unique(np.asarray(data.y, dtype=np.int64), return_inverse=True)
    if len(present) < 2:
        only = data.classes[int(present[0])] if len(present) and data.classes else "none"
        raise InvalidInput(
            f"{name} needs at least two classes and the target has only {only!r}",
            fix="Choose another target or widen the search.",
        )
    return dense.astype(np.int64).reshape(-1), tuple(int(item) for item in present)


def fit_classifier(
    estimator: Any,
    data: TrainingSet,
    run: Run,
    *,
    dtype: str = "float64",
    native_format: str = "skops",
    argmax: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Fitted:
    """Fit on class indices. ``argmax`` spares a second pass where the label is the likeliest class.

    ``options`` are passed on to the estimator's ``fit``.
    """
    name = type(estimator).__name__
    x = matrix(data, dtype)
    y, class_index = dense_classes(data, name)
    with quiet_fit(run, name):
        estimator.fit(x, y, **(options or {}))
    n_classes = max(len(data.classes), class_index[-1] + 1)
    return Fitted(
        task=Task.CLASSIFICATION,
        estimator=estimator,
        score=ClassScores(estimator, class_index, n_classes, argmax=argmax, threads=run.threads),
        dtype=dtype,
        native_format=native_format,
        n_classes=n_classes,
        class_index=class_index,
    )


def fit_regressor(
    estimator: Any,
    data: TrainingSet,
    run: Run,
    *,
    dtype: str = "float64",
    native_format: str = "skops",
    order: Literal["C", "K"] = "C",
    options: Mapping[str, Any] | None = None,
) -> Fitted:
    """Fit on numbers, in the ``order`` of `matrix`; ``options`` as of `fit_classifier`."""
    name = type(estimator).__name__
    x = matrix(data, dtype, order)
    y = np.array(data.y, dtype=np.float64)
    with quiet_fit(run, name):
        estimator.fit(x, y, **(options or {}))
    return Fitted(
        Task.REGRESSION, estimator, ValueScores(estimator), dtype=dtype, native_format=native_format
    )


def fit_unsupervised(
    estimator: Any,
    data: TrainingSet,
    run: Run,
    task: Task,
    scores: Scores | None,
    *,
    dtype: str = "float64",
    copy: bool = True,
) -> Fitted:
    """Fit without a target. Without ``scores`` only the training rows have an answer, and nothing is saved.

    Without ``copy`` the estimator gets the rows as they are, see `only_read`.
    """
    x = matrix(data, dtype) if copy else only_read(data)
    with quiet_fit(run, type(estimator).__name__):
        estimator.fit(x)
    if scores is None:
        return Fitted(task, estimator, _only_training_rows, dtype=dtype, native_format="")
    scores.threads = run.threads
    return Fitted(task, estimator, scores, dtype=dtype)


def go_on_classifier(estimator: Any, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
    """The library's own `partial_fit` on class indices, of ``earlier`` or for the first rows of ``estimator``.

    The classes are those of the first version and stay; a later part need not have a row of each.
    """
    going = estimator if earlier is None else earlier
    x = matrix(data, "float64")
    y = np.array(data.y, dtype=np.int64)
    class_index = tuple(range(len(data.classes)))
    with quiet_fit(run, type(going).__name__):
        going.partial_fit(x, y, classes=np.arange(len(data.classes)))
    return Fitted(
        task=Task.CLASSIFICATION,
        estimator=going,
        score=ClassScores(going, class_index, len(class_index), argmax=False, threads=run.threads),
        n_classes=len(class_index),
        class_index=class_index,
    )


def go_on_regressor(estimator: Any, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
    """As `go_on_classifier`, on numbers."""
    going = estimator if earlier is None else earlier
    x = matrix(data, "float64")
    y = np.array(data.y, dtype=np.float64)
    with quiet_fit(run, type(going).__name__):
        going.partial_fit(x, y)
    return Fitted(Task.REGRESSION, going, ValueScores(going))


def go_on_unsupervised(
    estimator: Any, data: TrainingSet, run: Run, task: Task, scores: type[Scores], earlier: Any
) -> Fitted:
    """As `go_on_classifier`, without a target."""
    going = estimator if earlier is None else earlier
    x = matrix(data, "float64")
    with quiet_fit(run, type(going).__name__):
        going.partial_fit(x)
    return Fitted(task, going, scores(going, run.threads))


def once_only(run: Run, algorithm: Any) -> None:
    """Say that parameters about repeated passes do not count: `partial_fit` makes one pass."""
    given = [
        name
        for info in declared_by(type(algorithm))
        for name in ("max_iter", "tol")
        if name in info.params and getattr(algorithm, name) != info.params[name].default
    ]
    if given:
        run.notice(
            "info",
            f"partial_fit passes over the rows of each search once; {' and '.join(given)} do not count",
        )


def _only_training_rows(x: Matrix) -> RawScores:
    raise InvalidInput(
        "This algorithm answers only for the rows it was trained on", fix="Train on these rows."
    )
