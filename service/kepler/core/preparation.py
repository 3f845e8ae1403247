"""From named columns to a matrix: the fitted, declarative part that a manifest carries.

A `Preparation` is data (JSON in the manifest), so that another program can repeat it, and `transform` is
the one way to apply it, in training and in prediction alike. `kepler.core.preparing` learns it.

What missing means: an empty value, "nan", or an infinite number. Under ``drop`` a row with a missing value
in a used field gets no answer; under ``impute`` the stored median or most frequent value stands in; under
``native`` the algorithm sees NaN (all-zero dummies for one-hot fields). A text that training has not seen
gives all-zero dummies, the mean over all training rows for ``target``, NaN for ``codes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import Matrix
from kepler.core.checked_json import Section
from kepler.core.errors import InvalidInput
from kepler.core.jobs import Notice
from kepler.core.records import Bools, Column, Int32, NumberColumn, RecordBatch, TextColumn
from kepler.core.training import NULLS

UNSEEN = -2
MISSING = -1


@dataclass(frozen=True, slots=True)
class NumberFeature:
    """A numeric field as it is; ``fill`` stands in for missing values when given."""

    kind: ClassVar[str] = "number"
    field: str
    fill: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.field,)

    @property
    def width(self) -> int:
        return 1

    def write(self, column: Column, out: Matrix) -> Written:
        if not isinstance(column, NumberColumn):
            raise text_in_number(self.field, column)
        if out.dtype == np.float64:
            out[:, 0] = column.values
        else:
            with np.errstate(over="ignore"):
                out[:, 0] = column.values
        finite = np.isfinite(out[:, 0])  # after the cast: a number beyond float32 has none either
        if finite.all():
            return _WHOLE
        missing = ~finite
        if self.fill is None:
            out[missing, 0] = np.nan
            return Written(missing)
        out[missing, 0] = _fit_into(self.fill, out.dtype)
        return Written()


@dataclass(frozen=True, slots=True)
class Written:
    """What writing a feature met: rows without a value, and whether a text was new."""

    missing: Bools | None = None
    unseen: bool = False


_WHOLE = Written()


@dataclass(frozen=True, slots=True)
class TextFeature:
    """What the encodings of text share: ``categories`` in text order; ``fill`` stands in when given."""

    field: str
    categories: tuple[str, ...]
    fill: str | None = None
    # Made once: a slice of one row must not cost as much as the model has categories.
    _index: dict[str, int] = dataclass_field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {category: code for code, category in enumerate(self.categories)}
        object.__setattr__(self, "_index", index)

    @property
    def width(self) -> int:
        """Columns of the matrix that hold the field."""
        return 1

    def resolve(self, column: Column) -> tuple[Int32, Written]:
        """Codes into ``categories``, `UNSEEN` or `MISSING` where there is none."""
        if not isinstance(column, TextColumn):
            raise InvalidInput(f"Field {self.field!r} holds text in this model and came as numbers")
        index = self._index
        lookup = np.empty(len(column.categories) + 1, dtype=np.int32)
        lookup[:-1] = [index.get(category, UNSEEN) for category in column.categories]
        lookup[-1] = MISSING if self.fill is None else index.get(self.fill, UNSEEN)
        codes = lookup[column.codes]  # a missing code is -1, the last of lookup
        unseen = bool(np.any(codes == UNSEEN))
        missing = codes == MISSING
        return codes, Written(missing if missing.any() else None, unseen)


@dataclass(frozen=True, slots=True)
class OneHotFeature(TextFeature):
    """One column ``field=value`` per category, 1 where the row has it."""

    kind: ClassVar[str] = "onehot"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.field}={category}" for category in self.categories)

    @property
    def width(self) -> int:
        return len(self.categories)

    def write(self, column: Column, out: Matrix) -> Written:
        codes, written = self.resolve(column)
        out[:] = 0
        rows = np.flatnonzero(codes >= 0)
        out[rows, codes[rows]] = 1
        return written


@dataclass(frozen=True, slots=True)
class CodesFeature(TextFeature):
    """The category's number, for algorithms that take categories themselves."""

    kind: ClassVar[str] = "codes"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.field,)

    def write(self, column: Column, out: Matrix) -> Written:
        codes, written = self.resolve(column)
        out[:, 0] = codes
        out[codes < 0, 0] = np.nan
        return written


