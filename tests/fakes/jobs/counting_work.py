"""Work that leaves a line for every effect, to be interrupted by tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kepler.core.errors import Conflict
from kepler.core.jobs import Notice
from kepler.ports.jobs import WorkOrder, WorkOutcome, WorkRun


class CountingWork:
    """Implements `ports.jobs.Work`: ``first``, then waits for the file ``go``, then ``second``."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(self, order: WorkOrder, run: WorkRun) -> WorkOutcome:
        asked = json.loads(order.body)
        self._line(f"begin {order.job_id}")
        first = run.step("first", lambda: self._effect(order.job_id, "first"))
        if asked.get("fail"):
            run.step("failing", self._fail)
        while not (self._home / "go").exists():
            run.progress(0.5, "waiting")
            run.wait(0.05)
        run.step("second", lambda: self._effect(order.job_id, "second"))
        return WorkOutcome((("value", float(first["value"])),), (Notice("info", "Both are done"),))

    def _effect(self, job_id: str, name: str) -> dict[str, Any]:
        self._line(f"{name} {job_id}")
        return {"value": 7}

    def _fail(self) -> dict[str, Any]:
        self._line("failing")
        raise Conflict("It is taken", fix="Take another.")

    def _line(self, text: str) -> None:
        handle = os.open(self._home / "effects", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(handle, f"{text}\n".encode())
        os.close(handle)
