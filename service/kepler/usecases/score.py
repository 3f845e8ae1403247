"""Compare columns of rows with each other: the methods of `keplerscore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kepler.core.algorithms import SummaryTable
from kepler.core.datasets import expand_fields
from kepler.core.errors import InvalidInput, nearest
from kepler.core.jobs import Notice
from kepler.core.records import RecordBatch


@dataclass(frozen=True, slots=True)
class ScoreOrder:
    """What to compare: columns ``actual`` against ``predicted``, each a list of names or patterns."""

    columns: tuple[str, ...]
    methods: tuple[str, ...]
    actual: tuple[str, ...]
    predicted: tuple[str, ...]
    by: tuple[str, ...] = ()
    params: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ScoreResult:
    table: SummaryTable
    notices: tuple[Notice, ...] = ()


class ScoringMethods(Protocol):
    """The methods that can be asked for (adapters.scoring)."""

    def names(self) -> tuple[str, ...]: ...

    def check(
        self,
        methods: Sequence[str],
        actual: Sequence[str],
        predicted: Sequence[str],
        params: Mapping[str, str],
    ) -> None:
        """Raise `InvalidInput` for a parameter or number of fields that a method does not take."""
        ...

    def run(self, order: ScoreOrder, batches: Sequence[RecordBatch]) -> ScoreResult: ...


@dataclass(frozen=True, slots=True)
class ScorePlan:
    """A checked order; ``fields`` are the columns to read."""

    order: ScoreOrder
    fields: tuple[str, ...]
    _methods: ScoringMethods

    def run(self, batches: Sequence[RecordBatch]) -> ScoreResult:
        """Raises `InvalidInput` when there are no rows."""
        if not any(batch.n_rows for batch in batches):
            raise InvalidInput("There are no rows to score", fix="Check the search before the command.")
        return self._methods.run(self.order, batches)


class ScoreRows:
    """Opens scorings (capability: predict)."""

    def __init__(self, methods: ScoringMethods) -> None:
        self._methods = methods

    def open(self, order: ScoreOrder) -> ScorePlan:
        """Check methods and fields. Raises `InvalidInput`."""
        known = list(self._methods.names())
        if not order.methods:
            raise InvalidInput(
                "No scoring method is named", fix="Name one, for example accuracy_score or r2_score."
            )
        for method in order.methods:
            if method not in known:
                close = ", ".join(nearest(method, known))
                raise InvalidInput(
                    f"There is no scoring method {method[:60]!r}", fix=f"The nearest are {close}."
                )
        actual = expand_fields(order.actual, order.columns)
        predicted = expand_fields(order.predicted, order.columns) if order.predicted else ()
        by = expand_fields(order.by, order.columns) if order.by else ()
        checked = ScoreOrder(order.columns, order.methods, actual, predicted, by, order.params)
        self._methods.check(order.methods, actual, predicted, order.params)
        fields = tuple(dict.fromkeys((*actual, *predicted, *by)))
        return ScorePlan(checked, fields, self._methods)
