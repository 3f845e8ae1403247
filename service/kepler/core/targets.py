"""The field to predict, as class indices or numbers.

Classes keep the text they have in the data. They are ordered as numbers when every one of them is a number,
else as text, as scikit-learn orders them; texts that are one number ("1", "1.0") are one class, written as
its shortest text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kepler.core.algorithms import Task
from kepler.core.datasets import MAX_TRACKED_DISTINCT, TrainingTable, WideText
from kepler.core.errors import InvalidInput
from kepler.core.preparation import is_number
from kepler.core.preparing import narrow
from kepler.core.records import Bools, NumberColumn, TextColumn

MAX_CLASSES = 100  # max_distinct_cat_values_for_classifiers of the toolkit


@dataclass(frozen=True, slots=True)
class Target:
    """``y`` (n_kept,): class index int64 or float64 value; ``classes`` is empty for numbers."""

    y: npt.NDArray[Any]
    classes: tuple[str, ...] = ()

    def every(self, step: int) -> Target:
        return Target(self.y[::step], self.classes)


def read_target(
    table: TrainingTable, name: str, task: Task, kept: Bools | None, *, known: tuple[str, ...] = ()
) -> Target:
    """The target of the kept rows, in terms of the ``known`` classes where they are fixed already.

    Raises `InvalidInput` when it does not suit ``task``, or has a class that is not known.
    """
    column = table.columns[name]
    if task is Task.REGRESSION:
        if not isinstance(column, NumberColumn):
            raise InvalidInput(
                f"The target '{name}' is not a number in every row, but for example {table.bad_numbers.get(name, '')!r}",
                fix="Use a classifier, or convert the field first.",
            )
        narrowed = narrow(column, kept)
        assert isinstance(narrowed, NumberColumn)
        # Its own memory: the columns' becomes the matrix.
        return Target(narrowed.values.copy() if kept is None else narrowed.values)
    if isinstance(column, WideText):
        raise _too_many(name, f"more than {MAX_TRACKED_DISTINCT:,}")
    narrowed = narrow(column, kept)
    assert isinstance(narrowed, TextColumn)
    return _known(name, narrowed, known) if known else _classes(name, narrowed)


def _classes(name: str, column: TextColumn) -> Target:
    present = np.bincount(column.codes, minlength=len(column.categories)) > 0
    texts = [text for text, there in zip(column.categories, present, strict=True) if there]
    if all(is_number(text) and np.isfinite(float(text)) for text in texts):
        spelled: dict[float, str] = {}
        for text in sorted(texts, key=lambda text: (len(text), text)):
            spelled.setdefault(float(text), text)
        order = sorted(spelled)
        classes = (*[spelled[value] for value in order],)
        position = {value: index for index, value in enumerate(order)}
        index = {text: position[float(text)] for text in texts}
    else:
        classes = (*sorted(texts),)
        index = {text: at for at, text in enumerate(classes)}
    if len(classes) > MAX_CLASSES:
        raise _too_many(name, f"{len(classes):,}")
    if len(classes) < 2:
        raise InvalidInput(
            f"The target '{name}' has only the value {texts[0]!r} in the rows used",
            fix="Search for rows of every class.",
        )
    lookup = np.asarray([index.get(text, -1) for text in column.categories], dtype=np.int64)
    return Target(lookup[column.codes], classes)


def _known(name: str, column: TextColumn, known: tuple[str, ...]) -> Target:
    numeric = all(is_number(text) for text in known)
    index: dict[str | float, int] = {(float(text) if numeric else text): at for at, text in enumerate(known)}
    lookup = np.full(len(column.categories), -1, dtype=np.int64)
    for at, text in enumerate(column.categories):
        lookup[at] = index.get(float(text) if numeric and is_number(text) else text, -1)
    y = lookup[column.codes]
    if (y < 0).any():
        new = column.categories[int(column.codes[int(np.argmax(y < 0))])]
        raise InvalidInput(
            f"The target '{name}' has the value {new[:60]!r}, which the model does not know",
            cause=f"It knows {', '.join(known[:10])}",
            fix="Leave those rows out, or train a new model on all rows.",
        )
    return Target(y, known)


def _too_many(name: str, found: str) -> InvalidInput:
    return InvalidInput(
        f"The target '{name}' has {found} distinct values and a classifier takes at most {MAX_CLASSES}",
        fix="Use a regressor, or group the values first.",
    )
