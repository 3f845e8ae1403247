"""Whether two forms of a model answer alike, and thresholds that make them answer alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import RawScores
from kepler.core.errors import InvalidInput
from kepler.core.outputs import OutputPlan

WHOLE = ("label", "cluster", "normal")
NEAR = 0.01  # of the spread between the 1st and the 99th hundredth

Numbers = npt.NDArray[np.float64]


def agreement(before: RawScores, after: RawScores) -> float:
    """Share of rows with the same answer: whole numbers equal where there are any, else all numbers near."""
    whole = [key for key in before if key in WHOLE]
    same = np.ones(len(next(iter(before.values()))), dtype=bool)
    for key in whole:
        same &= before[key] == after[key]
    for key in () if whole else before:
        old, new = _flat(before[key]), _flat(after[key])
        low, high = np.nanquantile(old, (0.01, 0.99), axis=0)
        near = NEAR * np.maximum(high - low, np.abs(old))
        with np.errstate(invalid="ignore"):
            same &= ((np.abs(new - old) <= near) | (np.isnan(old) & np.isnan(new))).all(axis=1)
    return float(same.mean())


def largest_difference(before: RawScores, after: RawScores) -> float:
    """Of all numbers that are not whole, relative to max(1, |value|); infinite where one is NaN and one is not."""
    worst = 0.0
    for key in before:
        if key in WHOLE:
            continue
        old, new = _flat(before[key]), _flat(after[key])
        if not np.array_equal(np.isnan(old), np.isnan(new)):
            return np.inf
        gap = np.abs(new - old) / np.maximum(1.0, np.abs(old))
        worst = max(worst, float(np.nan_to_num(gap).max(initial=0.0)))
    return worst


def fit_threshold(alerts: npt.NDArray[np.bool_], numbers: Numbers, near: float) -> float:
    """The threshold at which ``numbers >= threshold`` is ``alerts`` for most rows; among equals nearest to ``near``.

    Parameters
    ----------
    alerts
        What the original says, (n_rows,).
    numbers
        What the other form gives, (n_rows,).
    near
        The original's threshold.
    """
    order = np.argsort(numbers, kind="stable")
    sorted_numbers, raised = numbers[order], alerts[order]
    # Cut before place k: rows from k on are alerts. Right are the quiet ones below and the alerts from there on.
    right = np.concatenate([[0], np.cumsum(~raised)]) + np.concatenate([np.cumsum(raised[::-1])[::-1], [0]])
    inner = (sorted_numbers[1:] + sorted_numbers[:-1]) / 2
    cuts = np.concatenate([sorted_numbers[:1], inner, [np.nextafter(sorted_numbers[-1], np.inf)]])
    possible = np.concatenate([[True], sorted_numbers[1:] > sorted_numbers[:-1], [True]])
    kept = int((alerts == (numbers >= near)).sum())
    best = int(right[possible].max())
    if kept >= best:
        return near
    found = cuts[possible & (right == best)]
    return float(found[np.argmin(np.abs(found - near))])


def output_numbers(plan: OutputPlan, name: str, raw: RawScores) -> Numbers:
    """Numbers (n_rows,) of the output that the threshold ``name`` is about. Raises `InvalidInput`.

    A threshold is named as its output is (``probability(y=c)``, ``predicted(y)``, ``anomaly_score``), as the raw
    array (``score``, ``value``, ``distance``), or as a class.
    """
    known: list[str] = []
    for column, key, index in plan.picks(probabilities=plan.has_probabilities):
        if key in WHOLE:
            continue
        known.append(column)
        label = plan.labels[index] if key == "probabilities" else ""
        if name in (column, label) or (index < 0 and name == key):
            return np.asarray(raw[key] if index < 0 else raw[key][:, index], dtype=np.float64)
    raise InvalidInput(
        f"The threshold {name[:100]!r} is about no number that the model gives",
        fix=f"Name one of {', '.join(known[:5])}." if known else "Leave it out.",
    )


def check_thresholds(thresholds: Mapping[str, float]) -> None:
    """Raises `InvalidInput` for a threshold that is no finite number."""
    for name, value in thresholds.items():
        if not np.isfinite(value):
            raise InvalidInput(f"The threshold {name[:100]!r} is no finite number", fix="Give a number.")


def _flat(values: npt.NDArray[np.generic]) -> Numbers:
    return np.asarray(values, dtype=np.float64).reshape(len(values), -1)
