"""The rows of a training group by group: one stable sort, then every group is a slice of each column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import AlgorithmInfo, Task
from kepler.core.datasets import MAX_TRACKED_DISTINCT, TrainingTable, WideText, missing_field
from kepler.core.errors import InvalidInput
from kepler.core.groups import MAX_GROUPS, encode_groups, group_name, part_of
from kepler.core.jobs import Notice
from kepler.core.profile import FieldProfile, profile_of
from kepler.core.records import Column, TextColumn
from kepler.core.targets import Target, read_target
from kepler.core.training import TrainSpec
from kepler.ports.training import TrainingRows

Int64 = npt.NDArray[np.int64]


@dataclass(slots=True)
class GroupedRows:
    """All rows in the order of their groups, and within a group as they were sent.

    ``order`` (n_grouped,) are the sent positions; group ``g`` has ``order[bounds[g] : bounds[g + 1]]``. ``y``
    (n_grouped,) is the target over all groups: a class index, -1 where it has none, or a number.
    """

    fields: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    order: Int64
    bounds: Int64
    n_sent: int
    columns: dict[str, Column | WideText]
    y: npt.NDArray[Any] | None
    classes: tuple[str, ...]
    profile: dict[str, FieldProfile]
    bad_numbers: dict[str, str] = field(default_factory=dict[str, str])
    notices: list[Notice] = field(default_factory=list[Notice])

    @property
    def count(self) -> int:
        return len(self.bounds) - 1

    def name(self, group: int) -> str:
        return group_name(self.fields, tuple(texts[group] for texts in self.keys))

    def tables(self) -> Iterator[tuple[TrainingTable, npt.NDArray[Any] | None]]:
        """Each group's rows as a table of its own, with its part of ``y``."""
        for start, stop in zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True):
            rows = slice(start, stop)
            columns = {name: part_of(column, rows) for name, column in self.columns.items()}
            table = TrainingTable(columns, stop - start, bad_numbers=self.bad_numbers)
            yield table, None if self.y is None else self.y[rows]


def read_groups(spec: TrainSpec, info: AlgorithmInfo, rows: TrainingRows) -> GroupedRows:
    """Read the rows of ``spec`` and sort them by group. Raises `InvalidInput` when there are none, or too many."""
    used = (*spec.features, *((spec.target,) if spec.target else ()))
    for name in (*used, *spec.by):
        if name not in set(rows.columns):
            raise missing_field(name, rows.columns)
    if rows.n_rows == 0:
        raise InvalidInput("There are no rows to learn from", fix="Check the search before the command.")
    as_text = {spec.target, *spec.by} if info.task is Task.CLASSIFICATION else {*spec.by}
    table = rows.read((*used, *spec.by), as_text=frozenset(as_text), keys=frozenset(spec.by))
    codes, keys = _encode(spec, table)
    profile = profile_of(table, (*used, *spec.by))
    target = _target(spec, info, table)
    outside = int(np.count_nonzero(codes < 0))
    order = np.argsort(codes, kind="stable")[outside:]
    n_groups = len(keys[0])
    bounds = np.searchsorted(codes[order], np.arange(n_groups + 1)).astype(np.int64)
    columns: dict[str, Column | WideText] = {}
    for name in used:
        columns[name] = _sorted(table.columns[name], order)
        if name not in spec.by:
            del table.columns[name]  # one column at a time is there twice, not all of them
    table.block = None
    notices = [
        Notice("warn", f"read {count:,} infinite values in '{name}' as missing")
        for name, count in table.infinite.items()
    ]
    if outside:
        names = " or ".join(f"'{name}'" for name in spec.by)
        notices.append(
            Notice("warn", f"left out {outside:,} of {table.n_rows:,} rows: no value in {names} (by)")
        )
    y = None if target is None else target.y[order]
    return GroupedRows(
        spec.by, keys, order, bounds, table.n_rows, columns, y, target.classes if target else (), profile,
        table.bad_numbers, notices,
    )  # fmt: skip


def _encode(spec: TrainSpec, table: TrainingTable) -> tuple[Int64, tuple[tuple[str, ...], ...]]:
    texts: list[TextColumn] = []
    for name in spec.by:
        column = table.columns[name]
        if not isinstance(column, TextColumn):
            raise _too_many(f"more than {MAX_GROUPS:,}", name)
        texts.append(column)
    codes, keys = encode_groups(texts)
    if not keys[0]:
        raise InvalidInput(
            f"No row has a value in {' and '.join(repr(name) for name in spec.by)}, so there is no group",
            fix="Check the fields after 'by'.",
        )
    if len(keys[0]) > MAX_GROUPS:
        raise _too_many(f"{len(keys[0]):,}", ", ".join(spec.by))
    return codes, keys


def _too_many(found: str, names: str) -> InvalidInput:
    return InvalidInput(
        f"by {names} makes {found} groups and one model takes at most {MAX_GROUPS:,}",
        fix="Use fewer fields after 'by', or group their values first.",
    )


def _target(spec: TrainSpec, info: AlgorithmInfo, table: TrainingTable) -> Target | None:
    """The target of every sent row, so that all groups name the same classes."""
    if not spec.target:
        return None
    missing = table.missing(spec.target)
    if missing.all():
        raise InvalidInput(f"The target '{spec.target}' has no value in any of {table.n_rows:,} rows")
    if info.task is Task.REGRESSION or not missing.any():
        return read_target(table, spec.target, info.task, None)
    known = read_target(table, spec.target, info.task, ~missing)
    y: npt.NDArray[Any] = np.full(table.n_rows, -1, dtype=known.y.dtype)
    y[~missing] = known.y
    return replace(known, y=y)


def _sorted(column: Column | WideText, order: Int64) -> Column | WideText:
    if isinstance(column, TextColumn):
        return TextColumn(column.codes[order], column.categories)
    return part_of(column, order)


def text_fields(rows: GroupedRows, features: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Categories of the text fields that any group may one-hot encode."""
    return {
        name: column.categories
        for name in features
        if isinstance(column := rows.columns[name], TextColumn)
        and len(column.categories) <= MAX_TRACKED_DISTINCT
    }
