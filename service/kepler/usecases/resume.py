"""partial_fit: go on from an earlier version with more rows.

The earlier version fixes what its model means: fields, preparation, classes, parameters. New categories
count as none of the known ones; a new class, another target or another algorithm is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kepler.core.algorithms import Algorithm, AlgorithmInfo, Fitted, Incremental, Run, Task
from kepler.core.datasets import TrainingTable, missing_field
from kepler.core.errors import InvalidInput
from kepler.core.jobs import Notice
from kepler.core.manifest import Manifest
from kepler.core.preparing import PrepareOptions, select, training_matrix
from kepler.core.profile import profile_of
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
    if spec.nulls == "native" or spec.categoricals == "target":
        raise InvalidInput(
            "partial_fit needs a preparation that does not change with the rows",
            fix="Use nulls=drop or impute, and categoricals=onehot.",
        )


def open_earlier(
    spec: TrainSpec, info: AlgorithmInfo, files: TrainingFiles, formats: ModelFormats
) -> Earlier:
    """The version in ``spec.parent``. Raises `InvalidInput` when training cannot go on from it."""
    manifest = files.parent(spec.parent)
    name = f"{manifest.name}@{manifest.version}"
    if manifest.algorithm != info.name:
        raise InvalidInput(
            f"{name} was trained with {manifest.algorithm}, not {info.name}",
            fix="Name that algorithm, or train into another model.",
        )
    if manifest.target != spec.target:
        raise InvalidInput(
            f"{name} predicts '{manifest.target}', not '{spec.target}'", fix="Train into another model."
        )
    state = manifest.model.extra.get(STATE)
    if not state or not isinstance(formats, EstimatorStates):
        raise InvalidInput(
            f"{name} was not trained with partial_fit=true, so it cannot be gone on from",
            fix="Train the first version with partial_fit=true.",
        )
    return Earlier(manifest, formats.load_state(state, Path(spec.parent)))


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
    x = training_matrix(preparation, table, selection.kept, selection.n_kept, consume=True)
    notices: tuple[Notice, ...] = ()
    changed = sorted(key for key, value in spec.params.items() if manifest.params.get(key, value) != value)
    if changed:
        notices = (
            Notice(
                "warn", f"kept the earlier model's {', '.join(changed)}: partial_fit goes on with it as it is"
            ),
        )
    return chosen, PreparedRows(x, target, None, preparation, notices)


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
