"""A worker whose training does what the spec's parameters say: succeed, crash, eat, fork, fill, sleep.

Started in place of `kepler.adapters.jobs.worker_main` by tests, with the real worker's set-up around it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from kepler.adapters.jobs import worker_main
from kepler.core.algorithms import Run
from kepler.core.errors import InvalidInput
from kepler.core.training import TrainOutcome, TrainSpec


def train_in_folder(folder: Path, run: Run) -> TrainOutcome:
    spec = TrainSpec.from_json((folder / "spec.json").read_text("utf-8"))
    do = spec.params
    if "effects" in do:
        refuse_overlap(Path(do["effects"]), spec.job_id)
        append(Path(do["effects"]), f"begin {spec.job_id} {os.getpid()}")
    if "facts" in do:
        Path(do["facts"]).write_text(json.dumps(facts(run)))
    print("a line for the log")
    run.progress(0.1, "loading")
    if "sleep_s" in do:
        until = time.monotonic() + do["sleep_s"]
        while (left := until - time.monotonic()) > 0:
            run.progress(1 - left / do["sleep_s"], "fitting")
            time.sleep(min(left, 0.01))
    ACTIONS[do.get("action", "succeed")](folder, do)
    run.notice("info", "three rows were dropped")
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "manifest.json").write_text("{}")
    (folder / "predictions.arrow").write_bytes(b"predictions")
    run.progress(1.0, "done")
    if "effects" in do:
        append(Path(do["effects"]), f"end {spec.job_id} {os.getpid()}")
    return TrainOutcome(
        rows_used=7,
        rows_dropped=3,
        metrics=(("accuracy", 0.5),),
        model_dir="model",
        predictions="predictions.arrow",
    )


def facts(run: Run) -> dict[str, object]:
    import resource

    return {
        "environment": dict(os.environ),
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "nice": os.nice(0),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "seed": run.seed,
        "threads": run.threads,
        "descriptors": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 64) if is_open(fd)),
        "cwd": os.getcwd(),
        "forked_from_grpc": "grpc" in sys.modules,
    }


def refuse_overlap(effects: Path, job_id: str) -> None:
    """Write down when an earlier process that trained the same job is alive."""
    for line in effects.read_text().splitlines() if effects.exists() else ():
        what, of, pid = line.split()
        if what == "begin" and of == job_id and Path(f"/proc/{pid}/cmdline").exists():
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if __file__.encode() in command:
                append(effects, f"overlap {job_id} {pid}")


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


def append(path: Path, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, line.encode() + b"\n")
    os.close(handle)


def eat_memory(folder: Path, do: dict) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(4096) * 256))  # 1 MiB that is really there
        time.sleep(0.001)


def allocate_at_once(folder: Path, do: dict) -> None:
    bytearray(do["bytes"])


def fork_bomb(folder: Path, do: dict) -> None:
    for _ in range(300):  # an end, for the sake of the machine, should the test fail
        if os.fork() == 0:
            if do.get("leave"):
                os.setsid()
            time.sleep(60)
            os._exit(0)
    time.sleep(60)


def fill_scratch(folder: Path, do: dict) -> None:
    for number in range(do["files"]):
        with open(folder / "tmp" / f"part{number}", "wb") as file:
            for _ in range(do["mib_each"]):
                file.write(bytes(2**20))
        time.sleep(0.01)
    time.sleep(60)


def leave_child_behind(folder: Path, do: dict) -> None:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    Path(do["child_file"]).write_text(str(child.pid))
    child.returncode = 0  # nobody waits for it, on purpose


def burn_cpu(folder: Path, do: dict) -> None:
    while True:
        sum(range(10_000))


def refuse(folder: Path, do: dict) -> None:
    raise InvalidInput("Field 'x' is not there", cause="The rows have no such column", fix="Check the fields")


def raise_unexpectedly(folder: Path, do: dict) -> None:
    raise RuntimeError("the secret detail")


def talk_too_much(folder: Path, do: dict) -> None:
    for _ in range(40):
        print("x" * 100_000)
        time.sleep(0.05)


def segfault(folder: Path, do: dict) -> None:
    ctypes.string_at(0)


ACTIONS = {
    "succeed": lambda folder, do: None,
    "refuse": refuse,
    "raise": raise_unexpectedly,
    "segfault": segfault,
    "kill": lambda folder, do: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda folder, do: os._exit(3),
    "memory": eat_memory,
    "allocate": allocate_at_once,
    "forks": fork_bomb,
    "fill": fill_scratch,
    "cpu": burn_cpu,
    "hang": lambda folder, do: time.sleep(120),
    "child": leave_child_behind,
    "talk": talk_too_much,
}

if __name__ == "__main__":
    worker_main.run(train_in_folder, preload=())
