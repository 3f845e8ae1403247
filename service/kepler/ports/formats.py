"""How fitted estimators become files and come back as scorers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kepler.core.algorithms import Fitted, Matrix, RawScores
from kepler.core.golden import GoldenVectors
from kepler.core.group_table import GroupTable, Place
from kepler.core.packed import Packed
from kepler.core.preparation import Preparation
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


@dataclass(frozen=True, slots=True)
class GroupMember:
    """One group's own model inside a pack. ``columns`` are the pack's components that its own stand for."""

    preparation: Preparation
    model: SavedModel
    golden: GoldenVectors
    columns: tuple[int, ...] = ()


class GroupPackWriter(Protocol):
    """Writes the models of many groups into one version folder."""

    def add(
        self, fitted: Fitted, x: Matrix, preparation: Preparation, columns: tuple[int, ...] = ()
    ) -> tuple[Place, SavedModel]:
        """Append one group's model; ``x`` are rows as it was trained on, to check it and to remember.

        ``columns`` are as in `GroupMember`.
        """
        ...

    def close(self, table: GroupTable, packed: Packed | None) -> tuple[str, ...]:
        """Write the list of groups and the shared arrays; gives the names of all files."""
        ...

    def abandon(self) -> None:
        """Let go of what is open when training fails; after `close` it does nothing."""
        ...


class GroupPack(Protocol):
    """An open pack; thread-safe. Only ``table`` and ``packed`` are in memory."""

    table: GroupTable
    packed: Packed | None
    size_bytes: int

    def member(self, group: int) -> tuple[GroupMember, Scorer]:
        """Read one group's own model. Raises `Conflict` when its bytes or answers are not those recorded."""
        ...


@runtime_checkable
class GroupFormats(Protocol):
    """Formats that can keep one model per group in one version."""

    def write_groups(self, folder: Path) -> GroupPackWriter: ...

    def open_groups(self, folder: Path, *, threads: int = 1) -> GroupPack: ...
