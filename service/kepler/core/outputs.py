"""Names and values of the columns a model adds, as the Machine Learning Toolkit names them.

=================  ====================================================================================
task               columns
=================  ====================================================================================
classification     ``predicted(y)``, with probabilities ``probability(y=c)`` per class
regression         ``predicted(y)``
clustering         ``cluster``, and ``cluster_distance`` where the algorithm has one (KMeans)
anomaly            OneClassSVM ``isNormal`` (1 normal, -1 not); LocalOutlierFactor ``is_outlier`` and
                   every other ``isOutlier`` (1 outlier, -1 not), both with ``anomaly_score`` (higher is
                   stranger) unless the parameter ``anomaly_score`` is false
transform          the component names: ``PC_1``, ``SS_<field>``, ``RS_<field>``, ...
=================  ====================================================================================

``as name`` renames the first column; of a transform it replaces the prefix: ``name_1``, ``name_<field>``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import RawScores, Task
from kepler.core.checked_json import Section
from kepler.core.errors import InvalidInput
from kepler.core.records import Bools

# Algorithms whose toolkit columns differ from the other detectors'.
NORMAL_FLAG = frozenset({"OneClassSVM"})
UNDERSCORED = frozenset({"LocalOutlierFactor"})


@dataclass(frozen=True, slots=True)
class NumberOutput:
    """New numeric column, (n_rows,) float64 or int64; rows with ``blank`` True are rendered empty."""

    name: str
    values: npt.NDArray[np.float64] | npt.NDArray[np.int64]
    blank: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class TextOutput:
    """New text column: ``labels[codes]``, code -1 is rendered empty."""

    name: str
    codes: npt.NDArray[np.int32]
    labels: tuple[str, ...]


Output = NumberOutput | TextOutput


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Which columns a model can give and what they are called.

    ``raw`` are the keys of `RawScores` the model gives. ``flag`` is the anomaly column. What one command asks
    for (``as``, ``probabilities``) is no part of it.
    """

    task: Task
    target: str = ""
    labels: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    prefix: str = ""
    flag: str = "isOutlier"
    with_score: bool = True

    @classmethod
    def of(
        cls,
        task: Task,
        *,
        algorithm: str,
        params: Mapping[str, Any],
        raw: Sequence[str],
        target: str = "",
        labels: tuple[str, ...] = (),
        components: tuple[str, ...] = (),
        prefix: str = "",
    ) -> OutputPlan:
        """The plan of a fitted algorithm."""
        flag = "isNormal" if algorithm in NORMAL_FLAG else "isOutlier"
        return cls(
            task,
            target,
            labels,
            tuple(raw),
            components,
            prefix,
            "is_outlier" if algorithm in UNDERSCORED else flag,
            bool(params.get("anomaly_score", True)) and algorithm not in NORMAL_FLAG,
        )

    @property
    def has_probabilities(self) -> bool:
        return self.task is Task.CLASSIFICATION and "probabilities" in self.raw

    def check_probabilities(self, algorithm: str) -> None:
        if not self.has_probabilities:
            raise InvalidInput(f"{algorithm} gives no probabilities", fix="Leave out probabilities=true.")

    def columns(self, *, as_name: str = "", probabilities: bool = False) -> tuple[str, ...]:
        """Names of the columns that `build` gives, in order."""
        return tuple(name for name, _, _ in self.picks(as_name, probabilities))

    def picks(self, as_name: str = "", probabilities: bool = False) -> list[tuple[str, str, int]]:
        """(column, key of RawScores, position in it; -1 where it is one-dimensional)."""
        if self.task is Task.CLASSIFICATION:
            picks = [(as_name or f"predicted({self.target})", "label", -1)]
            if probabilities and self.has_probabilities:
                picks += [
                    (f"probability({self.target}={label})", "probabilities", index)
                    for index, label in enumerate(self.labels)
                ]
            return picks
        if self.task is Task.REGRESSION:
            return [(as_name or f"predicted({self.target})", "value", -1)]
        if self.task is Task.CLUSTERING:
            more = [("cluster_distance", "distance", -1)] if "distance" in self.raw else []
            return [(as_name or "cluster", "cluster", -1), *more]
        if self.task is Task.ANOMALY:
            more = [("anomaly_score", "score", -1)] if self.with_score and "score" in self.raw else []
            return [(as_name or self.flag, "normal", -1), *more]
        names = self.components
        if as_name:
            stem = self.prefix.removesuffix("_") + "_"
            names = tuple(f"{as_name}_{name.removeprefix(stem)}" for name in names)
        return [(name, "components", index) for index, name in enumerate(names)]

    def build(
        self,
        raw: RawScores,
        kept: Bools | None,
        *,
        as_name: str = "",
        probabilities: bool = False,
        blank_missing: bool = False,
    ) -> tuple[Output, ...]:
        """Columns for all rows of a batch out of the scores of its ``kept`` rows (None: all were).

        ``blank_missing`` leaves a NaN blank: with groups, the model of a row may not have every column.
        """
        made = tuple(
            self._column(name, raw[key] if index < 0 else raw[key][:, index], key, kept)
            for name, key, index in self.picks(as_name, probabilities)
        )
        return tuple(map(_blank_missing, made)) if blank_missing else made

    def _column(self, name: str, scores: npt.NDArray[Any], key: str, kept: Bools | None) -> Output:
        if key == "label":
            codes = np.asarray(scores, dtype=np.int32)
            return TextOutput(name, _spread(codes, kept, -1), self.labels)
        if key == "normal" and self.flag != "isNormal":
            scores = -np.asarray(scores)
        whole = scores.dtype.kind in "iu"
        values = np.asarray(scores, dtype=np.int64 if whole else np.float64)
        return NumberOutput(name, _spread(values, kept, 0), None if kept is None else ~kept)

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "labels": list(self.labels),
            "raw": list(self.raw),
            "components": list(self.components),
            "prefix": self.prefix,
            "flag": self.flag,
            "with_score": self.with_score,
        }

    @classmethod
    def from_json(cls, section: Section, task: Task) -> OutputPlan:
        plan = cls(
            task,
            target=section.text("target"),
            labels=section.texts("labels"),
            raw=section.texts("raw"),
            components=section.texts("components"),
            prefix=section.text("prefix"),
            flag=section.choice("flag", ("isOutlier", "is_outlier", "isNormal")),
            with_score=section.flag("with_score"),
        )
        section.done()
        return plan


def _blank_missing(output: Output) -> Output:
    if isinstance(output, TextOutput) or not (missing := np.isnan(output.values)).any():
        return output
    return NumberOutput(
        output.name, output.values, missing if output.blank is None else missing | output.blank
    )


def _spread(values: npt.NDArray[Any], kept: Bools | None, empty: int) -> npt.NDArray[Any]:
    """``values`` of the kept rows at their places among all rows."""
    if kept is None:
        return values
    out = np.full(len(kept), empty, dtype=values.dtype)
    out[kept] = values
    return out
