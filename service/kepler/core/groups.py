"""Groups (``by``): which group a row belongs to, and what a manifest says about a packed version.

A group is one combination of the texts of the ``by`` fields, as they were sent: "1" and "1.0" are two. A row
without a value in one of them belongs to no group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.checked_json import Section
from kepler.core.datasets import WideText
from kepler.core.errors import InvalidInput
from kepler.core.records import Column, NumberColumn, TextColumn

MAX_GROUP_FIELDS = 8  # as many as the toolkit takes
MAX_GROUPS = 100_000  # of one model; their list stays a few MB
NO_GROUP = -1
UNSEEN_GROUP = -2

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Groups:
    """The ``groups`` section of a manifest: ``count`` groups have a model, ``failed`` could not be trained.

    ``packed`` of them are rows of shared arrays, the others files of their own inside the pack. ``rows`` and
    ``values`` are least, median and most over the groups: of rows learned from, and of ``metric``.
    """

    fields: tuple[str, ...]
    count: int
    failed: int = 0
    packed: int = 0
    rows: tuple[float, ...] = ()
    metric: str = ""
    values: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "fields": list(self.fields),
            "count": self.count,
            "failed": self.failed,
            "packed": self.packed,
            "rows": list(self.rows),
            "metric": self.metric,
            "values": list(self.values),
        }

    @classmethod
    def from_json(cls, section: Section) -> Groups:
        groups = cls(
            fields=section.texts("fields"),
            count=section.integer("count", low=1, high=MAX_GROUPS),
            failed=section.integer("failed", high=MAX_GROUPS),
            packed=section.integer("packed", high=MAX_GROUPS),
            rows=section.numbers("rows"),
            metric=section.text("metric", max_chars=250),
            values=section.numbers("values"),
        )
        section.done()
        if not 1 <= len(set(groups.fields)) == len(groups.fields) <= MAX_GROUP_FIELDS:
            raise InvalidInput(f"{section.where}: not 1 to {MAX_GROUP_FIELDS} different fields")
        if len(groups.rows) > 3 or len(groups.values) > 3:
            raise InvalidInput(f"{section.where}: a spread has at most 3 numbers")
        return groups


def check_by(by: Sequence[str], *, kfold_cv: int = 0, partial_fit: bool = False) -> None:
    """Raise `InvalidInput` for too many fields after ``by``, or options that do not go with it."""
    if len(by) > MAX_GROUP_FIELDS:
        raise InvalidInput(
            f"{len(by)} fields stand after 'by' and at most {MAX_GROUP_FIELDS} may",
            fix="Leave some out, or join them into one field with eval.",
        )
    for option, given in (("kfold_cv", kfold_cv), ("partial_fit", partial_fit)):
        if given:
            raise InvalidInput(f"{option} does not go with 'by'", fix="Leave out one of them.")


def spread_of(values: npt.NDArray[Any]) -> tuple[float, ...]:
    """Least, median and most of the finite ``values``; empty without any."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return (float(known.min()), float(np.median(known)), float(known.max())) if len(known) else ()


def group_name(fields: Sequence[str], key: Sequence[str]) -> str:
    """How a group is named in messages.

    >>> group_name(["host", "site"], ["web-1", "north"])
    'host=web-1 site=north'
    """
    return " ".join(f"{field}={value[:60]}" for field, value in zip(fields, key, strict=True))


def encode_groups(columns: Sequence[TextColumn]) -> tuple[Int64, tuple[tuple[str, ...], ...]]:
    """The group of each row (n_rows,), `NO_GROUP` where a field has no value, and the groups' ``keys``.

    Groups count from 0 in text order of their keys; ``keys`` holds one tuple of texts per field. Vectorised:
    one sort of the rows per field after the first.
    """
    n_rows = len(columns[0])
    codes: Int64 = np.zeros(n_rows, dtype=np.int64)
    missing = np.zeros(n_rows, dtype=np.bool_)
    texts: list[list[str]] = []
    ranks: list[Int64] = []
    for column in columns:
        order = sorted(range(len(column.categories)), key=column.categories.__getitem__)
        rank = np.empty(len(order) + 1, dtype=np.int64)
        rank[order] = np.arange(len(order))
        rank[-1] = 0
        mine = rank[column.codes]
        missing |= column.codes < 0
        codes = codes * max(1, len(order)) + mine
        _, codes = np.unique(codes, return_inverse=True)  # dense again: products never overflow
        texts.append([column.categories[at] for at in order])
        ranks.append(mine)
    codes[missing] = NO_GROUP
    present, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    if len(present) and present[0] == NO_GROUP:
        codes, first = codes - 1, first[1:]
    keys = tuple(
        tuple(text[at] for at in map(int, rank[first])) for text, rank in zip(texts, ranks, strict=True)
    )
    return codes.astype(np.int64, copy=False), keys


class GroupIndex:
    """Finds the groups of rows among known ``keys`` (one tuple of texts per field) by binary search."""

    def __init__(self, keys: Sequence[Sequence[str]]) -> None:
        self._lookups: list[dict[str, int]] = []
        self._pairs: list[Int64] = []
        found: Int64 = np.zeros(len(keys[0]), dtype=np.int64)
        for texts in keys:
            lookup = {text: at for at, text in enumerate(sorted(set(texts)))}
            self._lookups.append(lookup)
            mine = np.fromiter((lookup[text] for text in texts), dtype=np.int64, count=len(texts))
            pairs, found = np.unique(found * max(1, len(lookup)) + mine, return_inverse=True)
            self._pairs.append(pairs)
        if len(self._pairs[-1]) != len(keys[0]):
            raise InvalidInput("The list of groups names one twice")
        self._group: Int64 = np.empty(len(keys[0]), dtype=np.int64)
        self._group[found] = np.arange(len(keys[0]))
        self.size_bytes = sum(120 + len(text) for lookup in self._lookups for text in lookup)

    def find(self, columns: Sequence[TextColumn]) -> Int64:
        """The group of each row (n_rows,), `NO_GROUP` without a value in a field, else `UNSEEN_GROUP`."""
        n_rows = len(columns[0])
        found: Int64 = np.zeros(n_rows, dtype=np.int64)
        missing = np.zeros(n_rows, dtype=np.bool_)
        unseen = np.zeros(n_rows, dtype=np.bool_)
        for column, lookup, pairs in zip(columns, self._lookups, self._pairs, strict=True):
            table = np.full(len(column.categories) + 1, UNSEEN_GROUP, dtype=np.int64)
            table[:-1] = [lookup.get(text, UNSEEN_GROUP) for text in column.categories]
            mine = table[column.codes]
            missing |= column.codes < 0
            unseen |= mine < 0
            pair = found * max(1, len(lookup)) + mine
            found = np.minimum(np.searchsorted(pairs, pair), len(pairs) - 1)
            unseen |= pairs[found] != pair
        out = self._group[found]
        out[unseen] = UNSEEN_GROUP
        out[missing] = NO_GROUP
        return out


def part_of(column: Column | WideText, rows: slice | Int64) -> Column | WideText:
    """``column`` at ``rows``, with the categories that occur there only: a group never pays for the others."""
    if isinstance(column, NumberColumn):
        return NumberColumn(column.values[rows])
    if isinstance(column, WideText):
        return WideText(column.missing[rows], column.example)
    present, codes = np.unique(column.codes[rows], return_inverse=True)
    if len(present) and present[0] < 0:
        present, codes = present[1:], codes - 1
    categories = tuple(column.categories[code] for code in map(int, present))
    return TextColumn(codes.astype(np.int32), categories)
