"""Native formats that run no code when they are read: skops with a fixed list of types, booster files."""

from __future__ import annotations

from pathlib import Path

from kepler.core.algorithms import Fitted
from kepler.core.errors import InvalidInput
from kepler.ports.formats import SavedModel, Scorer


def save(fitted: Fitted, folder: Path) -> SavedModel:
    raise InvalidInput(f"{type(fitted.estimator).__name__} has no safe native format")


def load(saved: SavedModel, path: Path, *, threads: int) -> Scorer:
    raise InvalidInput(f"The model's format {saved.format[:40]!r} is unknown")
