"""How fitted estimators become files and come back as scorers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kepler.core.algorithms import Fitted, Matrix, RawScores
from kepler.core.saved import SavedModel as SavedModel


class Scorer(Protocol):
    """Scores matrices of its own dtype; thread-safe."""

    size_bytes: int

    def score(self, x: Matrix) -> RawScores: ...


class ModelFormats(Protocol):
    def save(self, fitted: Fitted, sample: Matrix, folder: Path) -> SavedModel:
        """Write ``fitted`` into ``folder``: ONNX where it agrees on ``sample`` and the grid, else native.

        Never pickles. Raises `InvalidInput` when the estimator has no safe format.
        """
        ...

    def load(self, saved: SavedModel, folder: Path, *, threads: int = 1) -> Scorer:
        """Open what `save` wrote. Hashes and signature were checked before."""
        ...


@runtime_checkable
class EstimatorStates(Protocol):
    """Formats that can also keep the estimator itself, for ``partial_fit``. Never pickles."""

    def save_state(self, fitted: Fitted, folder: Path) -> str:
        """Write ``fitted.estimator`` into ``folder``; gives the file's name."""
        ...

    def load_state(self, name: str, folder: Path) -> Any:
        """The estimator that `save_state` wrote. Raises `InvalidInput` for a type off the audited list."""
        ...
