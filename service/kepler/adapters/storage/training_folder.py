"""The job's folder as a training sees it (`kepler.ports.training.TrainingFiles`)."""

from __future__ import annotations

import shutil
from pathlib import Path

from kepler.adapters.storage.arrow_rows import (
    PREDICTIONS_FILE,
    ROWS_FILE,
    ArrowTrainingRows,
    PredictionsWriter,
)
from kepler.adapters.storage.version_folder import MANIFEST, measure
from kepler.core.errors import Conflict, NotFound
from kepler.core.manifest import Manifest

DRAFT = "model"


class TrainingFolder:
    """``rows.arrow`` in; ``predictions.arrow`` and ``model/`` out."""

    predictions_name = PREDICTIONS_FILE
    draft_name = DRAFT

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.rows = ArrowTrainingRows(folder / ROWS_FILE)

    def predictions(self, columns: tuple[str, ...]) -> PredictionsWriter:
        return PredictionsWriter(self._folder, columns)

    def draft(self) -> Path:
        """An empty folder, whatever an earlier attempt left there."""
        path = self._folder / DRAFT
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        return path

    def write_manifest(self, manifest: Manifest) -> None:
        (self._folder / DRAFT / MANIFEST).write_bytes(manifest.to_bytes())

    def parent(self, folder: str, digest: str) -> Manifest:
        """The manifest of a registered version, once it is the one whose signature was checked and the files
        beside it are those it names.
        """
        path = Path(folder)
        try:
            manifest = Manifest.from_json((path / MANIFEST).read_bytes())
        except FileNotFoundError as error:
            raise NotFound(
                "The version to go on from was deleted meanwhile (partial_fit)", fix="Run the search again."
            ) from error
        if manifest.digest != digest or measure(path) != dict(manifest.files):
            raise Conflict(
                f"The files of {manifest.name}@{manifest.version} are not those it was registered with",
                fix="Train it again without partial_fit.",
            )
        return manifest
