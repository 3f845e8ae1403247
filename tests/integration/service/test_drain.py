"""Stopping a service that is at work, and moving aliases under load.

Source of the figures: issue 2, test 16: nothing in flight fails, no stream is answered by two versions.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kepler.client import KeplerClient
from kepler.client.records import TrainOrder, TrainTicket
from kepler.core.errors import KeplerError, Unavailable
from kepler.core.jobs import JobState
from support.running_service import RunningService, running
from support.service_client import COLUMNS, Line, connect, ended, predict_one, trained

STREAMS = 8


class InFlight:
    """Callers in threads of their own, each half-way through its call until `go_on` is set."""

    def __init__(self, service: RunningService) -> None:
        self.service = service
        self.go_on = threading.Event()
        self.errors: list[str] = []
        self.right = 0
        self.tickets: list[TrainTicket] = []
        self._half_way = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except KeplerError as error:
                self.errors.append(error.sentence)

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def all_half_way(self) -> None:
        for _ in self._threads:
            assert self._half_way.acquire(timeout=60)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def predict(self) -> None:
        """The second half of the rows goes up when the service is already stopping."""

        def slices() -> Iterator[bytes]:
            for a in range(10):
                if a == 5:
                    assert self.go_on.wait(60)
                yield b"%d,3\n" % a

        with connect(self.service) as client, client.predict("app:drain", COLUMNS, slices()) as stream:
            for number, (slice_, scored) in enumerate(stream):
                assert slice_ == b"%d,3\n" % number
                if number == 4:
                    self._half_way.release()
                with self._lock:
                    self.right += Line().says(number, 3, scored.values)

    def train(self) -> None:
        def slices() -> Iterator[bytes]:
            yield Line().rows(100)
            self._half_way.release()
            assert self.go_on.wait(60)
            yield Line().rows(100)

        order = TrainOrder("LinearRegression", (*COLUMNS, "y"), target="y", into="app:late", output="none")
        with connect(self.service) as client:
            self.tickets.append(client.train(order, slices()))


def test_a_stopping_service_ends_what_is_in_flight_and_takes_nothing_new(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home) as service, connect(service) as early:
        trained(early, "app:drain")
        work = InFlight(service)
        for _ in range(STREAMS):
            work.start(work.predict)
        work.start(work.train)
        work.all_half_way()
        service.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 30
        while "service.draining" not in service.log:
            assert time.monotonic() < until
            time.sleep(0.02)
        for client in (early, connect(service)):
            with client:
                assert refused_soon(client)
        assert service.process.poll() is None, "it waits for what is in flight"
        work.go_on.set()
        work.join()
        assert work.errors == []
        assert work.right == STREAMS * 10
        assert service.process.wait(60) == 0
        assert not service.home.joinpath("service.json").exists()
    (ticket,) = work.tickets
    assert ticket.rows == 200
    with running(home) as service, connect(service) as client:
        record = ended(client, ticket.job_id)
        assert record.state is JobState.SUCCEEDED, record.failure
        assert Line().says(8, 2, predict_one(client, "app:late", 8, 2)[1].values)


def refused_soon(client: KeplerClient) -> bool:
    """Whether a new call is refused; the listener closes a moment after the service said that it stops."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            predict_one(client, "app:drain", 1, 1)
        except Unavailable:
            return True
    return False


def test_calls_that_outlive_the_grace_are_ended(tmp_path: Path) -> None:
    with running(tmp_path, env={"KEPLER_DRAIN_S": "0.5"}) as service:
        with connect(service) as client:
            trained(client, "app:drain")
        work = InFlight(service)
        work.start(work.predict)
        work.all_half_way()
        assert service.stop() == 0
        work.go_on.set()
        work.join()
        assert len(work.errors) == 1
        assert "Traceback" not in work.errors[0]


@pytest.mark.parametrize(
    "swaps",
    [
        pytest.param(25, id="reduced"),
        pytest.param(100, id="full", marks=[pytest.mark.full, pytest.mark.timeout(600)]),
    ],
)
def test_aliases_move_under_load_without_a_failed_or_a_mixed_stream(
    service: RunningService, swaps: int
) -> None:
    lines = {1: Line(2), 2: Line(6)}
    name = f"app:roll{swaps}"
    stop = threading.Event()
    errors: list[str] = []
    seen: dict[int, int] = {1: 0, 2: 0}
    lock = threading.Lock()

    def predict() -> None:
        with connect(service) as client:
            while not stop.is_set():
                try:
                    slices = [b"%d,1\n" % a for a in range(6)]
                    with client.predict(f"{name}@prod", COLUMNS, slices) as stream:
                        version = int(stream.opened.model.rpartition("@")[2])
                        answers = [scored.values for _, scored in stream]
                except KeplerError as error:
                    errors.append(error.sentence)
                    return
                if [lines[version].says(a, 1, values) for a, values in enumerate(answers)] != [True] * 6:
                    errors.append(f"version {version} answered {answers}")
                with lock:
                    seen[version] += 1

    with connect(service) as client:
        for line in lines.values():
            trained(client, name, line=line)
        client.set_alias(f"{name}@1", "prod")
        threads = [threading.Thread(target=predict) for _ in range(4)]
        for thread in threads:
            thread.start()
        for swap in range(swaps):
            moved = client.set_alias(f"{name}@{2 - swap % 2}", "prod")
            assert moved.aliases == ("prod",)
            with lock:
                before = seen[moved.version]
            until = time.monotonic() + 60
            while seen[moved.version] == before and not errors:  # the load meets every swap
                assert time.monotonic() < until
                time.sleep(0.002)
        stop.set()
        for thread in threads:
            thread.join(60)
    assert errors == []
    assert min(seen.values()) >= swaps // 2
