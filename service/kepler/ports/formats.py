"""How fitted estimators become files and come back as scorers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kepler.core.algorithms import Fitted, Matrix, RawScores


@dataclass(frozen=True, slots=True)
class SavedModel:
    """The ``model`` section of a manifest: which files, in which format, how well they agree.

    ``agreement`` is the largest difference between the native estimator and the file, relative to
    max(1, |value|), over training rows and the grid of DESIGN section 4. ``reason`` says why it is not ONNX.
    """

    format: str  # "onnx", "skops", "lightgbm", "xgboost", "catboost"
    files: tuple[str, ...]
    dtype: str
    outputs: tuple[str, ...]  # keys of RawScores it gives
    agreement: float = 0.0
    checked_rows: int = 0
    opset: int = 0
    reason: str = ""
    trusted_types: tuple[str, ...] = ()  # skops: the audited list
    extra: dict[str, str] = field(default_factory=dict[str, str])


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