@dataclass(frozen=True, slots=True)
class TargetFeature(TextFeature):
    """Smoothed mean of the target per category; ``means`` (n_categories, width), ``default`` (width,).

    One column ``field`` for numbers and two classes, one ``field:class`` per class for more (``labels``).
    """

    kind: ClassVar[str] = "target"
    means: tuple[tuple[float, ...], ...] = ()
    default: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.field}:{label}" for label in self.labels) if self.labels else (self.field,)

    @property
    def width(self) -> int:
        return max(1, len(self.labels))

    def write(self, column: Column, out: Matrix) -> Written:
        codes, written = self.resolve(column)
        table = _fit_into(np.asarray([*self.means, self.default], dtype=np.float64), out.dtype)
        out[:] = table[np.where(codes < 0, len(self.categories), codes)]
        return written


Feature = NumberFeature | OneHotFeature | CodesFeature | TargetFeature
KINDS = ("number", "onehot", "codes", "target")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A matrix of the rows that can be scored. ``kept`` is None when that is all of them."""

    x: Matrix
    kept: Bools | None
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Preparation:
    """How the columns of a row become the numbers a model reads, in order."""

    nulls: str
    features: tuple[Feature, ...]

    @property
    def required_fields(self) -> tuple[str, ...]:
        return tuple(feature.field for feature in self.features)

    @property
    def number_fields(self) -> frozenset[str]:
        return frozenset(feature.field for feature in self.features if isinstance(feature, NumberFeature))

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(name for feature in self.features for name in feature.names)

    @property
    def categorical(self) -> tuple[int, ...]:
        """Positions in the matrix that hold codes of categories."""
        found: list[int] = []
        at = 0
        for feature in self.features:
            if isinstance(feature, CodesFeature):
                found.append(at)
            at += feature.width
        return tuple(found)

    def transform(
        self,
        batch: RecordBatch,
        *,
        dtype: npt.DTypeLike = np.float64,
        on_missing: str = "warn",
    ) -> Prepared:
        """The matrix of ``batch``, which may lack fields (see ``on_missing``).

        ``warn`` says so: absent text fields give all-zero dummies, absent numbers no answer (or the stored
        value, or NaN, as ``nulls`` says). ``null`` takes an absent field for one without values.
        ``error`` raises `InvalidInput` naming the absent fields.
        """
        notices = absent_notices(self, batch, on_missing)
        x: Matrix = np.empty((batch.n_rows, sum([feature.width for feature in self.features])), dtype=dtype)
        dropped: Bools | None = None
        at = 0
        for feature in self.features:
            out = x[:, at : at + feature.width]
            at += feature.width
            column = batch.columns.get(feature.field)
            absent = column is None
            if column is None:
                column = _empty(feature, batch.n_rows)
            written = feature.write(column, out)
            if written.unseen:
                notices.append(unseen_notice(feature))
            lenient = absent and on_missing == "warn" and not isinstance(feature, NumberFeature)
            if written.missing is not None and self.nulls == "drop" and not lenient:
                dropped = written.missing if dropped is None else dropped | written.missing
        if dropped is None:
            return Prepared(x, None, tuple(notices))
        kept = ~dropped
        return Prepared(x[kept], kept, tuple(notices))

    def to_json(self) -> dict[str, Any]:
        return {"nulls": self.nulls, "features": [_feature_to_json(feature) for feature in self.features]}

    @classmethod
    def from_json(cls, section: Section) -> Preparation:
        nulls = section.choice("nulls", NULLS)
        features = tuple(_feature_from_json(item) for item in section.sections("features", max_items=100_000))
        section.done()
        names = [feature.field for feature in features]
        if len(set(names)) != len(names):
            raise InvalidInput(f"{section.where} names a field twice")
        return cls(nulls, features)


def absent_notices(preparation: Preparation, batch: RecordBatch, on_missing: str) -> list[Notice]:
    """What is to be said of fields that ``batch`` lacks. Raises `InvalidInput` under ``on_missing=error``."""
    present = batch.columns
    absent = [feature.field for feature in preparation.features if feature.field not in present]
    if not absent or on_missing == "null":
        return []
    shown = ", ".join(repr(name) for name in absent[:5]) + (" and more" if len(absent) > 5 else "")
    text = f"The rows lack {len(absent)} of the model's {len(preparation.features)} fields: {shown}"
    if on_missing == "error":
        raise InvalidInput(text, fix="Add them, or use on_missing=warn.")
    blank = preparation.nulls == "drop" and any(name in preparation.number_fields for name in absent)
    effect = "predictions are blank" if blank else "predictions are made without them"
    return [Notice("warn", f"{text}; {effect} (on_missing=warn)")]


def _fit_into(values: Any, dtype: np.dtype[Any]) -> Any:
    """``values`` within the range of ``dtype``: a stored value never becomes infinite."""
    limit = np.finfo(dtype).max
    return np.clip(values, -limit, limit)


def text_in_number(name: str, column: Column) -> InvalidInput:
    """The error for text where the model reads numbers."""
    example = ""
    if isinstance(column, TextColumn):
        example = next((text for text in column.categories if not is_number(text)), "")
    return InvalidInput(
        f"Field {name!r} is a number in this model, but a row has {example[:60]!r}",
        fix="Clean the field, or leave those rows out, before predicting.",
    )


def is_number(text: str) -> bool:
    """Whether ``text`` reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _empty(feature: Feature, n_rows: int) -> Column:
    if isinstance(feature, NumberFeature):
        return NumberColumn(np.full(n_rows, np.nan))
    return TextColumn(np.full(n_rows, MISSING, dtype=np.int32), ())


