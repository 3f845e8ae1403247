"""Linear models and scalers of many groups as rows of shared arrays, scored in one vectorised step.

Row ``s`` of every array (a *slot*) is one group's model over the same columns: numbers as they are, one column
per known category. A column that a group has not learned from has weight 0 there, so a category it has not
seen counts as none of the known ones, as in a model of its own. Sums run along each row, so an answer never
depends on which other rows came with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import Fitted, RawScores
from kepler.core.errors import InvalidInput
from kepler.core.preparation import NumberFeature, OneHotFeature, Preparation, text_in_number
from kepler.core.records import Bools, NumberColumn, RecordBatch, TextColumn

Floats = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LINEAR, LOGISTIC, SCALER = "linear", "logistic", "scaler"
KINDS = {
    "LinearRegression": LINEAR,
    "Ridge": LINEAR,
    "Lasso": LINEAR,
    "ElasticNet": LINEAR,
    "SGDRegressor": LINEAR,
    "LogisticRegression": LOGISTIC,
    "StandardScaler": SCALER,
    "RobustScaler": SCALER,
}
MAX_BYTES = 256 * 2**20  # of the weights; groups beyond are kept one by one
_BLOCK_CELLS = 4_000_000  # weights gathered at once
ARRAYS = ("weights", "offset", "known", "used", "fill")


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Scores of the rows of a batch that were ``kept``; ``unseen`` are fields with a text no group knows."""

    raw: RawScores
    kept: Bools
    unseen: tuple[str, ...]


class Packed(Protocol):
    """Models of many groups in shared arrays, whatever their kind; see `PackedModels` for the fields."""

    @property
    def arrays(self) -> tuple[str, ...]: ...

    @property
    def kind(self) -> str: ...

    @property
    def preparation(self) -> Preparation: ...

    @property
    def used(self) -> Bools: ...

    @property
    def fill(self) -> Floats: ...

    @property
    def size_bytes(self) -> int: ...

    def check(self) -> None: ...

    def score(self, batch: RecordBatch, slots: Int64, *, lenient: frozenset[str]) -> PackedRows: ...


class PackerOfGroups(Protocol):
    """Collects fitted groups into `Packed`."""

    slots: int
    agreement: float

    def add(
        self, fitted: Fitted, preparation: Preparation, x: Floats, expected: RawScores, tolerance: float
    ) -> int:
        """Take a group in; gives its slot, or -1 when the arrays do not answer ``expected`` for ``x``."""
        ...

    def done(self) -> Packed: ...


