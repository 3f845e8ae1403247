"""A process that runs a job runner as the service does, to be killed by tests.

Arguments: home, database URL (may be empty). Lines on stdin: ``submit ID JSON-params``, ``work ID``, ``state ID``;
answers on stdout: ``ready``, ``ack ID``, ``state ID STATE ATTEMPT``. At the end of stdin it drains.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import structlog

from fakes.jobs.counting_work import CountingWork
from fakes.jobs.once_models import OnceModels
from kepler.adapters.jobs.dbos_jobs import DbosJobRunner, JobSettings
from kepler.adapters.jobs.process_worker import ProcessTrainWorker
from kepler.core.jobs import JobRecord
from kepler.core.training import TrainSpec
from kepler.ports.jobs import WorkOrder

FAKE_TRAINING = Path(__file__).with_name("fake_training.py")


def main(home: Path, url: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    def announce(record: JobRecord) -> None:
        handle = os.open(home / "announced", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(handle, f"{record.id} {record.state.value}\n".encode())
        os.close(handle)

    worker = ProcessTrainWorker(command=(sys.executable, "-P", "-s", str(FAKE_TRAINING)))
    attempts = int(os.environ.get("MAX_ATTEMPTS", "1000"))
    runner = DbosJobRunner(
        home, worker, OnceModels(home / "versions"), database_url=url, on_final=announce,
        works={"count": CountingWork(home)},
        settings=JobSettings(max_attempts=attempts, sweep_s=0.2, poll_s=0.05),
    )  # fmt: skip
    runner.start()
    print("ready", flush=True)
    for line in sys.stdin:
        verb, job_id, *rest = line.split(" ", 2)
        job_id = job_id.strip()
        if verb == "submit":
            runner.submit_training(
                TrainSpec(job_id, "Fake", ("x",), ("x",), model="app.search/pump", owner="ada",
                          params=json.loads(rest[0]))
            )  # fmt: skip
            print("ack", job_id, flush=True)
        elif verb == "work":
            runner.submit_work(WorkOrder(job_id, "count", "ada", "count", "{}"))
            print("ack", job_id, flush=True)
        elif verb == "state":
            record = runner.get(job_id)
            print("state", job_id, record.state.value, record.attempt, flush=True)
    runner.drain(float(os.environ.get("GRACE_S", "30")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
