"""Columns of text, batch by batch, as the aligned arrays that scoring methods compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kepler.core.errors import InvalidInput
from kepler.core.records import Float64, Int32, NumberColumn, RecordBatch, TextColumn


@dataclass(frozen=True, slots=True)
class Column:
    """One field over all batches: codes (n_rows,) into distinct texts, -1 missing."""

    name: str
    codes: Int32
    texts: tuple[str, ...]

    def take(self, rows: npt.NDArray[np.intp]) -> Column:
        return Column(self.name, self.codes[rows], self.texts)

    @property
    def numbers(self) -> Float64 | None:
        """The values as numbers, NaN where missing; None when a text is not a number."""
        try:
            table = np.array([float(text) for text in self.texts] + [np.nan])
        except ValueError:
            return None
        return table[self.codes]

    def need_numbers(self, method: str) -> Float64:
        """The values as numbers. Raises `InvalidInput` naming the first text that is none."""
        numbers = self.numbers
        if numbers is None:
            text = next(text for text in self.texts if not _is_number(text))
            raise InvalidInput(
                f"{method} compares numbers, but the field {self.name!r} holds {text[:60]!r}",
                fix="Use a method for classes, such as accuracy_score, or convert the field.",
            )
        return numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def join(batches: Sequence[RecordBatch], name: str) -> Column:
    """One field over all batches, distinct texts unified."""
    index: dict[str, int] = {}
    parts: list[Int32] = []
    for batch in batches:
        column = batch[name]
        if isinstance(column, NumberColumn):
            raise TypeError("scoring reads its fields as text")
        parts.append(_recode(column, index))
    codes = np.concatenate(parts) if parts else np.empty(0, np.int32)
    return Column(name, codes, tuple(index))


def _recode(column: TextColumn, index: dict[str, int]) -> Int32:
    mapping = np.array(
        [index.setdefault(text, len(index)) for text in column.categories] + [-1], dtype=np.int32
    )
    return mapping[column.codes]


def groups(keys: Sequence[Column], n_rows: int) -> Iterator[tuple[tuple[str, ...], npt.NDArray[np.intp]]]:
    """Each combination of the keys' values with its rows; all rows under () without keys."""
    if not keys:
        yield (), np.arange(n_rows)
        return
    stacked = np.stack([key.codes for key in keys], axis=1)
    unique, inverse = np.unique(stacked, axis=0, return_inverse=True)
    flat = inverse.reshape(-1)
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], np.arange(len(unique) + 1))
    for number, codes in enumerate(unique):
        values = tuple(key.texts[code] if code >= 0 else "" for key, code in zip(keys, codes, strict=True))
        yield values, order[starts[number] : starts[number + 1]]


def common_labels(first: Column, second: Column) -> tuple[Int32, Int32, tuple[str, ...]]:
    """Both columns as codes into one list of labels.

    Where all labels are numbers they are compared and ordered as numbers: ``1`` and ``1.0`` are one class.
    """
    texts = list(dict.fromkeys((*first.texts, *second.texts)))
    numeric = all(_is_number(text) for text in texts)

    def key(text: str) -> float | str:
        return float(text) if numeric else text

    labels: dict[float | str, str] = {}
    for text in texts:
        labels.setdefault(key(text), text)
    position = {value: number for number, value in enumerate(sorted(labels))}  # type: ignore[type-var]

    def recoded(column: Column) -> Int32:
        mapping = np.array([position[key(text)] for text in column.texts] + [-1], dtype=np.int32)
        return mapping[column.codes]

    return recoded(first), recoded(second), tuple(labels[value] for value in position)
