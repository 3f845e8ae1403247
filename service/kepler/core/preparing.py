"""Learns a `Preparation` from the rows of a training, and says what it left out and why.

The default rules are those of Splunk's Machine Learning Toolkit, in its order: fields without any value go,
then rows without a value in one of the fields that are left (or the target), then text fields with more
than 100 distinct values; the others become dummies. Nothing is dropped without a notice that counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kepler.core.datasets import MAX_TRACKED_DISTINCT, TrainingTable, WideText
from kepler.core.errors import InvalidInput
from kepler.core.jobs import Notice
from kepler.core.preparation import (
    CodesFeature,
    Feature,
    NumberFeature,
    OneHotFeature,
    Preparation,
    TargetFeature,
)
from kepler.core.records import Bools, Column, NumberColumn, TextColumn
from kepler.core.target_encoding import TargetMeans

MAX_ONEHOT = 100  # max_distinct_cat_values of the toolkit
MAX_CATEGORIES = MAX_TRACKED_DISTINCT  # categoricals=target|native: as many as are tracked


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """The caller's choice, and what the algorithm can do about it."""

    algorithm: str
    nulls: str = "drop"
    categoricals: str = "onehot"
    native_nulls: bool = False
    native_categoricals: bool = False

    def check(self, *, has_target: bool) -> None:
        """Raise `InvalidInput` for a choice the algorithm cannot honour."""
        if self.nulls == "native" and not self.native_nulls:
            raise InvalidInput(
                f"{self.algorithm} cannot learn from missing values (nulls=native)",
                fix="Use nulls=impute or nulls=drop, or a boosted-tree algorithm such as LightGBM.",
            )
        if self.categoricals == "native" and not self.native_categoricals:
            raise InvalidInput(
                f"{self.algorithm} cannot take text fields as they are (categoricals=native)",
                fix="Use categoricals=onehot or categoricals=target, or an algorithm such as LightGBM.",
            )
        if self.categoricals == "target" and not has_target:
            raise InvalidInput(
                f"categoricals=target needs a target, and {self.algorithm} has none",
                fix="Use categoricals=onehot.",
            )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which fields and rows a training uses. ``kept`` (n_rows,) is None when that is every row."""

    fields: tuple[str, ...]
    kept: Bools | None
    n_kept: int
    notices: tuple[Notice, ...]


def select(
    table: TrainingTable, fields: Sequence[str], target: str, nulls: str, *, drop_empty: bool = True
) -> Selection:
    """Leave out fields without values (unless told to keep them), then rows with a missing value.

    Raises `InvalidInput` when there are no rows, or none or no field is left.
    """
    if table.n_rows == 0:
        raise InvalidInput("There are no rows to learn from", fix="Check the search before the command.")
    notices = [
        Notice("warn", f"read {count:,} infinite values in '{name}' as missing")
        for name, count in table.infinite.items()
    ]
    counts = {name: int(np.count_nonzero(table.missing(name))) for name in (*fields, *filter(None, [target]))}
    if target and counts[target] == table.n_rows:
        raise InvalidInput(f"The target '{target}' has no value in any of {table.n_rows:,} rows")
    empty = [name for name in fields if drop_empty and counts[name] == table.n_rows]
    if empty:
        notices.append(Notice("warn", f"dropped {_fields(empty)}: null in all of {table.n_rows:,} rows"))
    used = tuple(name for name in fields if name not in empty)
    if not used:
        raise InvalidInput(
            "No field to learn from has any value", cause=f"All of {_names(empty)} are null in every row."
        )
    reasons = [name for name in ((target, *used) if target else used) if counts[name]]
    if nulls != "drop":
        reasons = [name for name in reasons if name == target]
    if not reasons:
        return Selection(used, None, table.n_rows, tuple(notices))
    dropped: Bools = np.zeros(table.n_rows, dtype=np.bool_)
    for name in reasons:
        dropped |= table.missing(name)  # asked for again: one mask at a time, however many fields
    n_dropped = int(np.count_nonzero(dropped))
    worst = sorted(reasons, key=lambda name: -counts[name])
    where = ", ".join(f"'{name}' ({counts[name]:,})" if len(worst) > 1 else f"'{name}'" for name in worst[:5])
    where += f" and {len(worst) - 5} more fields" if len(worst) > 5 else ""
    if n_dropped == table.n_rows:
        culprit = next((name for name in worst if name != target), target)
        raise InvalidInput(
            f"No row is left: each of {table.n_rows:,} rows has a null, most often in '{worst[0]}'",
            fix=f"Leave out '{culprit}', or use nulls=impute.",
        )
    setting = "nulls=drop; nulls=impute keeps them" if worst != [target] else "rows need a target"
    notices.append(
        Notice("warn", f"dropped {n_dropped:,} of {table.n_rows:,} rows: null in {where} ({setting})")
    )
    return Selection(used, ~dropped, table.n_rows - n_dropped, tuple(notices))


def learn(
    table: TrainingTable,
    fields: Sequence[str],
    rows: Bools | None,
    options: PrepareOptions,
    target: TargetMeans | None = None,
) -> tuple[Preparation, tuple[Notice, ...]]:
    """Learn the preparation of ``fields`` from ``rows`` of ``table`` (None: all).

    Numbers come first in the order of ``fields``, then text fields in theirs; dummies of one field in text
    order. ``target`` is needed for ``categoricals=target`` only. Raises `InvalidInput` when no field is left.
    """
    numbers: list[Feature] = []
    texts: list[Feature] = []
    notices: list[Notice] = []
    limit = MAX_ONEHOT if options.categoricals == "onehot" else MAX_CATEGORIES
    for name in fields:
        column = table.columns[name]
        if isinstance(column, NumberColumn):
            fill = _median(_rows(column.values, rows)) if options.nulls == "impute" else None
            numbers.append(NumberFeature(name, fill))
            continue
        found = MAX_TRACKED_DISTINCT + 1 if isinstance(column, WideText) else 0
        if isinstance(column, TextColumn):
            categories, counts = _categories(column, rows)
            found = len(categories)
            if 0 < found <= limit:
                fill = categories[int(np.argmax(counts))] if options.nulls == "impute" else None
                texts.append(_text_feature(name, categories, fill, column, rows, options, target))
                continue
        notices.append(Notice("warn", _too_many(name, found, limit, options.categoricals)))
    if not numbers and not texts:
        raise InvalidInput(
            f"No field is left to learn from: all of {_names(list(fields))} were dropped",
            fix="Use categoricals=target, or name other fields.",
        )
    return Preparation(options.nulls, (*numbers, *texts)), tuple(notices)


def training_matrix(
    preparation: Preparation, table: TrainingTable, kept: Bools | None, n_kept: int, *, consume: bool = False
) -> npt.NDArray[np.float64]:
    """The matrix (n_kept, n_features) of the kept rows, float64, each column contiguous.

    ``consume`` takes every column out of ``table`` once it is written, so that the peak of memory stays
    near one copy of the data; numbers that lie in one block are not copied at all.
    """
    if consume and (made := _in_place(preparation, table, kept, n_kept)) is not None:
        return made
    x: npt.NDArray[np.float64] = np.empty((len(preparation.feature_names), n_kept), dtype=np.float64).T
    at = 0
    for feature in preparation.features:
        column = table.columns.pop(feature.field) if consume else table.columns[feature.field]
        assert not isinstance(column, WideText)
        width = len(feature.names)
        feature.write(narrow(column, kept), x[:, at : at + width])
        at += width
    return x


def _in_place(
    preparation: Preparation, table: TrainingTable, kept: Bools | None, n_kept: int
) -> npt.NDArray[np.float64] | None:
    """The matrix in the memory of the table's block; None where the features are not all in it, in order."""
    block = table.block
    numbers = [feature for feature in preparation.features if isinstance(feature, NumberFeature)]
    if block is None or len(numbers) < len(preparation.features):
        return None
    place = {name: row for row, name in enumerate(block.fields)}
    rows = [place.get(feature.field, -1) for feature in numbers]
    if rows != sorted(rows) or rows[0] < 0:  # ascending: nothing is written over before it is read
        return None
    table.block = None
    flat = block.values.reshape(-1)
    for to, (row, feature) in enumerate(zip(rows, numbers, strict=True)):
        del table.columns[feature.field]
        if kept is None and to == row and feature.fill is None:
            continue
        out = flat[to * n_kept : (to + 1) * n_kept]
        feature.write(narrow(NumberColumn(block.values[row]), kept), out[:, None])
    return flat[: len(rows) * n_kept].reshape(len(rows), n_kept).T


