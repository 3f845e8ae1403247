"""A process that fills an outbox and says, by writes to a file beside it, what is committed.

``python -m support.outbox_writer FOLDER GROUPS QUOTA_KB``
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from kepler_edge.outbox import Outbox
from kepler_edge.outbox_file import Limits


def record(value: int, size: int) -> dict[str, object]:
    return {"kind": "telemetry", "ts": 1.8e9, "mono": 1.0, "tag": "t", "value": value, "source": "x" * size}


def main(folder: Path, groups: int, quota_kb: int) -> None:
    chance = random.Random(7)
    outbox = Outbox(folder / "outbox.db", Limits(quota_bytes=quota_kb << 10, ballast_bytes=64 << 10))
    mark = os.open(folder / "committed", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    acked = 0
    for group in range(groups):
        outbox.append([(1, record(group, chance.randint(0, 300)))] * chance.randint(1, 30))
        if group % 7 == 6:
            rows = outbox.take(1, 0, outbox.last, chance.randint(1, 100), 1 << 20)
            acked = rows[-1][0]
            # Said before it is done: from here on these may be gone.
            os.write(mark, f"{acked} {outbox.last}".encode())
            outbox.ack(outbox.epoch, "p1", acked)
        os.write(mark, f"{acked} {outbox.last}".encode())
    os._exit(0)  # no goodbye: the log is not folded in


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
