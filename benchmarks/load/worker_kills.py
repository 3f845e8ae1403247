"""Predictions while training workers are killed, beside the same predictions with nothing else going on.

`kill -9` of a worker in mid-training, 50 times: every job fails with its cause or is retried, no prediction
fails or answers wrongly, and the p99 of those made meanwhile stays at <= 1.5 x undisturbed. A third phase, with
trainings that nobody kills, tells what is the kill's share and what that of two cores with a training on one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import numpy as np

from benchmarks.harness.service import Service, service
from benchmarks.harness.stream_load import COLUMNS, PREDICT_ROWS, Order, right, rows_of
from kepler.client import Access, KeplerClient
from kepler.client.records import TrainOrder
from kepler.v1 import prediction_pb2 as pb

CALLERS = 4
PAUSE_S = 0.01
"""Between the calls of one caller: many predictions, and cores that have time left for more."""


@dataclass
class Seen:
    """Seconds of each call of one phase, and what went wrong in it."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def report(self) -> dict[str, object]:
        p50, p99 = np.quantile(self.seconds, (0.5, 0.99)) * 1000
        return {
            "calls": len(self.seconds),
            "errors": len(self.errors),
            "first_errors": self.errors[:3],
            "p50_ms": round(p50, 2),
            "p99_ms": round(p99, 2),
        }


class Callers:
    """Threads that predict without end; what they see goes to the phase that is on."""

    def __init__(self, address: str, model: str) -> None:
        self._order = Order(address, model)
        self._end = threading.Event()
        self.phase = Seen()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(60)

    def _call(self, number: int) -> None:
        caller = {"user": "load", "app": self._order.app}
        with grpc.insecure_channel(
            self._order.address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            predict = channel.unary_unary(PREDICT_ROWS)
            message = 0
            while not self._end.wait(PAUSE_S):
                message += 1
                rows = rows_of(self._order, number, message)
                request = pb.PredictRowsRequest(
                    caller=caller, model=self._order.model, columns=COLUMNS, rows=rows
                ).SerializeToString()
                phase, sent = self.phase, time.perf_counter()
                try:
                    answer = predict(request, timeout=60)
                except grpc.RpcError as error:
                    phase.errors.append(f"{error.code().name}: {error.details()}")  # type: ignore[attr-defined]
                    continue
                phase.seconds.append(time.perf_counter() - sent)
                values = pb.PredictRowsResponse.FromString(answer).scored.values
                if not right(self._order, number, message, values):
                    phase.errors.append(f"wrong: {values!r}")


def forest(client: KeplerClient) -> str:
    """Begin a training that takes minutes; gives the job's id."""
    values = np.random.default_rng(7).random((4000, 6)).round(3).tolist()
    rows = "".join(",".join(map(repr, row)) + "\n" for row in values).encode()
    columns = ("x0", "x1", "x2", "x3", "x4", "y")
    order = TrainOrder("RandomForestRegressor", columns, target="y", into="app:forest", output="none",
                       params={"n_estimators": "5000"})  # fmt: skip
    return client.train(order, [rows]).job_id


def line(client: KeplerClient) -> str:
    """The model that is asked: y = 2 a - 3 b + 1."""
    rows = b"".join(b"%d,%d,%d\n" % (a, b, 2 * a - 3 * b + 1) for a in range(40) for b in range(5))
    order = TrainOrder("LinearRegression", (*COLUMNS, "y"), target="y", features=("*",), into="app:line",
                       output="none")  # fmt: skip
    *_, job = client.watch_job(client.train(order, [rows]).job_id)
    if job.failure:
        raise RuntimeError(job.failure.message)
    return job.model


def worker_of(kepler: Service, job_id: str) -> int:
    note = kepler.home / "jobs" / job_id / "worker.json"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            return int(json.loads(note.read_text())["pid"])
        except (FileNotFoundError, ValueError):
            time.sleep(0.02)
    raise RuntimeError(f"no worker took job {job_id} up")


def killed(kepler: Service, client: KeplerClient, after_s: float) -> str:
    """Kill a worker in mid-training; gives how its job ended: a state and a cause."""
    job_id = forest(client)
    worker = worker_of(kepler, job_id)
    time.sleep(after_s)
    os.kill(worker, signal.SIGKILL)
    *_, job = client.watch_job(job_id)
    return f"{job.state.value}: {job.failure.code if job.failure else 'no cause'}"


def trained_alone(client: KeplerClient, seconds: float) -> None:
    """A training that is left alone for so long, then cancelled as a user would."""
    job_id = forest(client)
    time.sleep(seconds)
    client.cancel_job(job_id)
    for _ in client.watch_job(job_id):
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--quiet-s", type=float, default=30.0, help="before and after, each")
    options = parser.parse_args()
    chance = random.Random(options.kills)
    ends: dict[str, int] = {}
    with service() as kepler, KeplerClient(Access(kepler.home, kepler.grpc), user="load") as client:
        callers = Callers(kepler.grpc, line(client))
        quiet, training, kills = Seen(), Seen(), Seen()

        def during(phase: Seen, work: Callable[[], object]) -> None:
            callers.phase = phase
            work()
            callers.phase = Seen()  # of the time between phases nothing is counted

        try:
            time.sleep(5)  # until the worker that waits ahead has its imports behind it
            during(quiet, lambda: time.sleep(options.quiet_s))
            during(training, lambda: trained_alone(client, options.quiet_s))
            time.sleep(5)

            def kill_all() -> None:
                for _ in range(options.kills):
                    end = killed(kepler, client, chance.uniform(0.0, 1.5))
                    ends[end] = ends.get(end, 0) + 1

            during(kills, kill_all)
            time.sleep(5)
            during(quiet, lambda: time.sleep(options.quiet_s))
        finally:
            callers.close()
    p99 = {name: float(np.quantile(seen.seconds, 0.99)) for name, seen in
           (("quiet", quiet), ("training", training), ("kills", kills))}  # fmt: skip
    report = {
        "undisturbed": quiet.report(),
        "while_training": training.report(),
        "while_workers_are_killed": {**kills.report(), "kills": options.kills, "jobs_ended": ends},
        "p99_of_kills_to_undisturbed": round(p99["kills"] / p99["quiet"], 2),
        "p99_of_training_to_undisturbed": round(p99["training"] / p99["quiet"], 2),
        "p99_of_kills_to_training": round(p99["kills"] / p99["training"], 2),
        "at": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
