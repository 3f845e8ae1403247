"""A model store that registers each job once, and writes down every time that it really did."""

from __future__ import annotations

import os
from pathlib import Path

from kepler.core.errors import KeplerError
from kepler.core.names import ModelName
from kepler.core.training import TrainOutcome, TrainSpec
from kepler.core.versions import VersionRecord


class OnceModels:
    """Only `register`, the one method a job runner calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = 0
        self.errors: list[Exception] = []

    def register(self, spec: TrainSpec, outcome: TrainOutcome, draft: Path) -> VersionRecord:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        self.folder.mkdir(exist_ok=True)
        try:
            os.close(os.open(self.folder / spec.job_id, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            pass
        else:
            assert (draft / "manifest.json").exists(), "the draft is there when it is registered"
            handle = os.open(self.folder / "effects", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
            os.write(handle, f"{spec.job_id}\n".encode())
            os.close(handle)
        return VersionRecord(ModelName("app", "search", "pump"), 1, str(self.folder), "", job_id=spec.job_id)

    def registered(self) -> list[str]:
        path = self.folder / "effects"
        return path.read_text().split() if path.exists() else []


def failing(error: KeplerError, times: int) -> list[Exception]:
    return [error] * times
