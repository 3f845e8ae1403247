"""From the rows on disk to the matrix of one training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import AlgorithmInfo, Task, TrainingSet
from kepler.core.datasets import TrainingTable, WideText, missing_field
from kepler.core.errors import InvalidInput
from kepler.core.jobs import Notice
from kepler.core.preparation import Preparation, TargetFeature
from kepler.core.preparing import PrepareOptions, Selection, learn, narrow, select, training_matrix
from kepler.core.profile import FieldProfile, profile_of
from kepler.core.records import Bools
from kepler.core.splits import holdout
from kepler.core.target_encoding import TargetMeans
from kepler.core.targets import Target, read_target
from kepler.core.training import TrainSpec
from kepler.ports.training import TrainingRows

Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class PreparedRows:
    """The kept rows as a matrix. ``train`` (n_kept,) are those to learn from, None for all.

    ``out_of_fold`` maps the first column of a target-encoded field to what training rows see there.
    """

    x: Floats  # (n_kept, n_features) float64
    target: Target | None
    train: Bools | None
    preparation: Preparation
    notices: tuple[Notice, ...] = ()
    out_of_fold: dict[int, Floats] = field(default_factory=dict[int, Floats])

    @property
    def training_rows(self) -> Bools | slice:
        return slice(None) if self.train is None else self.train

    def training_set(self) -> TrainingSet:
        """The rows to learn from, with out-of-fold values where a field is target-encoded."""
        rows = self.training_rows
        x = self.x[rows]
        if self.out_of_fold:
            x = x.copy(order="F")
            for at, values in self.out_of_fold.items():
                x[:, at : at + values.shape[1]] = values
        y = self.target.y[rows] if self.target else None
        classes = self.target.classes if self.target else ()
        return TrainingSet(x, y, self.preparation.feature_names, classes, self.preparation.categorical)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows and target of a training before anything is learned from them."""

    table: TrainingTable
    selection: Selection
    target: Target | None
    options: PrepareOptions
    profile: dict[str, FieldProfile]


def load(spec: TrainSpec, info: AlgorithmInfo, rows: TrainingRows) -> TrainingTable:
    """Read the fields of ``spec``. Raises `InvalidInput` for a field that the rows lack."""
    fields = used_fields(spec)
    present = set(rows.columns)
    for name in fields:
        if name not in present:
            raise missing_field(name, rows.columns)
    if rows.n_rows == 0:
        raise InvalidInput("There are no rows to learn from", fix="Check the search before the command.")
    as_text = frozenset([spec.target]) if info.task is Task.CLASSIFICATION else frozenset[str]()
    return rows.read(fields, as_text=as_text)


def used_fields(spec: TrainSpec) -> tuple[str, ...]:
    return (*spec.features, *((spec.target,) if spec.target else ()))


def choose(spec: TrainSpec, info: AlgorithmInfo, table: TrainingTable) -> Chosen:
    """Check the options, then decide which rows and fields are used."""
    options = PrepareOptions(
        info.name, spec.nulls, spec.categoricals, info.native_nulls, info.native_categoricals
    )
    options.check(has_target=info.task.needs_target)
    selection = select(table, spec.features, spec.target, spec.nulls)
    target = read_target(table, spec.target, info.task, selection.kept) if spec.target else None
    return Chosen(table, selection, target, options, profile_of(table, used_fields(spec)))


def split(spec: TrainSpec, info: AlgorithmInfo, chosen: Chosen) -> Bools | None:
    """Which of the kept rows are learned from; None is all."""
    if not spec.test_size:
        return None
    classes = chosen.target.y if chosen.target and info.task is Task.CLASSIFICATION else None
    return ~holdout(chosen.selection.n_kept, spec.test_size, spec.seed, classes)


def build(chosen: Chosen, train: Bools | None, seed: int, *, consume: bool) -> PreparedRows:
    """Learn the preparation from the ``train`` rows and make the matrix of all kept ones."""
    table, selection, target = chosen.table, chosen.selection, chosen.target
    means = _target_means(chosen, train)
    preparation, notices = learn(table, selection.fields, _sent(selection.kept, train), chosen.options, means)
    out_of_fold = _out_of_fold(preparation, chosen, train, means, seed) if means else {}
    x = training_matrix(preparation, table, selection.kept, selection.n_kept, consume=consume)
    return PreparedRows(x, target, train, preparation, _with_examples(notices, table), out_of_fold)


def _target_means(chosen: Chosen, train: Bools | None) -> TargetMeans | None:
    if chosen.options.categoricals != "target" or chosen.target is None:
        return None
    y = chosen.target.y if train is None else chosen.target.y[train]
    return TargetMeans.of(y, chosen.target.classes)


def _sent(kept: Bools | None, train: Bools | None) -> Bools | None:
    """The ``train`` of the kept rows as a mask of the sent ones."""
    if kept is None or train is None:
        return kept if train is None else train
    out = kept.copy()
    out[kept] = train
    return out


def _out_of_fold(
    preparation: Preparation, chosen: Chosen, train: Bools | None, means: TargetMeans, seed: int
) -> dict[int, Floats]:
    rows = _sent(chosen.selection.kept, train)
    found: dict[int, Floats] = {}
    at = 0
    for feature in preparation.features:
        if isinstance(feature, TargetFeature):
            column = chosen.table.columns[feature.field]
            assert not isinstance(column, WideText)
            codes, _ = feature.resolve(narrow(column, rows))
            found[at] = means.out_of_fold(codes, len(feature.categories), seed)
        at += len(feature.names)
    return found


def _with_examples(notices: Sequence[Notice], table: TrainingTable) -> tuple[Notice, ...]:
    """Say of a dropped text field what in it is no number: often that was a surprise."""
    out: list[Notice] = []
    for notice in notices:
        name = next((name for name in table.bad_numbers if f"field '{name}':" in notice.text), "")
        example = table.bad_numbers.get(name, "")
        out.append(
            Notice(notice.level, f"{notice.text}; {example[:40]!r} is no number") if example else notice
        )
    return tuple(out)
