"""partial_fit: go on from an earlier version with more rows.

The first version fixes what the model means: fields, preparation, classes, parameters. Texts that are new
in a later part count as none of the known ones, and new fields are left out, each with a notice. A new
class, another target, another algorithm or another parameter is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from kepler.core.algorithms import Algorithm, AlgorithmInfo, Fitted, Incremental, Run, Task
from kepler.core.datasets import TrainingTable, WideText, missing_field
from kepler.core.errors import InvalidInput
from kepler.core.jobs import Notice
from kepler.core.manifest import Manifest
from kepler.core.preparation import Preparation, TextFeature
from kepler.core.preparing import PrepareOptions, narrow, select, training_matrix
from kepler.core.profile import profile_of
from kepler.core.records import Bools, NumberColumn
from kepler.core.targets import read_target
from kepler.core.training import TrainSpec
from kepler.ports.formats import EstimatorStates, ModelFormats
from kepler.ports.training import TrainingFiles
from kepler.usecases.prepare import Chosen, PreparedRows

STATE = "state"  # key in the manifest's model.extra: the file with the estimator itself


@dataclass(frozen=True, slots=True)
class Earlier:
    """The version that training goes on from."""

    manifest: Manifest
    estimator: Any

    @property
    def full_name(self) -> str:
        return f"{self.manifest.name}@{self.manifest.version}"


def check_incremental(
    spec: TrainSpec, info: AlgorithmInfo, algorithm: Algorithm, formats: ModelFormats
) -> None:
    """Raise `InvalidInput` when ``spec`` asks for partial_fit in vain."""
    if not spec.partial_fit:
        return
    if not isinstance(algorithm, Incremental) or not isinstance(formats, EstimatorStates):
        raise InvalidInput(
            f"{info.name} cannot go on from an earlier model (partial_fit=true)",
            fix="Leave out partial_fit and train on all rows: there is no limit to them.",
        )
    for option, given in (("kfold_cv", spec.kfold_cv), ("test_size", spec.test_size)):
        if given:
            raise InvalidInput(f"partial_fit does not go with {option}", fix="Leave out one of them.")
    if spec.nulls == "native" or spec.categoricals != "onehot":
        raise InvalidInput(
            "partial_fit needs a preparation that does not change with the rows",
            fix="Use nulls=drop or impute, and categoricals=onehot.",
        )


def open_earlier(
    spec: TrainSpec, info: AlgorithmInfo, files: TrainingFiles, formats: ModelFormats
) -> Earlier:
    """The version in ``spec.parent``. Raises `InvalidInput` when training cannot go on from it."""
    manifest = files.parent(spec.parent, spec.parent_sha256)
    name = f"{manifest.name}@{manifest.version}"
    if manifest.algorithm != info.name:
        raise InvalidInput(
            f"{name} was trained with {manifest.algorithm}, not {info.name}, so it cannot be gone on from",
            fix=f"Use {manifest.algorithm}, or name another model to begin anew.",
        )
    if manifest.target != spec.target:
        raise InvalidInput(
            f"{name} predicts '{manifest.target}', not '{spec.target}', so it cannot be gone on from",
            fix=f"Predict '{manifest.target}', or name another model to begin anew.",
        )
    state = manifest.model.extra.get(STATE)
    if not state or not isinstance(formats, EstimatorStates):
        raise InvalidInput(
            f"{name} was not trained with partial_fit=true, so it cannot be gone on from",
            fix="Name another model to begin anew with partial_fit=true, or leave partial_fit out.",
        )
    return Earlier(manifest, formats.load_state(state, Path(spec.parent)))


def as_earlier(spec: TrainSpec, info: AlgorithmInfo, earlier: Earlier) -> TrainSpec:
    """``spec`` with the parameters of the earlier version. Raises `InvalidInput` where it asks for others."""
    manifest = earlier.manifest

    def before(name: str) -> Any:
        return manifest.params.get(name, info.params[name].default)

    changed = sorted(name for name, value in spec.params.items() if _plain(value) != _plain(before(name)))
    if changed:
        was = ", ".join(f"{name}={_plain(before(name))}" for name in changed)
        raise InvalidInput(
            f"{earlier.full_name} was trained with {was}, and partial_fit goes on with it as it is",
            fix=f"Leave out {', '.join(changed)}, or name another model to begin anew.",
        )
    if spec.nulls not in ("drop", manifest.preparation.nulls):
        raise InvalidInput(
            f"{earlier.full_name} was trained with nulls={manifest.preparation.nulls}, not nulls={spec.nulls}",
            fix="Leave out nulls, or name another model to begin anew.",
        )
    return replace(spec, params={**manifest.params, **spec.params})


def _plain(value: Any) -> str:
    """One text for equal values: sizes are a tuple by default and a list when given."""
    if isinstance(value, list | tuple):
        return "-".join(map(str, cast("list[object]", value)))
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def load_again(earlier: Earlier, info: AlgorithmInfo, files: TrainingFiles) -> TrainingTable:
    """Read the fields the earlier version reads, text as text."""
    manifest = earlier.manifest
    fields = (*manifest.required_fields, *((manifest.target,) if manifest.target else ()))
    for name in fields:
        if name not in set(files.rows.columns):
            raise missing_field(name, files.rows.columns)
    texts = {name for name in manifest.required_fields if name not in manifest.number_fields}
    if info.task is Task.CLASSIFICATION:
        texts.add(manifest.target)
    return files.rows.read(fields, as_text=frozenset(texts))


def prepare_again(
    spec: TrainSpec, info: AlgorithmInfo, earlier: Earlier, table: TrainingTable
) -> tuple[Chosen, PreparedRows]:
    """The matrix of ``table`` by the earlier preparation."""
    manifest = earlier.manifest
    preparation = manifest.preparation
    selection = select(
        table, preparation.required_fields, manifest.target, preparation.nulls, drop_empty=False
    )
    target = None
    if manifest.target:
        target = read_target(table, manifest.target, info.task, selection.kept, known=manifest.classes)
    fields = (*preparation.required_fields, *((manifest.target,) if manifest.target else ()))
    options = PrepareOptions(info.name, preparation.nulls, spec.categoricals)
    chosen = Chosen(table, selection, target, options, profile_of(table, fields))
    notices = _left_out(spec, earlier)
    notices += _new_texts(table, preparation, selection.kept)
    x = training_matrix(preparation, table, selection.kept, selection.n_kept, consume=True)
    return chosen, PreparedRows(x, target, None, preparation, tuple(notices))


def _left_out(spec: TrainSpec, earlier: Earlier) -> list[Notice]:
    known = set(earlier.manifest.required_fields)
    new = [name for name in spec.features if name not in known]
    if not new:
        return []
    names = ", ".join(f"'{name}'" for name in new[:8]) + (f" and {len(new) - 8} more" if len(new) > 8 else "")
    return [Notice("info", f"left out {names}: {earlier.full_name} does not read {_it(len(new))}")]


def _it(count: int) -> str:
    return "it" if count == 1 else "them"


def _new_texts(table: TrainingTable, preparation: Preparation, kept: Bools | None) -> list[Notice]:
    """Say which fields hold texts that the first version has not met."""
    found: list[Notice] = []
    for feature in preparation.features:
        column = table.columns[feature.field]
        if not isinstance(feature, TextFeature) or isinstance(column, NumberColumn):
            continue
        if isinstance(column, WideText):
            raise InvalidInput(
                f"Field '{feature.field}' has too many distinct texts, and the model knows "
                f"{len(feature.categories)} of them",
                fix="Group its values first, or leave such rows out.",
            )
        known = set(feature.categories)
        narrowed = narrow(column, kept)
        assert not isinstance(narrowed, NumberColumn)
        present = np.bincount(narrowed.codes[narrowed.codes >= 0], minlength=len(column.categories))
        new = [text for text, n in zip(column.categories, present, strict=True) if n and text not in known]
        if new:
            rows = int(sum(present[column.categories.index(text)] for text in new))
            text = (
                f"field '{feature.field}' has values that the model does not know in {rows:,} rows, such as "
                f"{new[0][:40]!r}: they count as none of the known ones"
            )
            found.append(Notice("warn", text))
    return found


def go_on(algorithm: Algorithm, prepared: PreparedRows, earlier: Earlier, run: Run) -> Fitted:
    """Learn from the new rows."""
    assert isinstance(algorithm, Incremental)
    return algorithm.partial_fit(prepared.training_set(), run, earlier.estimator)


def save_state(spec: TrainSpec, fitted: Fitted, formats: ModelFormats, folder: Path) -> dict[str, str]:
    """What ``model.extra`` gains so that a later training can go on."""
    if not spec.partial_fit:
        return {}
    assert isinstance(formats, EstimatorStates)
    return {STATE: formats.save_state(fitted, folder)}
