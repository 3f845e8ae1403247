"""A process that puts numbered events into a spool and sends them; tests and benchmarks kill it.

    python -m support.hec_sender_main FOLDER URL COUNT BATCH SCALE TIMEOUT_S

The token comes on standard input. Each batch has a key, and the file ``put`` says how many were put, so that a
process started after a kill goes on where the last one was. It ends when all is put and delivered.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from kepler.adapters.hec.collector import Address
from kepler.adapters.hec.forwarder import ForwarderOptions, HecForwarder
from kepler.ports.hec import EventKind, HecEvent


class ScaledClock:
    """A `SenderClock` that runs `scale` times as fast as the wall."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def monotonic(self) -> float:
        return time.monotonic() * self._scale

    def wait(self, event: threading.Event, seconds: float) -> None:
        event.wait(seconds / self._scale)


def main() -> None:
    folder, url, count, batch, scale, timeout_s = sys.argv[1:7]
    token = sys.stdin.readline().strip()
    options = ForwarderOptions(spool_bytes=8 << 30)
    options = replace(options, send=replace(options.send, batch_events=int(batch) * 2))
    spool = HecForwarder(
        Path(folder),
        Address(url, None, float(timeout_s)),
        lambda _: token,
        options,
        clock=ScaledClock(float(scale)),
    )
    spool.start()
    size = int(batch)
    mark = Path(folder) / "put"
    start = int(mark.read_text()) if mark.exists() and mark.read_text() else 0
    for first in range(start, int(count), size):
        events = [
            HecEvent(
                EventKind.PREDICTION,
                {
                    "n": n,
                    "model": "app.search/pump",
                    "version": 3,
                    "score": n % 1000 / 1000,
                    "machine": f"m{n % 50}",
                },
                1_800_000_000.0 + n / 1000,
                f"sender:{n}",
                f"source-{first // size % 4}",
            )
            for n in range(first, min(first + size, int(count)))
        ]
        spool.put(events, key=f"batch-{first}", keep=True)
        # Not flushed to the disk: a process that is killed leaves it in the kernel. Written in place of the old one,
        # it may at worst be empty or behind, and the keys catch that.
        mark.write_text(str(first))
    print("put", flush=True)
    while not spool.flush(1.0):
        pass
    spool.stop()
    print("delivered", flush=True)


if __name__ == "__main__":
    main()