def unseen_notice(feature: Feature) -> Notice:
    """That a text field has values which training has not seen, and what becomes of them."""
    effect = {
        "onehot": "they count as none of the known ones",
        "target": "they count as the average of all",
        "codes": "the algorithm sees no value",
    }[feature.kind]
    return Notice("info", f"Field {feature.field!r} has values that training has not seen: {effect}")


def _feature_to_json(feature: Feature) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": feature.kind, "field": feature.field, "fill": feature.fill}
    if isinstance(feature, TextFeature):
        out["categories"] = list(feature.categories)
    if isinstance(feature, TargetFeature):
        out["means"] = [list(row) for row in feature.means]
        out["default"] = list(feature.default)
        out["labels"] = list(feature.labels)
    return out


def _feature_from_json(section: Section) -> Feature:
    kind = section.choice("kind", KINDS)
    name = section.text("field")
    feature: Feature
    if kind == "number":
        feature = NumberFeature(name, section.number_or_none("fill"))
    else:
        categories, fill = section.texts("categories"), section.text_or_none("fill")
        if kind == "onehot":
            feature = OneHotFeature(name, categories, fill)
        elif kind == "codes":
            feature = CodesFeature(name, categories, fill)
        else:
            rows = section.rows("means")
            default, labels = section.numbers("default"), section.texts("labels")
            width = max(1, len(labels))
            if len(rows) != len(categories) or any(
                len(row) != width or None in row for row in (*rows, default)
            ):
                raise InvalidInput(f"{section.where}: 'means' does not fit 'categories'")
            means = tuple(tuple(float(cell or 0.0) for cell in row) for row in rows)
            feature = TargetFeature(name, categories, fill, means, default, labels)
    section.done()
    return feature