def narrow(column: Column, rows: Bools | None) -> Column:
    """``column`` at ``rows`` only (None: all)."""
    if rows is None:
        return column
    if isinstance(column, NumberColumn):
        return NumberColumn(column.values[rows])
    return TextColumn(column.codes[rows], column.categories)


def _rows(values: npt.NDArray[np.float64], rows: Bools | None) -> npt.NDArray[np.float64]:
    return values if rows is None else values[rows]


def _median(values: npt.NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def _categories(column: TextColumn, rows: Bools | None) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Values that occur in ``rows``, in text order, with their counts."""
    codes = column.codes if rows is None else column.codes[rows]
    counts = np.bincount(codes[codes >= 0], minlength=len(column.categories))
    present = sorted((category, code) for code, category in enumerate(column.categories) if counts[code])
    return tuple(category for category, _ in present), counts[[code for _, code in present]]


def _text_feature(
    name: str,
    categories: tuple[str, ...],
    fill: str | None,
    column: TextColumn,
    rows: Bools | None,
    options: PrepareOptions,
    target: TargetMeans | None,
) -> Feature:
    if options.categoricals == "onehot":
        return OneHotFeature(name, categories, fill)
    if options.categoricals == "native":
        return CodesFeature(name, categories, fill)
    assert target is not None
    codes, _ = CodesFeature(name, categories, fill).resolve(narrow(column, rows))
    means, default = target.encode(codes, len(categories))
    return TargetFeature(
        name,
        categories,
        fill,
        tuple(tuple(float(cell) for cell in row) for row in means),
        tuple(float(cell) for cell in default),
        target.labels,
    )


def _too_many(name: str, found: int, limit: int, categoricals: str) -> str:
    if not found:
        return f"dropped field '{name}': no text value is left in the rows used"
    count = f"more than {MAX_TRACKED_DISTINCT:,}" if found > MAX_TRACKED_DISTINCT else f"{found:,}"
    more = "; categoricals=target keeps it" if limit < found <= MAX_CATEGORIES else ""
    return f"dropped field '{name}': {count} distinct text values, limit {limit:,} (categoricals={categoricals}{more})"


def _names(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) + (
        f" and {len(names) - 8} more" if len(names) > 8 else ""
    )


def _fields(names: list[str]) -> str:
    return f"field {_names(names)}" if len(names) == 1 else f"{len(names)} fields ({_names(names)})"
