"""Tries a model in a process of its own, with limits, before it may serve.

ONNX Runtime is native code: a model may make it crash, hang or take all memory, and then only this process is lost.
The process loads the package as the agent would, checks the golden answers in one batch and row by row, and measures
its memory and the time of one row. It says one line of JSON; no line is a reason too.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from kepler_edge.errors import KeplerError, Refused
from kepler_edge.keys import Trust
from kepler_edge.release_doc import Release

TIMEOUT_S = 60.0
ROWS = 300  # timed, three times over: the best of the three p99 is compared, as a busy device is no fault of a model
_ROUNDS = 3
_ROUND_NS = 3_000_000_000  # of scoring, then a slow model has had rows enough
_MIB = 1 << 20
_RESERVE_MB = 64  # of address space beyond the limit, so that its own report tells of the excess


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it: ``reason`` is empty when the model may serve."""

    reason: str
    figures: dict[str, float] = field(default_factory=dict[str, float])


class SelfTest:
    """One trial, going on beside the agent. ``poll`` gives the report once there is one.

    Parameters
    ----------
    folder
        The package.
    release
        Thresholds, windows and limits.
    trust
        Keys its signature is checked with, once more.
    timeout_s
        After so many seconds the process is ended.
    command
        Program to run instead of the self-test, for tests.
    """

    def __init__(
        self,
        folder: Path,
        release: Release,
        trust: Trust,
        *,
        timeout_s: float = TIMEOUT_S,
        command: Sequence[str] = (),
    ) -> None:
        request = json.dumps(
            {
                "folder": str(folder),
                "release": release.text,
                "trust": trust.to_base64(),
                "timeout_s": timeout_s,
            }
        )
        self._timeout_s = timeout_s
        self._until = time.monotonic() + timeout_s
        self._limit_mb = release.limits.max_rss_mb
        package_root = str(Path(__file__).resolve().parent.parent)
        self._process = subprocess.Popen(
            list(command) or [sys.executable, "-m", "kepler_edge.selftest"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PYTHONPATH": package_root, "PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # ended before it read: poll tells
            self._process.stdin.write(request.encode())
            self._process.stdin.close()
        self._process.stdin = None

    def poll(self) -> Report | None:
        """The report, or None while it runs."""
        code = self._process.poll()
        if code is None:
            if time.monotonic() < self._until:
                return None
            self.stop()
            return Report(f"The self-test gave no answer within {self._timeout_s:g} s")
        said, _ = self._process.communicate()
        return judge(code, said, self._limit_mb)

    def stop(self) -> None:
        """End it; can be repeated."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def judge(code: int, said: bytes, limit_mb: int) -> Report:
    """The report in what a finished process left."""
    try:
        found: Any = json.loads(said.splitlines()[-1])
        return Report(str(found["reason"]), {key: float(value) for key, value in found["figures"].items()})
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    if code in (-signal.SIGKILL, -signal.SIGXCPU):
        return Report("The self-test was ended by the system: it took more memory or time than it may")
    if code < 0:
        return Report(f"The self-test crashed ({signal.Signals(-code).name})")
    return Report(f"The self-test ended with code {code} and no answer; it may take {limit_mb} MiB")


def _limit(limit_mb: int, timeout_s: float) -> None:
    """Bounds of this process, whatever the model does."""
    # Data counts what is private and writable; address space would also count what libraries merely reserve.
    most = (limit_mb + _RESERVE_MB) * _MIB
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    seconds = max(1, int(timeout_s) + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _peak_mb() -> float:
    """Most memory that was resident; getrusage would count the agent's from before the start."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def try_model(folder: Path, release: Release, trust: Trust) -> Report:
    """Load, compare, measure. What it raises is a reason as well."""
    from kepler_edge.model import LoadedModel

    began = time.perf_counter()
    model = LoadedModel.load(
        folder, trust, release=release.id, thresholds=release.thresholds, windows=release.windows
    )
    figures = {"load_ms": (time.perf_counter() - began) * 1000}
    rows: Any = model.golden_matrix()
    if not len(rows):
        rows = [[0.0] * model.manifest.preparation.width]
    promised = any(
        cell != cell for table in model.manifest.golden.outputs.values() for row in table for cell in row
    )
    best: list[int] = []
    for _ in range(_ROUNDS):
        taken: list[int] = []
        for place in range(ROWS):
            model.put_row(rows[place % len(rows)])
            at = time.perf_counter_ns()
            rendered = model.run_row()
            taken.append(time.perf_counter_ns() - at)
            if rendered.nan and not promised:
                raise Refused("The model gives NaN for a recorded row")
            if place >= 2 and sum(taken) > _ROUND_NS:
                break
        taken.sort()
        best = min(best or taken, taken, key=_p99)
        if _p99(best) / 1e6 > 10 * release.limits.max_latency_ms:
            break  # no busy device explains that
    figures["latency_ms_p50"] = best[len(best) // 2] / 1e6
    figures["latency_ms_p99"] = _p99(best) / 1e6
    figures["rss_mb"] = _peak_mb()
    return Report(_excess(figures, release), {key: round(value, 4) for key, value in figures.items()})


def _p99(taken: list[int]) -> int:
    return taken[min(len(taken) - 1, len(taken) * 99 // 100)]


def _excess(figures: dict[str, float], release: Release) -> str:
    limits = release.limits
    if figures["rss_mb"] > limits.max_rss_mb:
        return f"The model takes {figures['rss_mb']:.0f} MiB and may take {limits.max_rss_mb}"
    if figures["latency_ms_p99"] > limits.max_latency_ms:
        return (
            f"One row takes {figures['latency_ms_p99']:.3g} ms (p99) and may take {limits.max_latency_ms:g}"
        )
    return ""


def main() -> int:
    """Read a request from standard input, write the report to standard output."""
    request = cast("dict[str, Any]", json.load(sys.stdin))
    release = Release.load(request["release"])
    _limit(release.limits.max_rss_mb, float(request["timeout_s"]))
    try:
        report = try_model(Path(request["folder"]), release, Trust.from_base64(request["trust"]))
    except KeplerError as error:
        report = Report(error.sentence)
    except MemoryError:
        report = Report(f"The model takes more than the {release.limits.max_rss_mb} MiB it may")
    except Exception as error:  # whatever a hostile file brings out of NumPy or ONNX Runtime
        report = Report(f"The self-test failed: {type(error).__name__}: {str(error)[:300]}")
    sys.stdout.write(json.dumps(asdict(report)) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
