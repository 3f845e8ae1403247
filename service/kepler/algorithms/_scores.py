"""What estimators answer, as `kepler.core.algorithms.RawScores`.

The same classes serve a freshly fitted estimator and one read back from its native file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import Matrix, RawScores, Task
from kepler.core.errors import InvalidInput
from kepler.core.extras import need

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@lru_cache(maxsize=1)
def _pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def threads_limited(threads: int) -> Iterator[None]:
    """Keep the numeric libraries' own thread pools to ``threads``; looking for them anew costs milliseconds."""
    with _pools().limit(limits=max(1, threads)):
        yield


class Scores:
    """Answers of one estimator; subclasses say how to ask it."""

    def __init__(self, estimator: Any, threads: int = 1) -> None:
        self.estimator = estimator
        self.threads = threads

    def __call__(self, x: Matrix) -> RawScores:
        with threads_limited(self.threads):
            return self.ask(x)

    def ask(self, x: Matrix) -> RawScores:
        raise TypeError(f"{type(self).__name__} cannot be asked")

    def options(self) -> dict[str, Any]:
        # CatBoost alone takes its threads with each question.
        return (
            {"thread_count": self.threads} if type(self.estimator).__module__.startswith("catboost") else {}
        )


class ClassScores(Scores):
    """Labels, and probabilities where the estimator has them, in terms of all classes of the target.

    ``argmax`` spares a second pass where the label is by definition the likeliest class.
    """

    def __init__(
        self, estimator: Any, class_index: tuple[int, ...], n_classes: int, *, argmax: bool, threads: int = 1
    ) -> None:
        super().__init__(estimator, threads)
        self.class_index = np.asarray(class_index, dtype=np.int64)
        self.n_classes = n_classes
        self.argmax = argmax

    def ask(self, x: Matrix) -> RawScores:
        asked = getattr(self.estimator, "predict_proba", None)
        given = None if asked is None else np.asarray(asked(x, **self.options()), dtype=np.float64)
        if given is None or not self.argmax:
            dense = np.asarray(self.estimator.predict(x, **self.options())).reshape(-1).astype(np.int64)
        else:
            dense = np.argmax(given, axis=1)
        return class_scores(dense, given, self.class_index, self.n_classes)


def class_scores(dense: Ints, given: Floats | None, class_index: Ints, n_classes: int) -> RawScores:
    """From the estimator's own classes to those of the target; one it never met has probability 0."""
    scores: RawScores = {"label": class_index[dense]}
    if given is not None:
        if given.shape[1] != n_classes:
            wide = np.zeros((len(given), n_classes))
            wide[:, class_index] = given
            given = wide
        scores["probabilities"] = given
    return scores


class ValueScores(Scores):
    def ask(self, x: Matrix) -> RawScores:
        value = self.estimator.predict(x, **self.options())
        return {"value": np.asarray(value, dtype=np.float64).reshape(-1)}


class CentreScores(Scores):
    """Clusters, and the distance to the cluster's centre where clusters have one each."""

    def ask(self, x: Matrix) -> RawScores:
        cluster = np.asarray(self.estimator.predict(x), dtype=np.int64)
        scores: RawScores = {"cluster": cluster}
        centres = getattr(self.estimator, "cluster_centers_", None)
        if isinstance(centres, np.ndarray) and (len(cluster) == 0 or cluster.max() < len(centres)):
            # Not through transform(): its |x|² - 2xc + |c|² loses half the digits near the centre.
            scores["distance"] = np.linalg.norm(x - centres[cluster], axis=1)
        return scores


class ComponentScores(Scores):
    def ask(self, x: Matrix) -> RawScores:
        made = self.estimator.transform(x)
        dense = made.toarray() if hasattr(made, "toarray") else made
        return {"components": np.asarray(dense, dtype=np.float64)}


class AnomalyScores(Scores):
    """1 for normal rows and -1 for outliers; the score is higher for stranger rows."""

    def ask(self, x: Matrix) -> RawScores:
        if type(self.estimator).__name__ == "IsolationForest":
            strange = -self.estimator.score_samples(x)
            outlier = strange > -self.estimator.offset_
        else:
            strange = -np.asarray(self.estimator.decision_function(x)).reshape(-1)
            outlier = np.asarray(self.estimator.predict(x)).reshape(-1) < 0
        return {"normal": np.where(outlier, -1, 1).astype(np.int64), "score": strange.astype(np.float64)}


class BoosterScores:
    """Answers of a booster read back from its own file, which gives probabilities or values as numbers."""

    def __init__(
        self, predict: Callable[[Matrix], Any], task: Task, class_index: tuple[int, ...], n_classes: int
    ) -> None:
        self.predict = predict
        self.task = task
        self.class_index = np.asarray(class_index, dtype=np.int64)
        self.n_classes = n_classes

    def __call__(self, x: Matrix) -> RawScores:
        given = np.asarray(self.predict(x), dtype=np.float64)
        if self.task is Task.REGRESSION:
            return {"value": given.reshape(-1)}
        if given.ndim == 1:
            given = np.stack([1.0 - given, given], axis=1)
        return class_scores(np.argmax(given, axis=1), given, self.class_index, self.n_classes)


def catboost_rows(x: Matrix, categorical: Sequence[int]) -> Any:
    """``x`` as CatBoost takes it: itself, or with categories as texts of their codes, "-1" for no value.

    Categories stand last, as `kepler.core.preparing` puts them.
    """
    if not len(categorical):
        return x
    catboost = need("catboost", extra="boosters")
    first = min(categorical)
    if sorted(categorical) != list(range(first, x.shape[1])):
        raise InvalidInput("The columns of categories are not the last ones")
    given = np.nan_to_num(x[:, first:], nan=-1.0, posinf=-1.0, neginf=-1.0).astype(np.int64)
    present, place = np.unique(given, return_inverse=True)
    texts = np.array([str(code).encode() for code in present.tolist()], dtype=object)
    numbers = np.ascontiguousarray(x[:, :first], dtype=np.float32) if first else None
    return catboost.FeaturesData(num_feature_data=numbers, cat_feature_data=texts[place.reshape(given.shape)])


def native_scores(
    estimator: Any, task: Task, class_index: tuple[int, ...], n_classes: int, threads: int
) -> Scores:
    """Scores of a scikit-learn estimator read back from its file."""
    if task is Task.CLASSIFICATION:
        return ClassScores(estimator, class_index, n_classes, argmax=False, threads=threads)
    kinds: dict[Task, type[Scores]] = {
        Task.REGRESSION: ValueScores,
        Task.CLUSTERING: CentreScores,
        Task.ANOMALY: AnomalyScores,
        Task.TRANSFORM: ComponentScores,
    }
    return kinds[task](estimator, threads)
