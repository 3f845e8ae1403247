"""Ingest wired on a home: link, ledger, spool. As a process it ends itself where a test wants it.

    python -m support.ingest_service HOME BROKER HEC_URL STEP N DEVICE...

The token comes on standard input. With STEP it sends itself SIGKILL the Nth time that step is done.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from kepler.adapters.hec.collector import Address
from kepler.adapters.hec.forwarder import ForwarderOptions, HecForwarder
from kepler.adapters.mqtt.ingest import SUBSCRIPTIONS, IngestChannel, host_state
from kepler.adapters.mqtt.ledger_rows import LedgerRows
from kepler.adapters.mqtt.link import BrokerOptions, HostLink
from kepler.ports.ingest import DeviceKeys
from kepler.usecases.ingest import IngestBatches
from support.broker import ClientFiles
from support.edge_sender import HOST_KEY, NamedKeys
from support.hec_events import QUICK


class Clock:
    def now(self) -> float:
        return time.time()


class Ingest:
    """What bootstrap wires for ingest."""

    def __init__(
        self,
        home: Path,
        broker: str,
        hec_url: str,
        token: str,
        keys: DeviceKeys,
        *,
        files: ClientFiles | None = None,
        reached: Callable[[str], None] = lambda _: None,
        spool_bytes: int = 1 << 30,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.spool = HecForwarder(
            home / "hec",
            Address(hec_url, None, 2.0),
            lambda _: token,
            ForwarderOptions(send=QUICK, spool_bytes=spool_bytes),
        )
        self.ledger = LedgerRows(home, "a-service")
        clock = Clock()
        self.channel = IngestChannel(keys, clock, HOST_KEY.sign)
        options = BrokerOptions(
            broker, f"kepler-host-{home.name}",
            *((files.ca, files.cert, files.key) if files else ()),
            max_backoff_s=1,
        )  # fmt: skip
        sign = HOST_KEY.sign
        self.link = HostLink(
            options, SUBSCRIPTIONS, self.channel.receive,
            births=lambda: [host_state("plant7", True, clock.now(), sign)],
            will=host_state("plant7", False, clock.now(), sign),
        )  # fmt: skip
        self.channel.attach(self.link, IngestBatches(self.ledger, self.spool, self.channel, clock, reached))

    def __enter__(self) -> Ingest:
        self.spool.start()
        self.channel.start()
        self.link.start()
        assert self.link.wait_online(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.link.stop()
        self.channel.stop()
        self.spool.stop()
        self.ledger.close()


def main() -> None:
    home, broker, url, step, count, *names = sys.argv[1:]
    token = sys.stdin.readline().strip()
    left = int(count)

    def reached(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    with Ingest(Path(home), broker, url, token, NamedKeys(*names), reached=reached):
        print("ready", flush=True)
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        stop.wait()


if __name__ == "__main__":
    main()
