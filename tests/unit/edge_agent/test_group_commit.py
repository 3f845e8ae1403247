"""Group commit: few commits for many records, alerts at once, a disk that takes nothing for a while."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from kepler_edge.errors import Unavailable
from kepler_edge.group_commit import GroupCommit
from kepler_edge.outbox import Outbox, Record

RECORD: Record = {"kind": "log", "ts": 1.0, "mono": 1.0, "level": "info", "event": "e"}


class Failing(Outbox):
    """Takes nothing while ``down`` is set."""

    down = False

    def append(self, items: object) -> int:
        if self.down:
            raise Unavailable("The disk is away")
        return super().append(items)  # type: ignore[arg-type]


def test_many_records_share_a_commit(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db")
    writer = GroupCommit(outbox)
    writer.start()
    for _ in range(5000):
        writer.put(1, RECORD)
    assert writer.flush(10)
    assert outbox.counts[1].rows == 5000
    assert outbox.commits < 200
    assert writer.stop()


def test_an_alert_does_not_wait_for_its_group(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db")
    committed = threading.Event()
    writer = GroupCommit(outbox, committed.set)
    writer.start()
    began = time.monotonic()
    writer.put(0, RECORD)
    assert committed.wait(5)
    alert_s = time.monotonic() - began
    committed.clear()
    began = time.monotonic()
    writer.put(1, RECORD)
    assert committed.wait(5)
    assert time.monotonic() - began > 0.09
    assert alert_s < 0.09 or outbox.counts[0].rows == 1
    assert writer.stop()


def test_a_disk_that_is_away_is_waited_for_and_loss_is_told(tmp_path: Path) -> None:
    outbox = Failing(tmp_path / "o.db")
    writer = GroupCommit(outbox, bound=100)
    writer.start()
    outbox.down = True
    for _ in range(300):
        writer.put(3, RECORD)
    for _ in range(60):
        writer.put(0, RECORD)
    assert not writer.flush(0.5)
    assert "away" in writer.failure
    outbox.down = False
    assert writer.flush(10)
    dropped = writer.dropped_total[3]
    assert dropped == 260
    assert writer.dropped_total[:3] == [0, 0, 0]
    assert outbox.counts[0].rows >= 60
    assert outbox.counts[3].rows == 40
    deadline = time.monotonic() + 5
    while outbox.counts[3].rejected != dropped and time.monotonic() < deadline:
        time.sleep(0.01)
    assert outbox.counts[3].rejected == dropped
    assert writer.stop()


def test_stopping_with_a_disk_that_stays_away_ends(tmp_path: Path) -> None:
    outbox = Failing(tmp_path / "o.db")
    writer = GroupCommit(outbox)
    writer.start()
    outbox.down = True
    writer.put(1, RECORD)
    began = time.monotonic()
    assert not writer.stop(1.0)
    assert time.monotonic() - began < 4
    assert writer.waiting == 1
