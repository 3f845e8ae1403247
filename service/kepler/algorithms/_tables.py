"""Summary tables that several families share. Numbers are written so that they read back exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kepler.core.algorithms import SummaryTable, TrainingSet

MAX_ROWS = 10_000


def cell(value: Any) -> str:
    """Text of one value.

    >>> cell(np.float64(0.1)), cell(3), cell(None), cell(True)
    ('0.1', '3', '', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> SummaryTable:
    kept: list[tuple[str, ...]] = []
    for row in rows:
        if len(kept) == MAX_ROWS:
            break
        kept.append(tuple(cell(value) for value in row))
    return SummaryTable(tuple(columns), tuple(kept))


def params_table(values: Mapping[str, Any]) -> SummaryTable:
    return table(("parameter", "value"), sorted(values.items()))


def class_label(data: TrainingSet, index: int) -> str:
    return data.classes[index] if index < len(data.classes) else str(index)


def importance_table(data: TrainingSet, importances: Any) -> SummaryTable:
    """Features with their share of the total, most important first."""
    shares = np.asarray(importances, dtype=np.float64).reshape(-1)
    order = np.argsort(-shares, kind="stable")
    return table(("feature", "importance"), ((data.feature_names[i], shares[i]) for i in order))


def coefficient_table(
    data: TrainingSet, coefficients: Any, intercepts: Any, class_index: Sequence[int] = ()
) -> SummaryTable:
    """One row per coefficient and ``_intercept`` as MLTK names it; per class when there are several."""
    weights = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
    offsets = np.broadcast_to(np.asarray(intercepts, dtype=np.float64).reshape(-1), (len(weights),))
    names = (*data.feature_names, "_intercept")
    rows = [
        (k, name, value)
        for k in range(len(weights))
        for name, value in zip(names, (*weights[k], offsets[k]), strict=True)
    ]
    if not class_index:
        return table(("feature", "coefficient"), (row[1:] for row in rows))
    # With two classes the one row of weights speaks for the second of them.
    shown = class_index[-1:] if len(weights) == 1 else class_index
    return table(
        ("class", "feature", "coefficient"), ((class_label(data, shown[k]), n, v) for k, n, v in rows)
    )


def with_params(algorithm: Any, tables: Mapping[str, SummaryTable]) -> dict[str, SummaryTable]:
    """``tables`` with the parameters the instance was fitted with; ``default`` is there in any case."""
    from kepler.core.algorithms import declared_by

    values = {name: getattr(algorithm, name) for info in declared_by(type(algorithm)) for name in info.params}
    shown = {name: "-".join(map(str, v)) if isinstance(v, list) else v for name, v in values.items()}
    params = params_table(shown)
    return {"default": params, "params": params, **tables}
