"""A home of an edge agent that knows a host double, and a program that streams committed records through one.

``python -m support.edge_agent SETTINGS COUNT`` writes records one group after the other and prints the last value of
each group once it is on the disk: what was printed must arrive, whatever happens to the process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from kepler_edge.agent import Agent
from kepler_edge.keys import DeviceKey, Trust
from kepler_edge.settings import Settings, load, make

HOST_KEY = DeviceKey(b"\x55" * 32)
QUICK = {
    "reconnect_min_s": 0.2,
    "reconnect_max_s": 1.0,
    "resend_s": 2.0,
    "keepalive_s": 5.0,
    "hist_bytes_per_s": 0.0,
}


def make_home(folder: Path, broker: str, device: str = "pump-7", **values: Any) -> tuple[Settings, DeviceKey]:
    """Settings (in ``settings.json`` below ``folder`` too) and key of a device that trusts the host double."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    key = DeviceKey.load_or_create(home / "device.key")
    (home / "trust.json").write_text(json.dumps(Trust([HOST_KEY.public]).to_base64()))
    found = {"home": str(home), "tenant": "acme", "device": device, "broker": broker, **QUICK, **values}
    (folder / "settings.json").write_text(json.dumps(found))
    return make(found), key


def telemetry(value: float, tag: str = "speed") -> dict[str, object]:
    return {
        "kind": "telemetry",
        "ts": 1_800_000_000.0 + value,
        "mono": value,
        "tag": tag,
        "value": value,
        "source": "m",
    }


def stream(settings: Path, count: int, start: int) -> None:
    agent = Agent(load(settings, {}, Path("/nonexistent")))
    agent.start()
    size = 20
    for first in range(start, start + count, size):
        agent.outbox.append([(2, telemetry(value)) for value in range(first, first + size)])
        agent.sender.wake()
        sys.stdout.write(f"{first + size - 1}\n")
        sys.stdout.flush()
    agent.wait()


if __name__ == "__main__":
    stream(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
