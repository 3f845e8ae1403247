"""What a training reads and writes in its job's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kepler.core.datasets import TrainingTable
from kepler.core.manifest import Manifest
from kepler.core.outputs import Output


class TrainingRows(Protocol):
    """The rows that were sent, as text columns on disk."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def n_rows(self) -> int: ...

    def read(
        self,
        fields: Sequence[str],
        *,
        as_text: frozenset[str] = frozenset(),
        keys: frozenset[str] = frozenset(),
    ) -> TrainingTable:
        """The ``fields`` as numbers where every value of a field is one, else as text.

        Fields in ``as_text`` stay text whatever they hold; of those in ``keys`` too, `MAX_GROUPS` distinct
        texts are kept, where other fields keep fewer. Memory: 8 bytes a number, 4 a text.
        """
        ...


class PredictionSink(Protocol):
    """Takes the new columns of the training rows, in order, slice by slice."""

    def write(self, outputs: Sequence[Output], n_rows: int) -> None: ...

    def close(self) -> None: ...


class TrainingFiles(Protocol):
    """The folder of one training. Written again after a crash, everything starts from nothing."""

    @property
    def rows(self) -> TrainingRows: ...

    def predictions(self, columns: tuple[str, ...]) -> PredictionSink:
        """Opens the file of predictions; its name is `predictions_name`."""
        ...

    @property
    def predictions_name(self) -> str: ...

    def draft(self) -> Path:
        """An empty folder for a version's files, named `draft_name`."""
        ...

    @property
    def draft_name(self) -> str: ...

    def write_manifest(self, manifest: Manifest) -> None:
        """Write ``manifest.json`` into the draft."""
        ...

    def parent(self, folder: str, digest: str) -> Manifest:
        """The manifest of the version that training goes on from.

        Raises `NotFound` when it is gone, `Conflict` when its digest is another or a file is not as it says.
        """
        ...
