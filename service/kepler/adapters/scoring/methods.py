"""The scoring methods of `keplerscore`, by their toolkit names, computed by scikit-learn.

Several methods may be asked for in one call: figures come as one row per pair of fields and group, with a
column per method; methods that give a table (confusion_matrix, precision_recall_fscore_support, roc_curve)
are asked for alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kepler.adapters.scoring.pairs import Column, common_labels, groups, join
from kepler.core.algorithms import SummaryTable
from kepler.core.errors import InvalidInput, nearest
from kepler.core.jobs import Notice
from kepler.core.records import RecordBatch
from kepler.usecases.score import ScoreOrder, ScoreResult

AVERAGES = ("binary", "micro", "macro", "weighted")
Params = Mapping[str, str]
Rows = list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Method:
    compute: Callable[[Column, Column, Params], Any]
    params: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # of a table; empty for one figure


def _numbers(name: str, function: Callable[[Any, Any], float]) -> _Method:
    def compute(actual: Column, predicted: Column, params: Params) -> float:
        return function(actual.need_numbers(name), predicted.need_numbers(name))

    return _Method(compute)


def _classes(name: str) -> _Method:
    def compute(actual: Column, predicted: Column, params: Params) -> float:
        from sklearn import metrics

        truth, guess, labels = common_labels(actual, predicted)
        if name == "accuracy_score":
            normalize = params.get("normalize", "true").lower() in ("true", "t", "1")
            return float(metrics.accuracy_score(truth, guess, normalize=normalize))
        if name == "matthews_corrcoef":
            return float(metrics.matthews_corrcoef(truth, guess))
        average = params.get("average") or ("binary" if len(labels) <= 2 else "weighted")
        positive = _positive(labels, params) if average == "binary" else 1
        function = getattr(metrics, name)
        options: dict[str, Any] = {"average": average, "pos_label": positive, "zero_division": 0}
        return float(function(truth, guess, **options))

    params = {"accuracy_score": ("normalize",), "matthews_corrcoef": ()}.get(name, ("average", "pos_label"))
    return _Method(compute, params)


def _positive(labels: tuple[str, ...], params: Params) -> int:
    if len(labels) > 2:
        raise InvalidInput(
            f"average=binary needs two classes, the fields hold {len(labels)}",
            fix="Use average=weighted or macro.",
        )
    wanted = params.get("pos_label")
    if wanted is None:
        return len(labels) - 1
    if wanted not in labels:
        raise InvalidInput(
            f"pos_label={wanted[:60]!r} is no value of the fields", fix=f"Use {' or '.join(labels)}."
        )
    return labels.index(wanted)


def _ranking(name: str) -> Callable[[Column, Column, Params], Any]:
    def compute(actual: Column, predicted: Column, params: Params) -> Any:
        from sklearn import metrics

        labels = common_labels(actual, actual)[2]
        if len(labels) != 2:
            raise InvalidInput(
                f"{name} needs an actual field with two classes, {actual.name!r} holds {len(labels)}",
                fix="Compare a binary field with its probability.",
            )
        truth = np.array(common_labels(actual, actual)[0] == _positive(labels, params), dtype=np.int64)
        scores = predicted.need_numbers(name)
        if name == "roc_curve":
            false, true, thresholds = metrics.roc_curve(truth, scores)
            return [(_text(f), _text(t), _text(th)) for f, t, th in zip(false, true, thresholds, strict=True)]
        if name == "log_loss":
            return float(metrics.log_loss(truth, np.clip(scores, 0.0, 1.0)))
        if name == "brier_score_loss":
            return float(metrics.brier_score_loss(truth, np.clip(scores, 0.0, 1.0)))
        if name == "average_precision_score":
            return float(metrics.average_precision_score(truth, scores))
        return float(metrics.roc_auc_score(truth, scores))

    return compute


def _confusion(actual: Column, predicted: Column, params: Params) -> tuple[tuple[str, ...], Rows]:
    from sklearn.metrics import confusion_matrix

    truth, guess, labels = common_labels(actual, predicted)
    matrix = confusion_matrix(truth, guess, labels=list(range(len(labels))))
    columns = ("class", *(f"predicted({label})" for label in labels))
    return columns, [(label, *map(str, row)) for label, row in zip(labels, matrix.tolist(), strict=True)]


def _report(actual: Column, predicted: Column, params: Params) -> tuple[tuple[str, ...], Rows]:
    from sklearn.metrics import precision_recall_fscore_support

    truth, guess, labels = common_labels(actual, predicted)
    options: dict[str, Any] = {"labels": list(range(len(labels))), "zero_division": 0}
    found: Any = precision_recall_fscore_support(truth, guess, **options)
    rows = [
        (label, *(_text(part[number]) for part in found[:3]), str(found[3][number]))
        for number, label in enumerate(labels)
    ]
    return ("class", "precision", "recall", "fbeta_score", "support"), rows


def _mape(actual: Any, predicted: Any) -> float:
    """Mean absolute percentage error in percent over rows whose actual value is not 0."""
    known = actual != 0
    return (
        float(np.mean(np.abs((actual[known] - predicted[known]) / actual[known])) * 100)
        if known.any()
        else math.nan
    )


def _smape(actual: Any, predicted: Any) -> float:
    """Symmetric mean absolute percentage error in percent, 0..200; 0/0 counts as no error."""
    size = np.abs(actual) + np.abs(predicted)
    ratio = np.divide(2 * np.abs(actual - predicted), size, out=np.zeros_like(size), where=size != 0)
    return float(np.mean(ratio) * 100)


def _r2(actual: Any, predicted: Any) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(actual, predicted)) if len(actual) > 1 else math.nan


def _explained(actual: Any, predicted: Any) -> float:
    from sklearn.metrics import explained_variance_score

    return float(explained_variance_score(actual, predicted))


_POSITIVE = ("pos_label",)
METHODS: dict[str, _Method] = {
    **{
        name: _classes(name)
        for name in ("accuracy_score", "precision_score", "recall_score", "f1_score", "matthews_corrcoef")
    },
    **{
        name: _Method(_ranking(name), _POSITIVE)
        for name in ("roc_auc_score", "average_precision_score", "log_loss", "brier_score_loss")
    },
    "roc_curve": _Method(_ranking("roc_curve"), _POSITIVE, ("fpr", "tpr", "thresholds")),
    "confusion_matrix": _Method(_confusion, (), ("class",)),
    "precision_recall_fscore_support": _Method(_report, (), ("class",)),
    "r2_score": _numbers("r2_score", _r2),
    "explained_variance_score": _numbers("explained_variance_score", _explained),
    "mean_squared_error": _numbers("mean_squared_error", lambda a, p: float(np.mean((a - p) ** 2))),
    "root_mean_squared_error": _numbers(
        "root_mean_squared_error", lambda a, p: float(np.sqrt(np.mean((a - p) ** 2)))
    ),
    "mean_absolute_error": _numbers("mean_absolute_error", lambda a, p: float(np.mean(np.abs(a - p)))),
    "mean_absolute_percentage_error": _numbers("mean_absolute_percentage_error", _mape),
    "symmetric_mean_absolute_percentage_error": _numbers("symmetric_mean_absolute_percentage_error", _smape),
}
ALIASES = {
    "rmse": "root_mean_squared_error",
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "smape": "symmetric_mean_absolute_percentage_error",
    "mcc": "matthews_corrcoef",
    "pr_auc": "average_precision_score",
    "brier": "brier_score_loss",
}


class SklearnScoring:
    """Implements `usecases.score.ScoringMethods`."""

    def names(self) -> tuple[str, ...]:
        return (*METHODS, *ALIASES)

    def check(
        self, methods: Sequence[str], actual: Sequence[str], predicted: Sequence[str], params: Params
    ) -> None:
        if not predicted:
            raise InvalidInput(
                "No field to compare with is named", fix="Write: <actual field> against <field>."
            )
        if len(predicted) != len(actual) and len(actual) != 1:
            raise InvalidInput(
                f"{len(actual)} fields stand against {len(predicted)}",
                fix="Name as many fields on both sides, or one on the left.",
            )
        tables = [name for name in methods if _method(name).columns]
        if tables and len(methods) > 1:
            raise InvalidInput(f"{tables[0]} gives a table of its own", fix="Ask for it alone.")
        known = {param for name in methods for param in _method(name).params}
        for name in params:
            if name not in known:
                close = f" The nearest is {nearest(name, sorted(known), 1)[0]}." if known else ""
                raise InvalidInput(f"{', '.join(methods)} has no parameter {name[:60]!r}", fix=close.strip())
        average = params.get("average")
        if average is not None and average not in AVERAGES:
            raise InvalidInput(
                f"Invalid value for average: {average[:40]!r}", fix=f"Use {', '.join(AVERAGES)}."
            )

    def run(self, order: ScoreOrder, batches: Sequence[RecordBatch]) -> ScoreResult:
        filled = [batch for batch in batches if batch.n_rows]
        columns = {
            name: join(filled, name) for name in dict.fromkeys((*order.actual, *order.predicted, *order.by))
        }
        keys = [columns[name] for name in order.by]
        pairs = list(zip(_stretch(order.actual, len(order.predicted)), order.predicted, strict=True))
        head: tuple[str, ...] = ("actual", "predicted", *order.by)
        tail: tuple[str, ...] = order.methods
        rows: Rows = []
        dropped = 0
        n_rows = sum(batch.n_rows for batch in filled)
        for truth, guess in pairs:
            complete = (columns[truth].codes >= 0) & (columns[guess].codes >= 0)
            dropped += n_rows - int(complete.sum())
            for values, members in groups(keys, n_rows):
                used = members[complete[members]]
                if len(used) == 0:
                    continue
                actual, predicted = _trim(columns[truth].take(used)), _trim(columns[guess].take(used))
                results = [_method(name).compute(actual, predicted, order.params) for name in order.methods]
                first = _method(order.methods[0])
                if first.columns:
                    found = results[0]
                    tail, body = (first.columns, found) if isinstance(found, list) else found
                    rows += [(truth, guess, *values, *line) for line in body]
                else:
                    rows.append((truth, guess, *values, *(_text(result) for result in results)))
        if not rows:
            named = " or ".join(f"{truth!r} and {guess!r}" for truth, guess in pairs[:3])
            raise InvalidInput(
                f"No row has both {named} filled", fix="Check that the predictions ran before the scoring."
            )
        notices = (
            (
                Notice(
                    "warn", f"dropped {dropped:,} of {n_rows * len(pairs):,} rows: a compared field is null"
                ),
            )
            if dropped
            else ()
        )
        return ScoreResult(SummaryTable((*head, *tail), tuple(rows)), notices)


def _method(name: str) -> _Method:
    return METHODS[ALIASES.get(name, name)]


def _stretch(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    return names * count if len(names) == 1 else names


def _trim(column: Column) -> Column:
    """Only the texts that occur, so that a group's classes are its own."""
    present, codes = np.unique(column.codes, return_inverse=True)
    return Column(column.name, codes.astype(np.int32), tuple(column.texts[code] for code in present))


def _text(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ("" if math.isnan(value) else str(float(value)))
