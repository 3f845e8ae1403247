"""What one training may use, and the sentence a user reads when it used more."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from kepler.core.jobs import Failure

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Bounds of one worker with everything it starts. 0 means no limit, except where said.

    ``memory_bytes`` is resident memory of the whole process tree. ``cpu_s`` are processor seconds of the
    tree. ``scratch_bytes`` is what the training may add to its job folder. ``free_bytes`` is what must stay
    free on that disk for the service itself. ``threads`` is at least 1. ``nice`` is added to the service's
    own niceness, so that predictions go first.
    """

    memory_bytes: int = 4 * GIB
    time_s: float = 3600.0
    cpu_s: float = 0.0
    processes: int = 64
    scratch_bytes: int = 20 * GIB
    free_bytes: int = 256 * MIB
    threads: int = 1
    nice: int = 5

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerLimits:
        return cls(**json.loads(text))


# The setting that raises each limit; a failure names it so that the reader knows where to turn.
SETTINGS = {
    "memory": "KEPLER_WORKER__MEMORY_MB",
    "time": "KEPLER_WORKER__TIME_S",
    "cpu": "KEPLER_WORKER__CPU_S",
    "processes": "KEPLER_WORKER__PROCESSES",
    "disk": "KEPLER_WORKER__SCRATCH_MB",
}


def over_limit(cause: str, limits: WorkerLimits) -> Failure:
    """The failure of a training that passed the limit ``cause``: memory, time, cpu, processes or disk."""
    setting = SETTINGS[cause]
    if cause == "memory":
        return Failure(
            "Overloaded",
            f"The training needed more memory than the {readable_bytes(limits.memory_bytes)} it may use",
            "The limit for memory was passed",
            f"Train on fewer rows or fields, or raise {setting}",
        )
    if cause == "time":
        return Failure(
            "TimedOut",
            f"The training took longer than the {limits.time_s:g} s it may take",
            "The limit for time was passed",
            f"Train on fewer rows, choose cheaper parameters, or raise {setting}",
        )
    if cause == "cpu":
        return Failure(
            "TimedOut",
            f"The training used more than the {limits.cpu_s:g} s of processor time it may use",
            "The limit for cpu was passed",
            f"Train on fewer rows, choose cheaper parameters, or raise {setting}",
        )
    if cause == "processes":
        return Failure(
            "Overloaded",
            f"The training started more than the {limits.processes} processes it may start",
            "The limit for processes was passed",
            f"Use fewer parallel workers in the algorithm, or raise {setting}",
        )
    return Failure(
        "Overloaded",
        f"The training wrote more than the {readable_bytes(limits.scratch_bytes)} it may write,"
        " or the disk is nearly full",
        "The limit for disk was passed",
        f"Free space on the disk of the service's home, or raise {setting}",
    )


def readable_bytes(count: int) -> str:
    """``1536 * MIB`` as ``1.5 GiB``."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"
