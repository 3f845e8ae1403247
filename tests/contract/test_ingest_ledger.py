"""The ledger of the devices' batches over SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.postgres import running_postgres
from kepler.adapters.mqtt.ledger_rows import LedgerRows
from kepler.fleet.batches import BootClock
from kepler.fleet.ledger import BatchRange, StreamName
from kepler.ports.ingest import OpenBatch

NAME = StreamName("press-1", "0123456789abcdef", "p1")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., LedgerRows]]:
    """Opens the same ledger, each time as another service unless told."""
    url = request.getfixturevalue("postgres") if request.param == "postgresql" else ""
    made: list[LedgerRows] = []

    def opened(owner: str = "one") -> LedgerRows:
        made.append(LedgerRows(tmp_path, f"{request.node.name[:20]}-{owner}", url))
        return made[-1]

    yield opened
    for item in made:
        item.close()


def mark(first: int, last: int, name: StreamName = NAME) -> OpenBatch:
    return OpenBatch(
        name, BatchRange(first, last, first - 1, 0), f"{name.device}{name.stream}{first}-{last}", "ab" * 32
    )


def fresh_name(request: pytest.FixtureRequest) -> StreamName:
    return StreamName("d" + str(abs(hash(request.node.name)))[:10], NAME.epoch, "p1")


def test_a_batch_from_begin_to_done(
    ledger: Callable[..., LedgerRows], request: pytest.FixtureRequest
) -> None:
    name, rows = fresh_name(request), ledger()
    one, two = mark(1, 10, name), mark(21, 30, name)
    before = rows.begin([one, two], 100.0)
    assert [c.seen for c in before] == [[], []]
    assert rows.open() == [one, two]
    assert [c.seen for c in rows.done([one, two], 101.0)] == [[(1, 10), (21, 30)]] * 2
    assert rows.open() == []
    again = ledger()
    assert again.coverage(name).seen == [(1, 10), (21, 30)]
    # What is done stays done when it comes again.
    assert [c.seen for c in again.begin([one], 102.0)] == [[(1, 10), (21, 30)]]
    assert again.open() == []


def test_each_service_finds_its_own(
    ledger: Callable[..., LedgerRows], request: pytest.FixtureRequest
) -> None:
    name = fresh_name(request)
    one, other = ledger("one"), ledger("other")
    batch = mark(1, 5, name)
    one.begin([batch], 1.0)
    other.begin([batch], 1.0)
    other.done([batch], 2.0)
    assert one.open() == [batch]
    assert other.open() == []
    one.drop([batch])
    assert one.open() == []
    assert one.coverage(name).seen == [(1, 5)]


def test_services_at_once_lose_no_range(
    ledger: Callable[..., LedgerRows], request: pytest.FixtureRequest
) -> None:
    name = fresh_name(request)
    services = [ledger(f"s{i}") for i in range(3)]

    def work(rows: LedgerRows, start: int) -> None:
        for i in range(start, 60, 3):
            batch = mark(i * 10 + 1, i * 10 + 10, name)
            rows.begin([batch], 1.0)
            rows.done([batch], 1.0)

    threads = [threading.Thread(target=work, args=(rows, i)) for i, rows in enumerate(services)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert services[0].coverage(name).seen == [(1, 600)]


def test_a_boot_keeps_what_was_known_first(
    ledger: Callable[..., LedgerRows], request: pytest.FixtureRequest
) -> None:
    device, rows = fresh_name(request).device, ledger()
    assert rows.boot_clock(device, "b1") is None
    rows.set_boot_clock(device, "b1", BootClock(5.0, 0.1), 1.0)
    ledger("other").set_boot_clock(device, "b1", BootClock(9.0, 0.1), 2.0)
    assert rows.boot_clock(device, "b1") == BootClock(5.0, 0.1)


def test_pruning_forgets_the_old_alone(
    ledger: Callable[..., LedgerRows], request: pytest.FixtureRequest
) -> None:
    name, rows = fresh_name(request), ledger()
    old, new, unfinished = mark(1, 5, name), mark(6, 9, name), mark(10, 11, name)
    rows.begin([old], 0.0)
    rows.done([old], 0.0)
    rows.begin([new, unfinished], 200_000.0)
    rows.done([new], 200_000.0)
    rows.prune(200_001.0)
    assert rows.open() == [unfinished]
    assert rows.coverage(name).seen == [(1, 9)]
    rows.prune(200_001.0 + 91 * 86_400)
    assert rows.coverage(name).seen == []
