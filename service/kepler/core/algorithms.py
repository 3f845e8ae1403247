"""What an algorithm is: a class with parameters and a `fit`, in one file under ``kepler/algorithms``.

The registry finds it by its decorator; AutoML reads the same parameter ranges; `kepler.testing`
checks it as soon as it is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64] | npt.NDArray[np.float32]
RawScores = dict[str, npt.NDArray[Any]]
"""Arrays a scorer gives for a matrix of n rows. Keys by task:

classification: ``label`` (n,) int64 class index; ``probabilities`` (n, n_classes) where the model has them
regression: ``value`` (n,) float64
clustering: ``cluster`` (n,) int64; ``distance`` (n,) float64 where defined
anomaly: ``normal`` (n,) int64, 1 or -1; ``score`` (n,) float64 where defined, higher is stranger
transform: ``components`` (n, n_components) float64
"""


class Task(StrEnum):
    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    CLUSTERING = "clustering"
    ANOMALY = "anomaly"
    TRANSFORM = "transform"

    @property
    def needs_target(self) -> bool:
        return self in (Task.CLASSIFICATION, Task.REGRESSION)


@dataclass(frozen=True, slots=True)
class Param:
    """One hyperparameter: its default, type and range, as users and AutoML see it.

    ``kind`` is ``int``, ``float``, ``bool``, ``str``, ``choice`` or a union such as ``int|choice``.
    ``low`` and ``high`` are inclusive; ``mltk`` is the toolkit's name where it differs.
    """

    default: Any
    kind: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    log: bool = False
    unit: str = ""
    help: str = ""
    aliases: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Prepared rows. ``x`` (n_rows, n_features); ``y`` (n_rows,): class index, float64 value, or None.

    ``categorical`` are the columns of ``x`` that hold codes of categories (``categoricals=native`` only).
    """

    x: npt.NDArray[np.float64]
    y: npt.NDArray[Any] | None
    feature_names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    categorical: tuple[int, ...] = ()


class Run(Protocol):
    """What surrounds one fit: seed, threads, and ways to report."""

    seed: int
    threads: int

    def progress(self, fraction: float, phase: str) -> None: ...

    def notice(self, level: str, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class SummaryTable:
    """What a model learned, as rows of text cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class Fitted:
    """A fitted estimator with what is needed to score, save and describe it.

    ``native_format`` is the safe format it is saved in when ONNX does not agree (``skops``,
    ``lightgbm``, ``xgboost``, ``catboost``); empty means it cannot be saved at all and only its
    training rows get an answer (DBSCAN, LocalOutlierFactor). ``dtype`` is what its matrix is cast to, in
    training and in scoring alike. ``n_classes`` is the width of ``probabilities``; ``class_index`` are the
    classes the estimator met, ascending: its own output i stands for class ``class_index[i]``.
    """

    task: Task
    estimator: Any
    score: Callable[[Matrix], RawScores]
    dtype: str = "float64"
    native_format: str = "skops"
    training_scores: RawScores | None = None
    summary: Mapping[str, SummaryTable] = field(default_factory=dict[str, SummaryTable])
    component_names: tuple[str, ...] = ()
    n_classes: int = 0
    class_index: tuple[int, ...] = ()


class Algorithm(Protocol):
    """An instance carries checked parameter values as attributes."""

    def fit(self, data: TrainingSet, run: Run) -> Fitted: ...


@runtime_checkable
class Incremental(Protocol):
    """An `Algorithm` that can also go on from an earlier fit (``partial_fit=true``)."""

    def partial_fit(self, data: TrainingSet, run: Run, earlier: Any) -> Fitted:
        """Learn from more rows, in one pass.

        ``earlier`` is the `Fitted.estimator` of the version before, None for the first; it may be changed.
        """
        ...


@dataclass(frozen=True, slots=True)
class AlgorithmInfo:
    """A registered algorithm."""

    name: str
    task: Task
    factory: type[Any]
    params: Mapping[str, Param]
    aliases: tuple[str, ...] = ()
    extra: str = ""
    native_nulls: bool = False
    native_categoricals: bool = False
    savable: bool = True
    deterministic: bool = True
    output_prefix: str = ""
    doc: str = ""
    origin: str = ""


C = TypeVar("C", bound=type)
_DECLARED = "__kepler_algorithms__"


def param(
    default: Any,
    kind: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    log: bool = False,
    unit: str = "",
    help: str = "",
    aliases: Sequence[str] = (),
) -> Any:
    """Declare a hyperparameter as a class attribute; ``kind`` is taken from the default when left out."""
    if not kind:
        kind = "choice" if choices else type(default).__name__
    return Param(default, kind, low, high, tuple(choices), log, unit, help, tuple(aliases))


def algorithm(
    name: str,
    *,
    task: Task,
    aliases: Sequence[str] = (),
    extra: str = "",
    native_nulls: bool = False,
    native_categoricals: bool = False,
    savable: bool = True,
    deterministic: bool = True,
    output_prefix: str = "",
) -> Callable[[C], C]:
    """Register the class under ``name``. May be stacked: one class, several names and tasks."""

    def declare(cls: C) -> C:
        params: dict[str, Param] = {}
        for base in reversed(cls.__mro__):
            for key, value in vars(base).items():
                if isinstance(value, Param):
                    params[key] = Param(
                        value.default, value.kind, value.low, value.high, value.choices, value.log,
                        value.unit, value.help, value.aliases, key,
                    )  # fmt: skip
        info = AlgorithmInfo(
            name=name,
            task=task,
            factory=cls,
            params=params,
            aliases=tuple(aliases),
            extra=extra,
            native_nulls=native_nulls,
            native_categoricals=native_categoricals,
            savable=savable,
            deterministic=deterministic,
            output_prefix=output_prefix,
            doc=(cls.__doc__ or "").strip(),
            origin=cls.__module__,
        )
        declared: list[AlgorithmInfo] = list(vars(cls).get(_DECLARED, ()))
        declared.append(info)
        setattr(cls, _DECLARED, tuple(declared))
        return cls

    return declare


def declared_by(cls: type) -> tuple[AlgorithmInfo, ...]:
    """What `algorithm` registered on this very class (not on its bases)."""
    return tuple(vars(cls).get(_DECLARED, ()))
