"""Native formats that run no code when they are read: skops with a fixed list of types, booster files.

skops rebuilds objects from a description, and only of types that are named as trusted. Beside its own
list, `AUDITED` names what scikit-learn's estimators hold. Each was read: its constructor and
``__setstate__`` copy numbers and do nothing else. The list in a file is only ever narrowed, never believed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kepler.algorithms._scores import BoosterScores, catboost_rows, native_scores
from kepler.core.algorithms import Fitted, Matrix, RawScores, Task
from kepler.core.errors import InvalidInput
from kepler.core.extras import need
from kepler.ports.formats import SavedModel, Scorer

AUDITED: frozenset[str] = frozenset(
    {
        "numpy.dtype",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.sparse._csr.csr_matrix",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.metrics._dist_metrics.ChebyshevDistance64",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    }
)
FILES = {
    "skops": "model.skops",
    "lightgbm": "model.lgb.txt",
    "xgboost": "model.xgb.ubj",
    "catboost": "model.cbm",
}
BLOCK_ROWS = 20_000


class NativeScorer:
    """Scores through the library that trained the model, in blocks, so that wide intermediates stay small."""

    def __init__(self, ask: Callable[[Matrix], RawScores], saved: SavedModel, size_bytes: int) -> None:
        self._ask = ask
        self._dtype = np.dtype(saved.dtype)
        self._n_features = int(saved.extra["n_features"])
        self.size_bytes = size_bytes

    def score(self, x: Matrix) -> RawScores:
        """Scores of ``x`` (n_rows, n_features)."""
        rows = np.ascontiguousarray(x, dtype=self._dtype)
        if rows.ndim != 2 or rows.shape[1] != self._n_features:
            raise InvalidInput(f"The model takes {self._n_features} features, not {rows.shape[1:]}")
        if not len(rows):
            one = self._ask(np.zeros((1, self._n_features), self._dtype))
            return {key: value[:0] for key, value in one.items()}
        if len(rows) <= BLOCK_ROWS:
            return self._ask(rows)
        parts = [self._ask(rows[start : start + BLOCK_ROWS]) for start in range(0, len(rows), BLOCK_ROWS)]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def save(fitted: Fitted, n_features: int, folder: Path) -> SavedModel:
    """Write the native file of ``fitted``. Raises `InvalidInput` when there is no safe one."""
    path = folder / FILES[fitted.native_format]
    trusted: tuple[str, ...] = ()
    if fitted.native_format == "skops":
        trusted = save_skops(fitted.estimator, path)
    elif fitted.native_format == "lightgbm":
        path.write_text(fitted.estimator.booster_.model_to_string())
    elif fitted.native_format == "xgboost":
        path.write_bytes(bytes(fitted.estimator.get_booster().save_raw("ubj")))
    else:
        fitted.estimator.save_model(str(path), format="cbm")
    return SavedModel(
        format=fitted.native_format,
        files=(path.name,),
        dtype=fitted.dtype,
        outputs=(),
        trusted_types=trusted,
        extra={
            "task": str(fitted.task),
            "n_features": str(n_features),
            "n_classes": str(fitted.n_classes),
            "class_index": ",".join(map(str, fitted.class_index)),
        },
    )


def load(saved: SavedModel, path: Path, *, threads: int) -> Scorer:
    """Read the native file at ``path``. Raises `InvalidInput` for what is not trusted."""
    reader = _READERS.get(saved.format)
    if reader is None:
        raise InvalidInput(f"The model's format {saved.format[:40]!r} is unknown")
    task = Task(saved.extra["task"])
    class_index = tuple(int(item) for item in saved.extra["class_index"].split(",") if item)
    n_classes = int(saved.extra["n_classes"])
    ask = reader(saved, path, threads, task, class_index, n_classes)
    return NativeScorer(ask, saved, path.stat().st_size * 2)


def save_skops(estimator: Any, path: Path) -> tuple[str, ...]:
    """Write ``estimator``; gives the types beyond skops' own that it needs. Raises `InvalidInput`."""
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    name = type(estimator).__name__
    try:
        data = skops.io.dumps(estimator)
    except UnsupportedTypeException as error:
        raise InvalidInput(f"{name} has no safe file format", cause=str(error)) from error
    needed = set(skops.io.get_untrusted_types(data=data))
    if needed - AUDITED:
        raise InvalidInput(
            f"{name} cannot be saved safely",
            cause=f"It holds {sorted(needed - AUDITED)[0]}, which is not an audited type",
            fix="Choose other parameters or another algorithm, or leave 'into' out.",
        )
    path.write_bytes(data)
    return tuple(sorted(needed))


def _read_skops(saved: SavedModel, path: Path, threads: int, *meta: Any) -> Callable[[Matrix], RawScores]:
    estimator = load_skops(path, AUDITED.intersection(saved.trusted_types))
    if "n_jobs" in estimator.get_params(deep=False):
        estimator.set_params(n_jobs=threads)
    task, class_index, n_classes = meta
    return native_scores(estimator, task, class_index, n_classes, threads)


def load_skops(path: Path, trusted: frozenset[str]) -> Any:
    """The estimator in ``path``. Raises `InvalidInput` when it holds types that are not ``trusted``."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.load(path, trusted=sorted(trusted))
    except UntrustedTypesFoundException as error:
        raise InvalidInput(
            "The model file is refused", cause="It holds types that are not trusted"
        ) from error
    except Exception as error:  # a damaged file fails in many ways, none of them the caller's concern
        raise InvalidInput("The model file cannot be read", cause=type(error).__name__) from error


def _read_lightgbm(saved: SavedModel, path: Path, threads: int, *meta: Any) -> Callable[[Matrix], RawScores]:
    lightgbm = need("lightgbm", extra="boosters")
    booster = lightgbm.Booster(model_str=path.read_text())
    return BoosterScores(lambda x: booster.predict(x, num_threads=threads), *meta)


def _read_xgboost(saved: SavedModel, path: Path, threads: int, *meta: Any) -> Callable[[Matrix], RawScores]:
    xgboost = need("xgboost", extra="boosters")
    booster = xgboost.Booster({"nthread": threads})
    booster.load_model(bytearray(path.read_bytes()))
    return BoosterScores(booster.inplace_predict, *meta)


def _read_catboost(saved: SavedModel, path: Path, threads: int, *meta: Any) -> Callable[[Matrix], RawScores]:
    catboost = need("catboost", extra="boosters")
    model = catboost.CatBoost()
    model.load_model(str(path), format="cbm")
    kind = "Probability" if meta[0] is Task.CLASSIFICATION else "RawFormulaVal"
    categorical = tuple(int(at) for at in model.get_cat_feature_indices())
    return BoosterScores(
        lambda x: model.predict(catboost_rows(x, categorical), prediction_type=kind, thread_count=threads),
        *meta,
    )


_READERS: dict[str, Callable[..., Callable[[Matrix], RawScores]]] = {
    "skops": _read_skops,
    "lightgbm": _read_lightgbm,
    "xgboost": _read_xgboost,
    "catboost": _read_catboost,
}
