"""The outbox on disks that lose power or run full, with SQLite's real writes."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.disk.power import build_shim, cut, read_journal
from kepler_edge.clock import Clock
from kepler_edge.outbox import CLASSES, Outbox
from kepler_edge.outbox_file import Limits

ROOT = Path(__file__).resolve().parents[3]
LIMITS = Limits(quota_bytes=20_000 << 10, ballast_bytes=64 << 10)


def shimmed(library: Path, folder: Path, **more: str) -> dict[str, str]:
    path = f"{ROOT / 'edge_agent'}:{ROOT / 'tests'}:{ROOT / 'service'}"
    return {
        **os.environ,
        "LD_PRELOAD": str(library),
        "KEPLER_DISK_FOLDER": str(folder),
        "PYTHONPATH": path,
        **more,
    }


def cuts(tmp_path: Path, count: int) -> None:
    library, folder, journal = build_shim(tmp_path), tmp_path / "disk", tmp_path / "journal"
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-m", "support.outbox_writer", str(folder), "120", str(LIMITS.quota_bytes >> 10)],
        env=shimmed(library, folder, KEPLER_DISK_JOURNAL=str(journal)),
        check=True,
    )
    entries = read_journal(journal)
    assert sum(entry.kind == "S" and entry.name == "outbox.db-wal" for entry in entries) > 120
    assert any(entry.kind == "S" and entry.name == "outbox.db" for entry in entries), "no checkpoint happened"
    chance = random.Random(1)
    first = next(n for n, entry in enumerate(entries) if entry.name == "committed")
    epochs: set[str] = set()
    for trial in range(count):
        left = tmp_path / f"cut{trial}"
        mark = cut(entries, chance.randint(first + 1, len(entries)), left, chance)
        acked, last = (int(part) for part in mark.split())
        outbox = Outbox(left / "outbox.db", LIMITS)
        there = [q for (q,) in outbox._db.execute("SELECT q FROM p1 ORDER BY q")]
        assert outbox.rebuilds == 0, outbox.rebuilt_because
        assert outbox.last >= last
        assert set(range(acked + 1, last + 1)) <= set(there), "committed records are gone"
        assert outbox._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        epochs.add(outbox.epoch)
        outbox.close()
        shutil.rmtree(left)
    assert len(epochs) == 1


def test_a_power_cut_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    cuts(tmp_path, 60)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_thousand_power_cuts(tmp_path: Path) -> None:
    cuts(tmp_path, 1000)


def test_alerts_flow_and_loss_is_told_while_the_outbox_is_full(tmp_path: Path) -> None:
    limits = Limits(quota_bytes=4 << 20, ballast_bytes=512 << 10)
    outbox = Outbox(tmp_path / "outbox.db", limits)
    body = {"kind": "telemetry", "ts": 1.0, "mono": 1.0, "tag": "t", "value": 1, "source": "x" * 200}
    for _ in range(300):
        outbox.append([(3, body)] * 40 + [(2, body)] * 40 + [(1, body)] * 20)
        assert sum(one.stat().st_size for one in tmp_path.iterdir()) <= limits.quota_bytes
    assert outbox.append([(0, body)] * 50) == 50
    counts = outbox.counts
    assert counts[3].rows == 0
    assert counts[3].evicted + counts[3].rejected == 300 * 40
    assert counts[1].rows > 0
    told = [json.loads(row) for _, row in outbox.take(0, 0, outbox.last, 500, 1 << 20)]
    for stream in (1, 2, 3):
        stones = [one for one in told if one["kind"] == "tombstone" and one["stream"] == CLASSES[stream]]
        assert sum(one["count"] for one in stones) == counts[stream].evicted + counts[stream].rejected
        assert all(one["from"] <= one["to"] and one["reason"] == "full" for one in stones)


FULL_DISK = """
import sys
from pathlib import Path
from kepler_edge.outbox import Outbox
from kepler_edge.outbox_file import Limits
folder, full = Path(sys.argv[1]), Path(sys.argv[2])
outbox = Outbox(folder / "outbox.db", Limits(quota_bytes=50 << 20, ballast_bytes=1 << 20))
record = {"kind": "log", "ts": 1.0, "mono": 1.0, "level": "info", "event": "x" * 300}
for _ in range(60):
    outbox.append([(3, record)] * 50)
assert (folder / "ballast").stat().st_size == 1 << 20
full.touch()  # somebody else fills the disk: no file may grow now
for _ in range(200):
    assert outbox.append([(0, record)] * 2) == 2, outbox.stats()
    outbox.append([(2, record)] * 5)
assert outbox.stats()["disk_tight"]
assert not (folder / "ballast").exists()
assert outbox.counts[3].evicted > 0
taken = outbox.take(0, 0, outbox.last, 10, 1 << 20)
assert outbox.ack(outbox.epoch, "p0", taken[-1][0]) == 10, "deleting works on a full disk"
full.unlink()
outbox.maintain()
assert not outbox.stats()["disk_tight"]
assert (folder / "ballast").exists()
assert outbox.append([(3, record)] * 50) == 50
evicted = outbox.counts[3].evicted
outbox.append([(3, record)] * 500)
assert outbox.counts[3].evicted == evicted, "it may grow again"
outbox.close()
"""


def test_a_disk_that_somebody_else_filled_keeps_alerts_flowing(tmp_path: Path) -> None:
    library, folder = build_shim(tmp_path), tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder), str(tmp_path / "full")],
        env=shimmed(library, folder, KEPLER_DISK_FULL=str(tmp_path / "full")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("damage", ["garbage", "cut", "zeros"])
def test_a_broken_file_is_set_aside_and_a_new_epoch_begins(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "outbox.db"
    outbox = Outbox(path, LIMITS)
    epoch = outbox.epoch
    outbox.append([(1, {"kind": "log", "x": "y" * 3000})] * 50)
    outbox.close()
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        content[:] = os.urandom(len(content))
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[4096 * 3 : 4096 * 40] = bytes(4096 * 37)
    path.write_bytes(content)
    outbox = Outbox(path, LIMITS, Clock())
    assert outbox.rebuilt_because
    assert outbox.epoch != epoch
    assert len((tmp_path / "outbox.db.corrupt").read_bytes()) == len(content)
    assert outbox.append([(1, {"kind": "log"})]) == 1
    outbox.close()
    assert Outbox(path, LIMITS).rebuilds == 0


def test_a_second_agent_is_kept_out(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", LIMITS)
    code = f"from kepler_edge.outbox import Outbox; from pathlib import Path; Outbox(Path({str(tmp_path)!r})/'outbox.db')"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "edge_agent")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no second agent" in done.stderr
    outbox.append([(1, {"kind": "log"})])