@dataclass(frozen=True, slots=True)
class PackedModels:
    """``weights`` (n_slots, n_columns, width), ``offset`` (n_slots, n_columns or 1, width).

    ``known`` (n_slots, width or n_columns): classes a group met, or columns it scales. ``used`` (n_slots,
    n_fields): fields it reads. ``fill`` (n_slots, n_fields): what stands in for a missing value, NaN for
    nothing; of a text field the place among its categories, -1 for none of them.
    """

    kind: str
    preparation: Preparation
    weights: Floats
    offset: Floats
    known: Bools
    used: Bools
    fill: Floats

    @property
    def arrays(self) -> tuple[str, ...]:
        return ARRAYS

    @property
    def size_bytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    def check(self) -> None:
        """Raise `InvalidInput` when the arrays do not fit each other."""
        slots, columns, width = self.weights.shape if self.weights.ndim == 3 else (-1, -1, -1)
        fields = len(self.preparation.features)
        scaler = self.kind == SCALER
        fits = (
            self.kind in set(KINDS.values())
            and columns == len(self.preparation.feature_names)
            and self.offset.shape == (slots, columns if scaler else 1, width)
            and self.known.shape == (slots, columns if scaler else width)
            and self.used.shape == self.fill.shape == (slots, fields)
            and all(isinstance(item, NumberFeature | OneHotFeature) for item in self.preparation.features)
        )
        if not fits:
            raise InvalidInput("The arrays of the packed models do not fit each other")

    def score(self, batch: RecordBatch, slots: Int64, *, lenient: frozenset[str]) -> PackedRows:
        """Score every row of ``batch`` by its slot. An absent text field in ``lenient`` drops no row."""
        x, kept, unseen = packed_matrix(self, batch, slots, lenient, np.float64)
        if not kept.all():
            x, slots = x[kept], slots[kept]
        return PackedRows(self.scores(x, slots), kept, unseen)

    def scores(self, x: Floats, slots: Int64) -> RawScores:
        """Scores of ``x`` (n_rows, n_columns), each row by its slot."""
        if self.kind == SCALER:
            with np.errstate(divide="ignore", invalid="ignore"):
                made = (x - self.offset[slots, :, 0]) / self.weights[slots, :, 0]
            made[~self.known[slots]] = np.nan
            return {"components": made}
        decision = np.empty((len(x), self.weights.shape[2]))
        step = max(1, _BLOCK_CELLS // max(1, self.weights.shape[1] * self.weights.shape[2]))
        for at in range(0, len(x), step):
            here = slots[at : at + step]
            decision[at : at + step] = np.einsum("nf,nfk->nk", x[at : at + step], self.weights[here])
        decision += self.offset[slots, 0]
        if self.kind == LINEAR:
            return {"value": decision[:, 0]}
        decision[~self.known[slots]] = -np.inf
        top = decision.max(axis=1, keepdims=True) if len(decision) else decision[:, :1]
        odds = np.exp(decision - top)
        return {
            "label": decision.argmax(axis=1).astype(np.int64),
            "probabilities": odds / odds.sum(axis=1, keepdims=True),
        }


def packed_matrix(
    packed: Packed, batch: RecordBatch, slots: Int64, lenient: frozenset[str], dtype: npt.DTypeLike
) -> tuple[Floats, Bools, tuple[str, ...]]:
    """The matrix of ``batch`` by the groups' own rules, which rows can be scored, and fields with unseen texts.

    Numbers are those of ``dtype``: one beyond its range is missing.
    """
    x: Floats = np.zeros((batch.n_rows, len(packed.preparation.feature_names)))
    kept = np.ones(batch.n_rows, dtype=np.bool_)
    unseen: list[str] = []
    at = 0
    for place, feature in enumerate(packed.preparation.features):
        width = len(feature.names)
        out = x[:, at : at + width]
        at += width
        column = batch.columns.get(feature.field)
        fill = packed.fill[slots, place]
        used = packed.used[slots, place]
        if isinstance(feature, NumberFeature):
            if isinstance(column, TextColumn):
                raise text_in_number(feature.field, column)
            values = np.full(batch.n_rows, np.nan) if column is None else column.values
            with np.errstate(over="ignore"):
                values = values.astype(dtype)
            missing = ~np.isfinite(values)
            out[:, 0] = np.where(missing, fill, values)
            kept &= ~(missing & used & np.isnan(fill))
            out[~np.isfinite(out[:, 0]), 0] = 0.0  # not read there, or the row is left out
            continue
        assert isinstance(feature, OneHotFeature)
        if isinstance(column, NumberColumn):
            raise InvalidInput(f"Field {feature.field!r} holds text in this model and came as numbers")
        if column is None:
            column = TextColumn(np.full(batch.n_rows, -1, dtype=np.int32), ())
        codes, written = feature.resolve(column)
        if written.unseen:
            unseen.append(feature.field)
        missing = codes == -1
        if missing.any():
            if feature.field not in lenient:
                kept &= ~(missing & used & np.isnan(fill))
            codes = np.where(missing & ~np.isnan(fill), np.nan_to_num(fill), codes).astype(np.int64)
        rows = np.flatnonzero((codes >= 0) & used)
        out[rows, codes[rows]] = 1.0
    return x, kept, tuple(unseen)


class Places:
    """Where the columns, fields and categories of a group stand among those of all."""

    def __init__(self, preparation: Preparation) -> None:
        self._columns = {name: at for at, name in enumerate(preparation.feature_names)}
        self._fields = {feature.field: at for at, feature in enumerate(preparation.features)}
        self._categories = {
            feature.field: {text: at for at, text in enumerate(feature.categories)}
            for feature in preparation.features
            if isinstance(feature, OneHotFeature)
        }

    def columns(self, preparation: Preparation) -> Int64:
        return np.fromiter((self._columns[name] for name in preparation.feature_names), dtype=np.int64)

    def read(self, preparation: Preparation, used: Bools, fill: Floats) -> None:
        """Note in a group's row of ``used`` and ``fill`` what its ``preparation`` reads and fills in."""
        for feature in preparation.features:
            at = self._fields[feature.field]
            used[at] = True
            if isinstance(feature, NumberFeature):
                fill[at] = np.nan if feature.fill is None else feature.fill
            elif isinstance(feature, OneHotFeature) and feature.fill is not None:
                fill[at] = self._categories[feature.field][feature.fill]


def difference_of(got: RawScores, expected: RawScores) -> float:
    """Largest difference relative to max(1, |value|); infinite where keys or shapes differ."""
    if set(got) != set(expected):
        return np.inf
    worst = 0.0
    for key, value in expected.items():
        if np.issubdtype(value.dtype, np.integer):
            continue  # a label follows from the probabilities; they are compared
        gap = np.abs(got[key] - value) / np.maximum(1.0, np.abs(value))
        worst = max(worst, float(gap.max(initial=0.0)))
    return worst if np.isfinite(worst) else np.inf


class Packer:
    """Collects fitted groups into `PackedModels`.

    Parameters
    ----------
    preparation
        Every column any group may have: numbers and one-hot fields.
    width
        Classes of the target, else 1.
    """

    def __init__(self, preparation: Preparation, kind: str, width: int, n_groups: int) -> None:
        columns = len(preparation.feature_names)
        scaler = kind == SCALER
        self.slots = 0
        self.agreement = 0.0
        self._places = Places(preparation)
        self._made = PackedModels(
            kind,
            preparation,
            np.full((n_groups, columns, width), 1.0 if scaler else 0.0),
            np.zeros((n_groups, columns if scaler else 1, width)),
            np.zeros((n_groups, columns if scaler else width), dtype=np.bool_),
            np.zeros((n_groups, len(preparation.features)), dtype=np.bool_),
            np.full((n_groups, len(preparation.features)), np.nan),
        )

    def add(
        self, fitted: Fitted, preparation: Preparation, x: Floats, expected: RawScores, tolerance: float
    ) -> int:
        """Take a group in; gives its slot, or -1 when the arrays do not answer ``expected`` for ``x``."""
        if any(not isinstance(item, NumberFeature | OneHotFeature) for item in preparation.features):
            return -1
        slot = self.slots
        place = self._places.columns(preparation)
        if self._made.kind == SCALER:
            self._scaler(slot, fitted.estimator, place)
        elif self._made.kind == LINEAR:
            self._made.weights[slot, place, 0] = np.asarray(fitted.estimator.coef_).reshape(-1)
            self._made.offset[slot, 0, 0] = float(np.asarray(fitted.estimator.intercept_).reshape(-1)[0])
        else:
            self._classes(slot, fitted, place)
        difference = self._difference(slot, expected, x, place)
        if not difference <= tolerance:
            self._clear(slot)
            return -1
        self._places.read(preparation, self._made.used[slot], self._made.fill[slot])
        self.agreement = max(self.agreement, difference)
        self.slots += 1
        return slot

    def done(self) -> PackedModels:
        """The arrays of the groups that were taken."""
        made, n = self._made, self.slots
        return PackedModels(
            made.kind, made.preparation, *(getattr(made, name)[:n] for name in ARRAYS)
        )  # fmt: skip

    def _scaler(self, slot: int, estimator: Any, place: Int64) -> None:
        centre = getattr(estimator, "mean_", None) if hasattr(estimator, "mean_") else estimator.center_
        self._made.offset[slot, place, 0] = 0.0 if centre is None else centre
        self._made.weights[slot, place, 0] = 1.0 if estimator.scale_ is None else estimator.scale_
        self._made.known[slot, place] = True

    def _classes(self, slot: int, fitted: Fitted, place: Int64) -> None:
        coef = np.asarray(fitted.estimator.coef_, dtype=np.float64)
        offset = np.asarray(fitted.estimator.intercept_, dtype=np.float64).reshape(-1)
        met = list(fitted.class_index)
        into = met[1:] if len(coef) == 1 and len(met) == 2 else met
        for row, label in enumerate(into):
            self._made.weights[slot, place, label] = coef[row]
            self._made.offset[slot, 0, label] = offset[row]
        self._made.known[slot, met] = True

    def _difference(self, slot: int, expected: RawScores, x: Floats, place: Int64) -> float:
        wide: Floats = np.zeros((len(x), self._made.weights.shape[1]))
        wide[:, place] = x
        got = self._made.scores(wide, np.full(len(x), slot, dtype=np.int64))
        if self._made.kind == SCALER:
            got = {"components": got["components"][:, place]}
        return difference_of(got, expected)

    def _clear(self, slot: int) -> None:
        scaler = self._made.kind == SCALER
        self._made.weights[slot], self._made.offset[slot] = (1.0 if scaler else 0.0), 0.0
        self._made.known[slot] = False


def union_preparation(fields: Sequence[str], texts: Mapping[str, tuple[str, ...]], nulls: str) -> Preparation:
    """Numbers first, then text fields one column per category: every column that any group may have."""
    numbers = tuple(NumberFeature(name) for name in fields if name not in texts)
    hot = tuple(OneHotFeature(name, tuple(sorted(texts[name]))) for name in fields if name in texts)
    return Preparation(nulls, (*numbers, *hot))


def kind_of(estimator: object) -> str:
    """Which kind of arrays ``estimator`` fits; empty for none."""
    return KINDS.get(type(estimator).__name__, "")
