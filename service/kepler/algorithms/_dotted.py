"""Any public estimator of scikit-learn by its dotted name, such as ``sklearn.linear_model.Lars``.

Only names that `sklearn.utils.all_estimators` lists are taken: nothing else is imported on a user's word.
"""

from __future__ import annotations

import inspect
import warnings
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np

from kepler.algorithms._fitting import SEED_LIMIT, fit_classifier, fit_regressor, fit_unsupervised
from kepler.algorithms._scores import AnomalyScores, CentreScores, ComponentScores
from kepler.algorithms._tables import params_table
from kepler.core.algorithms import AlgorithmInfo, Fitted, Param, Run, Task, TrainingSet
from kepler.core.errors import InvalidInput, nearest

# Set by the run, or of no use to a search.
_HIDDEN = frozenset({"n_jobs", "verbose", "warm_start", "copy", "copy_X", "copy_x", "cache_size", "memory"})
_SEED = "random_state"
_SEED_PARAM = Param(
    None, "int", 0, SEED_LIMIT, help="Seed of this algorithm; left out, the run's seed.", name=_SEED
)


@lru_cache(maxsize=1)
def _estimators() -> dict[str, type]:
    """Public dotted name, in lower case → class."""
    from sklearn.utils import all_estimators

    found: dict[str, type] = {}
    for name, cls in all_estimators():
        parts = cls.__module__.split(".")
        public = next((i for i, part in enumerate(parts) if part.startswith("_")), len(parts))
        found[".".join([*parts[:public], name]).lower()] = cls
    return found


@lru_cache(maxsize=256)
def dotted_info(name: str) -> AlgorithmInfo:
    """Describe the estimator called ``name``. Raises `InvalidInput` when it is none, or fits no task."""
    cls = _estimators().get(name.lower())
    if cls is None:
        known = {key: f"{key.rpartition('.')[0]}.{value.__name__}" for key, value in _estimators().items()}
        close = [known[key] for key in nearest(name[:100].lower(), list(known))]
        raise InvalidInput(
            f"Unknown algorithm {name[:100]!r}",
            cause="scikit-learn has no public estimator of this name",
            fix=f"The nearest are {', '.join(close)}.",
        )
    public = f"{name.lower().rpartition('.')[0]}.{cls.__name__}"
    required = [item.name for item in _signature(cls) if item.default is inspect.Parameter.empty]
    if required:
        raise InvalidInput(f"{public} cannot be trained from a search", cause=f"It needs {required[0]}")
    task = _task_of(cls, public)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what scikit-learn says to programmers about deprecated classes
        try:
            savable, native_nulls = _savable(cls, task), _takes_missing(cls)
        except (AttributeError, ValueError) as error:
            raise InvalidInput(
                f"{public} cannot be trained from a search", cause="It needs another estimator inside"
            ) from error
    factory = type(
        cls.__name__, (_Dotted,), {"cls": cls, "task": task, "savable": savable, "__module__": __name__}
    )
    return AlgorithmInfo(
        name=public,
        task=task,
        factory=factory,
        params=_params(cls),
        savable=savable,
        native_nulls=native_nulls,
        output_prefix=cls.__name__.upper() if task is Task.TRANSFORM else "",
        doc=(inspect.getdoc(cls) or "").partition("\n\n")[0],
        origin=cls.__module__,
    )


def _task_of(cls: type, public: str) -> Task:
    from sklearn.base import ClassifierMixin, ClusterMixin, OutlierMixin, RegressorMixin, TransformerMixin

    # The order matters: KMeans transforms too, and IsolationForest is no classifier.
    kinds = (
        (ClassifierMixin, Task.CLASSIFICATION),
        (RegressorMixin, Task.REGRESSION),
        (OutlierMixin, Task.ANOMALY),
        (ClusterMixin, Task.CLUSTERING),
        (TransformerMixin, Task.TRANSFORM),
    )
    for mixin, task in kinds:
        if issubclass(cls, mixin):
            return task
    raise InvalidInput(
        f"{public} cannot be trained from a search",
        cause="It is no classifier, regressor, clusterer, outlier detector or transformer",
    )


def _savable(cls: type, task: Task) -> bool:
    needed = {Task.CLUSTERING: "predict", Task.ANOMALY: "decision_function", Task.TRANSFORM: "transform"}
    return task.needs_target or cls.__name__ == "IsolationForest" or hasattr(cls(), needed[task])


def _takes_missing(cls: type) -> bool:
    from sklearn.utils import get_tags

    return bool(get_tags(cls()).input_tags.allow_nan)


def _signature(cls: type) -> list[inspect.Parameter]:
    found = inspect.signature(cls).parameters.values()
    return [item for item in found if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)]


def _params(cls: type) -> dict[str, Param]:
    constraints: dict[str, Any] = getattr(cls, "_parameter_constraints", {})
    found: dict[str, Param] = {}
    for item in _signature(cls):
        if item.name == _SEED:
            found[_SEED] = _SEED_PARAM
        elif item.name not in _HIDDEN:
            param = _param(item.name, item.default, constraints.get(item.name, []))
            if param is not None:
                found[item.name] = param
    return found


