"""Where model versions live."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from kepler.core.names import ModelName, ModelRef
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.core.versions import VersionRecord


class ModelStore(Protocol):
    """Named models with immutable versions and movable aliases.

    Reads must be cheap: `resolve` stands on the path of every search. All methods are safe to call from
    several threads.
    """

    def resolve(self, ref: ModelRef) -> VersionRecord:
        """The version meant by ``ref``. Raises `NotFound` naming what exists instead."""
        ...

    def recall(self, ref: ModelRef) -> VersionRecord | None:
        """What `resolve` would answer now, where the store knows it without a query; else None.

        Takes microseconds and waits for nobody, so that an event loop may ask.
        """
        ...

    def register(self, spec: TrainSpec, outcome: TrainOutcome, draft: Path) -> VersionRecord:
        """Make the next version of ``spec.model`` out of the draft folder.

        Idempotent by ``spec.job_id``: called again after a crash at any point it gives the same version.
        Completes, signs and moves the folder; a version is visible only once it is whole on disk.
        """
        ...

    def list_models(
        self, pattern: str = "*", *, user: str = "", everything: bool = False
    ) -> list[VersionRecord]:
        """Newest version of each model that ``user`` may see, by full name."""
        ...

    def list_versions(self, name: ModelName) -> list[VersionRecord]:
        """All versions, newest first. Raises `NotFound` when there is no such model."""
        ...

    def set_alias(self, name: ModelName, alias: str, version: int) -> VersionRecord: ...

    def delete_alias(self, name: ModelName, alias: str) -> VersionRecord: ...

    def rollback(self, name: ModelName, alias: str) -> VersionRecord:
        """Point ``alias`` at the version it pointed at before. Raises `Conflict` when there was none."""
        ...

    def delete(self, name: ModelName, version: int | None) -> list[int]:
        """Delete one version, or the model with all of them; gives the deleted numbers."""
        ...

    def close(self) -> None: ...
