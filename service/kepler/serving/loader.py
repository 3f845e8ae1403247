"""From a version folder to a model that answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kepler.core.algorithms import RawScores
from kepler.core.errors import Conflict, InvalidInput
from kepler.core.jobs import Notice
from kepler.core.manifest import Manifest
from kepler.core.outputs import Output
from kepler.core.records import RecordBatch
from kepler.ports.formats import GroupFormats, ModelFormats, Scorer
from kepler.ports.serving import LoadedModel, PredictOptions, Scoring
from kepler.serving.grouped import GroupedServedModel
from kepler.serving.options import check_options

_BASE_BYTES = 64 * 1024  # what a loaded model costs beside its weights


class ServedModel:
    """Implements `kepler.ports.serving.LoadedModel`. Holds nothing that a call changes."""

    def __init__(self, manifest: Manifest, scorer: Scorer, full_name: str) -> None:
        self.full_name = full_name
        self.manifest = manifest
        self.signature = manifest.signature
        self.required_fields = manifest.required_fields
        self.number_fields = manifest.number_fields
        self._scorer = scorer
        self._dtype = np.dtype(manifest.model.dtype)
        categories = sum(len(name) for name in manifest.preparation.feature_names)
        self.size_bytes = scorer.size_bytes + 4 * categories + _BASE_BYTES

    def check_options(self, options: PredictOptions) -> None:
        check_options(self.manifest, self.full_name, options)

    def output_columns(self, options: PredictOptions) -> tuple[str, ...]:
        return self.manifest.outputs.columns(as_name=options.as_name, probabilities=options.probabilities)

    def predict(self, batch: RecordBatch, options: PredictOptions) -> Scoring:
        self.check_options(options)
        prepared = self.manifest.preparation.transform(
            batch, dtype=self._dtype, on_missing=options.on_missing
        )
        notices = list(prepared.notices)
        raw = self._scorer.score(prepared.x) if len(prepared.x) else self._nothing()
        if prepared.kept is not None and (batch.n_rows == 0 or not prepared.kept.all()):
            notices.append(
                Notice("info", "rows without a value in a field the model reads get no prediction")
            )
        outputs: tuple[Output, ...] = self.manifest.outputs.build(
            raw, prepared.kept, as_name=options.as_name, probabilities=options.probabilities
        )
        return Scoring(outputs, tuple(notices))

    def _nothing(self) -> RawScores:
        """Scores of no rows, in the shape of the golden ones: not every runtime takes an empty matrix."""
        return self.manifest.golden.empty()


class FolderModelLoader:
    """Implements `kepler.ports.serving.ModelLoader`.

    Parameters
    ----------
    verify
        Checks signature and hashes of a folder and gives its manifest; raises when they do not hold.
    threads
        Threads that one call of a model may use.
    """

    def __init__(
        self, formats: ModelFormats, verify: Callable[[Path], Manifest], *, threads: int = 1
    ) -> None:
        self._formats = formats
        self._verify = verify
        self._threads = threads

    def load(self, folder: Path, full_name: str) -> LoadedModel:
        """Raises `Conflict` when the model does not give the answers it gave when it was made."""
        manifest = self._verify(folder)
        holds = f"{manifest.name}@{manifest.version}"
        if manifest.name and holds != full_name:
            raise Conflict(
                f"The folder of model {full_name} holds {holds}",
                fix="Restore the service's home from a backup, or train the model again.",
            )
        if manifest.groups is not None:
            if not isinstance(self._formats, GroupFormats):
                raise InvalidInput(f"Model {full_name} holds groups, which these formats do not read")
            pack = self._formats.open_groups(folder, threads=self._threads)
            return GroupedServedModel(manifest, pack, full_name)
        scorer = self._formats.load(manifest.model, folder, threads=self._threads)
        golden = manifest.golden
        if golden.inputs:
            difference = golden.difference(scorer.score(golden.matrix(manifest.model.dtype)))
            if not difference <= golden.tolerance:
                raise Conflict(
                    f"Model {full_name} does not give the answers it gave when it was trained",
                    cause=f"Its recorded answers differ by {difference:.3g}: its files or the libraries changed",
                    fix="Use an earlier version, or train it again.",
                )
        return ServedModel(manifest, scorer, full_name)