def _param(name: str, default: Any, constraint: Any) -> Param | None:
    """What a text can set, of what scikit-learn takes; None when a text can set nothing."""
    kinds: list[str] = []
    choices: list[str] = []
    lows: list[float] = []
    highs: list[float] = []
    bounded = True
    for rule in constraint if isinstance(constraint, list) else []:
        if rule == "boolean":
            kinds.append("bool")
        elif rule is None:
            choices.append("none")
        elif hasattr(rule, "closed"):  # Interval
            kinds.append("int" if rule.type is Integral or rule.type is int else "float")
            bounded = bounded and rule.left is not None
            lows.append(float(rule.left) if rule.left is not None else -np.inf)
            highs.append(float(rule.right) if rule.right is not None else np.inf)
        elif rule in (Integral, Real, int, float):
            kinds.append("int" if rule in (Integral, int) else "float")
            lows.append(-np.inf)
            highs.append(np.inf)
        elif hasattr(rule, "options"):  # Options and StrOptions
            gone = set(getattr(rule, "deprecated", ()))
            choices += sorted(
                str(option) for option in rule.options if isinstance(option, str) and option not in gone
            )
    if choices:
        kinds.append("choice")
    # int before float, so that "3" is a count; choice last, so that "none" is read first of all.
    order = [kind for kind in ("bool", "int", "float", "choice") if kind in kinds]
    if not order or (order == ["choice"] and choices == ["none"]):
        return None
    low, high = min(lows, default=-np.inf), max(highs, default=np.inf)
    return Param(
        _plain(default),
        "|".join(order),
        None if np.isinf(low) else low,
        None if np.isinf(high) else high,
        tuple(dict.fromkeys(choices)),
        name=name,
    )


def _plain(default: Any) -> Any:
    """Defaults end up in JSON; what cannot is shown as text and never passed on."""
    return default if isinstance(default, bool | int | float | str | None) else str(default)


class _Dotted:
    """Fits one estimator of scikit-learn with the parameters that were given."""

    cls: Any
    task: Task
    savable: bool

    def fit(self, data: TrainingSet, run: Run) -> Fitted:
        estimator = self._estimator(run)
        dtype = "float32" if _reads_float32(self.cls) else "float64"
        if self.task is Task.CLASSIFICATION:
            fitted = fit_classifier(estimator, data, run, dtype=dtype)
        elif self.task is Task.REGRESSION:
            fitted = fit_regressor(estimator, data, run, dtype=dtype)
        elif self.savable:
            kinds: dict[Task, Any] = {
                Task.CLUSTERING: CentreScores,
                Task.ANOMALY: AnomalyScores,
                Task.TRANSFORM: ComponentScores,
            }
            fitted = fit_unsupervised(
                estimator, data, run, self.task, kinds[self.task](estimator), dtype=dtype
            )
        else:
            fitted = self._fit_only(estimator, data, run)
        if self.task is Task.TRANSFORM:
            fitted.component_names = _component_names(fitted, data)
        shown = {key: value for key, value in estimator.get_params(deep=False).items() if key not in _HIDDEN}
        params = params_table(shown)
        fitted.summary = {"default": params, "params": params}
        return fitted

    def _estimator(self, run: Run) -> Any:
        known = {item.name for item in _signature(self.cls)}
        chosen = {
            name: getattr(self, name)
            for name, param in _params(self.cls).items()
            if name != _SEED and getattr(self, name) != param.default
        }
        if _SEED in known:
            chosen[_SEED] = (
                run.seed % (SEED_LIMIT + 1) if getattr(self, _SEED) is None else getattr(self, _SEED)
            )
        if "n_jobs" in known:
            chosen["n_jobs"] = run.threads
        return self.cls(**chosen)

    def _fit_only(self, estimator: Any, data: TrainingSet, run: Run) -> Fitted:
        fitted = fit_unsupervised(estimator, data, run, self.task, None)
        if self.task is Task.CLUSTERING:
            fitted.training_scores = {"cluster": np.asarray(estimator.labels_, dtype=np.int64)}
        elif self.task is Task.ANOMALY:
            strange = -estimator.negative_outlier_factor_
            normal = np.where(strange > -estimator.offset_, -1, 1).astype(np.int64)
            fitted.training_scores = {"normal": normal, "score": strange}
        else:
            made = np.asarray(estimator.embedding_, dtype=np.float64)
            fitted.training_scores = {"components": made}
        return fitted


def _reads_float32(cls: Any) -> bool:
    """Trees cast to float32 themselves; then the file is written and checked for what they really see."""
    return cls.__module__.startswith(
        ("sklearn.tree.", "sklearn.ensemble._forest", "sklearn.ensemble._iforest")
    ) or (cls.__module__.startswith(("sklearn.ensemble._gb", "sklearn.ensemble._hist")))


def _component_names(fitted: Fitted, data: TrainingSet) -> tuple[str, ...]:
    scores = fitted.training_scores or fitted.score(data.x[:1].astype(fitted.dtype))
    prefix = type(fitted.estimator).__name__.lower()
    return tuple(f"{prefix}_{i + 1}" for i in range(scores["components"].shape[1]))
