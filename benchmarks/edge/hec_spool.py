"""A million results into Splunk while the receiver fails and the sender is killed: none lost, none twice.

    PYTHONPATH=service:tests:. python -m benchmarks.edge.hec_spool --count 1000000

The receiver is the stand-in's collector in this process; the sender is a process of its own with the real spool,
killed every few seconds. Answers fail with 5xx, hang, are lost after the events were stored; acknowledgements are
lost, with the events and without them; and for an hour, on a clock that runs 60 times as fast, it is down. In the
end a search through the macro counts what is there. The first line gives the speed without faults, to compare.
"""

from __future__ import annotations

import argparse
import configparser
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from fakes.splunkd import Fault, FaultPlan, Splunkd
from support.hec_events import splunk_with_hec

ROOT = Path(__file__).resolve().parent.parent.parent
SCALE = 60.0
RATES = {
    Fault.BUSY: 0.04, Fault.ERROR: 0.03, Fault.HANG: 0.01, Fault.STORED_HANG: 0.01, Fault.DROP: 0.02,
    Fault.STORED_DROP: 0.03, Fault.LOST: 0.03, Fault.LOST_ACK: 0.03,
}  # fmt: skip


def macro() -> str:
    """The app's own `kepler_dedup`."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read(ROOT / "splunk_app" / "package" / "default" / "macros.conf")
    return parser["kepler_dedup"]["definition"]


def start(
    folder: Path, splunkd: Splunkd, token: str, count: int, batch: int, timeout_s: float
) -> subprocess.Popen[str]:
    sender = subprocess.Popen(
        [sys.executable, "-m", "support.hec_sender_main", str(folder), splunkd.hec.url, str(count), str(batch),
         str(SCALE), str(timeout_s)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'service'}:{ROOT / 'tests'}"},
    )  # fmt: skip
    assert sender.stdin is not None
    sender.stdin.write(token + "\n")
    sender.stdin.flush()
    return sender


def undisturbed(count: int, batch: int, *, use_ack: bool) -> float:
    splunkd, token = splunk_with_hec(use_ack=use_ack)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        sender = start(Path(folder), splunkd, token, count, batch, 10.0)
        output, _ = sender.communicate()
        took = time.monotonic() - began
    assert "delivered" in output
    assert splunkd.hec.stored == count
    splunkd.stop()
    return count / took


def run(count: int, batch: int, outage_s: float, kill_every_s: float) -> int:
    splunkd, token = splunk_with_hec(use_ack=True)
    splunkd.hec.faults = FaultPlan(RATES, seed=1, hang_s=1.0, retry_after_s=2.0)
    randomly = random.Random(1)
    kills = 0
    began = time.monotonic()

    def outage() -> None:
        time.sleep(5)
        splunkd.hec.down = True
        time.sleep(outage_s / SCALE)
        splunkd.hec.down = False

    threading.Thread(target=outage, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while True:
            sender = start(folder, splunkd, token, count, batch, 0.5)
            try:
                sender.wait(randomly.uniform(0.5, 1.5) * kill_every_s)
            except subprocess.TimeoutExpired:
                sender.kill()
                kills += 1
            output, _ = sender.communicate()
            if "delivered" in output:
                break
            assert sender.returncode == -9, f"the sender ended by itself with {sender.returncode}"
    took = time.monotonic() - began
    print(f"{count} events put and delivered in {took:.0f} s, {count / took:.0f} events/s, an outage of "
          f"{outage_s / SCALE:.0f} s and {kills} kills included")  # fmt: skip
    print("faults:", ", ".join(f"{fault} {n}" for fault, n in sorted(splunkd.hec.faults.seen.items())))
    base = "search index=kepler sourcetype=kepler:prediction"
    count_all = (
        "stats count dc(event_id) as ids dc(n) as numbers min(n) as first max(n) as last sum(n) as total"
    )
    for title, search in (("as sent", base), ("after the macro", f"{base} | {macro()}")):
        row = splunkd.search(f"{search} | {count_all}").rows[0]
        print(f"{title}: {row['count']} events, {row['ids']} ids")
    splunkd.stop()
    expected = {"count": count, "ids": count, "numbers": count, "first": 0, "last": count - 1}
    wrong = {k: row[k] for k, v in expected.items() if float(row[k]) != v}
    wrong |= {} if float(row["total"]) == count * (count - 1) / 2 else {"total": row["total"]}
    print("none lost, none twice" if not wrong else f"WRONG: {wrong}")
    return int(bool(wrong))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument(
        "--batch", type=int, default=500, help="events put at once, as an edge agent sends them"
    )
    parser.add_argument("--outage-s", type=float, default=3600.0, help="on the quick clock")
    parser.add_argument("--kill-every-s", type=float, default=8.0)
    given = parser.parse_args()
    few = min(given.count, 200_000)
    for use_ack in (False, True):
        rate = undisturbed(few, given.batch, use_ack=use_ack)
        print(
            f"without faults, {'with' if use_ack else 'without'} acknowledgements: {rate:.0f} events/s ({few} events)"
        )
    return run(given.count, given.batch, given.outage_s, given.kill_every_s)


if __name__ == "__main__":
    sys.exit(main())
