"""`kill -9` of the sending process, again and again, while the receiver fails as well."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.splunkd import Fault, FaultPlan
from support.hec_events import splunk_with_hec, stored

EACH = 10_000  # for every life of the sender


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_nothing_is_lost_and_nothing_is_there_twice(tmp_path: Path, root: Path, kills: int) -> None:
    splunkd, token = splunk_with_hec(use_ack=True)
    rates = {Fault.BUSY: 0.05, Fault.STORED_DROP: 0.05, Fault.LOST: 0.05, Fault.LOST_ACK: 0.03}
    splunkd.hec.faults = FaultPlan(rates, seed=kills)
    randomly = random.Random(kills)
    count = killed = 0
    while killed <= kills:
        is_last = killed == kills
        count += 0 if is_last else EACH
        sender = subprocess.Popen(
            [sys.executable, "-m", "support.hec_sender_main", str(tmp_path), splunkd.hec.url, str(count), "100", "200", "2"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root / "tests",
            env={**os.environ, "PYTHONPATH": f"{root / 'service'}:{root / 'tests'}"},
        )  # fmt: skip
        assert sender.stdin is not None
        sender.stdin.write(token + "\n")
        sender.stdin.flush()
        try:
            sender.wait(120 if is_last else randomly.uniform(0.4, 1.2))
        except subprocess.TimeoutExpired:
            assert not is_last, "the last one should have delivered everything"
            sender.send_signal(signal.SIGKILL)
            killed += 1
        output, _ = sender.communicate()
        if is_last:
            assert "delivered" in output
            break
    twice = len(stored(splunkd, after_macro=False))
    rows = stored(splunkd)
    splunkd.stop()
    assert sorted(int(row["n"]) for row in rows) == list(range(count))
    assert twice >= count
