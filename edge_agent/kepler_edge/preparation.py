"""From the fields of one reading to the row of numbers a model reads.

The manifest carries the fitted preparation as data; this repeats what the service does with it, for one row and as
quickly as Python can. What missing means: no value, an empty text, "nan", or an infinite number (after the cast to
the model's own type). Under ``drop`` a row with a missing value gets no answer; a stored ``fill`` stands in where
there is one; under ``native`` the model sees NaN (all-zero dummies). A text field that a reading lacks altogether
counts as none of the known values, as in a search whose rows lack the field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler_edge.checked import Section
from kepler_edge.errors import InvalidInput

NULLS = ("drop", "impute", "native")
KINDS = ("number", "onehot", "codes", "target")
MAX_FEATURES = 100_000
_ABSENT: Any = object()
_PLAIN = frozenset({float, int})


@dataclass(frozen=True, slots=True)
class Feature:
    """One field and how it becomes ``width`` columns from ``at`` on.

    ``categories`` (text to position), ``means`` (n_categories, width) and ``default`` (width,) are empty where the
    kind has none. ``fill`` stands in for a missing value when given.
    """

    kind: str
    field: str
    fill: float | str | None
    at: int
    width: int
    categories: Mapping[str, int]
    means: tuple[tuple[float, ...], ...] = ()
    default: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Preparation:
    """How the fields of a row become the numbers a model reads, in order."""

    nulls: str
    features: tuple[Feature, ...]

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return self.features[-1].at + self.features[-1].width if self.features else 0

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(feature.field for feature in self.features)

    @classmethod
    def of(cls, section: Section) -> Preparation:
        """Read the manifest's ``preparation``. Raises `InvalidInput`."""
        nulls = section.choice("nulls", NULLS)
        features: list[Feature] = []
        at = 0
        for item in section.sections("features", max_items=MAX_FEATURES):
            feature = _feature(item, at)
            at += feature.width
            features.append(feature)
        section.done()
        if len({feature.field for feature in features}) != len(features):
            raise InvalidInput(f"{section.where} names a field twice")
        return cls(nulls, tuple(features))


def _feature(section: Section, at: int) -> Feature:
    kind, name = section.choice("kind", KINDS), section.text("field")
    if kind == "number":
        feature = Feature(kind, name, section.number_or_none("fill"), at, 1, {})
    else:
        texts, fill = section.texts("categories"), section.text_or_none("fill")
        categories = {text: code for code, text in enumerate(texts)}
        if kind == "target":
            means, default = section.rows("means"), section.numbers("default")
            width = max(1, len(section.texts("labels")))
            rows = (*means, default)
            if len(means) != len(texts) or any(
                len(row) != width or not all(map(math.isfinite, row)) for row in rows
            ):
                raise InvalidInput(f"{section.where}: 'means' does not fit 'categories'")
            feature = Feature(kind, name, fill, at, width, categories, means, default)
        else:
            feature = Feature(kind, name, fill, at, 1 if kind == "codes" else len(texts), categories)
    section.done()
    return feature


class RowWriter:
    """Writes readings into one preallocated row. Not for several threads at once.

    Attributes
    ----------
    row
        (1, n_columns) in the model's type; the next `write` overwrites it.
    """

    def __init__(self, preparation: Preparation, dtype: npt.DTypeLike) -> None:
        self.row: npt.NDArray[Any] = np.zeros((1, preparation.width), dtype)
        self._flat = self.row[0]
        self._limit = _reach(self.row.dtype)
        self._drops = preparation.nulls == "drop"
        self._steps = [self._step(feature) for feature in preparation.features]
        fields = preparation.fields
        plain = len(fields) > 1 and all(feature.kind == "number" for feature in preparation.features)
        # Readings of plain numbers, the common case, are taken and checked by C code alone.
        self._take = itemgetter(*fields) if plain else None

    def write(self, fields: Mapping[str, object]) -> bool:
        """Put ``fields`` into `row`; False when it gets no answer. Raises `InvalidInput` for text in a number."""
        if self._take is not None:
            try:
                values: tuple[Any, ...] = self._take(fields)
                if (
                    _PLAIN.issuperset(map(type, values))
                    and max(values) <= self._limit
                    and min(values) >= -self._limit
                    and not math.isnan(sum(values))
                ):
                    self._flat[:] = values
                    return True
            except (KeyError, OverflowError):
                pass
        kept = True
        for step in self._steps:
            kept = step(fields) and kept
        return kept

    def _step(self, feature: Feature) -> Callable[[Mapping[str, object]], bool]:
        return self._number(feature) if feature.kind == "number" else self._text(feature)

    def _number(self, feature: Feature) -> Callable[[Mapping[str, object]], bool]:
        flat, at, limit, name = self._flat, feature.at, self._limit, feature.field
        most = float(np.finfo(self.row.dtype).max)
        fill = None if feature.fill is None else max(-most, min(most, float(feature.fill)))
        missing, kept = (math.nan, not self._drops) if fill is None else (fill, True)

        def write(fields: Mapping[str, object]) -> bool:
            value = number_of(fields.get(name), name)
            if -limit <= value <= limit:
                flat[at] = value
                return True
            flat[at] = missing
            return kept

        return write

    def _text(self, feature: Feature) -> Callable[[Mapping[str, object]], bool]:
        cells, name, drops = self._flat[feature.at : feature.at + feature.width], feature.field, self._drops
        categories, fill = feature.categories, feature.fill
        table, other = _table(feature, self.row.dtype)

        def write(fields: Mapping[str, object]) -> bool:
            value = fields.get(name, _ABSENT)
            text = None if value is _ABSENT else text_of(value)
            if text is None:
                text = fill
            code = -1 if text is None else categories.get(str(text), -1)
            cells[:] = other if code < 0 else table[code]
            return text is not None or not drops or value is _ABSENT

        return write


def _reach(dtype: np.dtype[Any]) -> float:
    """The largest number that does not become infinite in ``dtype``: what lies above its maximum is rounded."""
    if dtype == np.float64:
        return float(np.finfo(dtype).max)
    return math.nextafter((2 - 2.0**-24) * 2.0**127, 0)


def _table(feature: Feature, dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """What each category writes, and what any other text does."""
    count = len(feature.categories)
    if feature.kind == "onehot":
        return np.eye(count, dtype=dtype), np.zeros(count, dtype)
    if feature.kind == "codes":
        return np.arange(count, dtype=dtype)[:, None], np.full(1, np.nan, dtype)
    limit = float(np.finfo(dtype).max)
    clipped = np.clip(np.asarray([*feature.means, feature.default], np.float64), -limit, limit).astype(dtype)
    return clipped[:-1], clipped[-1]


def number_of(value: object, name: str) -> float:
    """``value`` as a number, NaN where there is none. Raises `InvalidInput` for text that is none."""
    if isinstance(value, bool | float):
        return float(value)
    if value is None or value == "":
        return math.nan
    try:
        if isinstance(value, int):
            return float(value)
        if isinstance(value, str) and "_" not in value:
            return float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        pass
    raise InvalidInput(
        f"Field {name[:100]!r} is a number in this model, but a reading has {str(value)[:60]!r}",
        fix="Correct the input, or map another field to it.",
    )


def text_of(value: object) -> str | None:
    """``value`` as the text that Splunk's events hold of it; None where there is none."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    return None if value is None else str(value)
