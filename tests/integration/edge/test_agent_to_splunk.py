"""The real agent and the real ingest over a real broker: each record is in the index once, whoever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fakes.splunkd import Splunkd
from kepler_edge.agent import Agent
from kepler_edge.keys import Trust
from support.broker import Broker
from support.edge_agent import make_home
from support.edge_sender import HOST_KEY
from support.hec_events import splunk_with_hec, wait_until
from support.ingest_service import Ingest

ROOT = Path(__file__).resolve().parents[3]


class OneKey:
    """Implements `ports.ingest.DeviceKeys` for one device."""

    def __init__(self, name: str, key: bytes) -> None:
        self._name, self._key = name, key

    def public_keys(self, device: str) -> Sequence[bytes]:
        return [self._key] if device == self._name else []


@pytest.fixture
def splunk() -> Iterator[tuple[Splunkd, str]]:
    splunkd, token = splunk_with_hec(use_ack=True)
    yield splunkd, token
    splunkd.stop()


@pytest.mark.timeout(240)
def test_records_are_in_the_index_once(tmp_path: Path, splunk: tuple[Splunkd, str]) -> None:
    splunkd, token = splunk
    chance = random.Random(3)
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'edge_agent'}:{ROOT / 'tests'}:{ROOT / 'service'}"}
    wanted: set[int] = set()
    with Broker(tmp_path) as broker:
        settings, key = make_home(tmp_path, f"mqtt://{broker.address}", tenant="plant7", logs_per_minute=0.0)
        trusted = Trust([HOST_KEY.public_key().public_bytes_raw()])
        (tmp_path / "home" / "trust.json").write_text(json.dumps(trusted.to_base64()))
        keys = OneKey("pump-7", key.public)
        for turn in range(4):
            home = tmp_path / "service"  # the same service, started again
            with Ingest(home, broker.address, splunkd.hec.url, token, keys):
                process = subprocess.Popen(
                    [sys.executable, "-m", "support.edge_agent", str(tmp_path / "settings.json"), "100000", str(turn * 10**6)],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True,
                )  # fmt: skip
                assert process.stdout is not None
                seen = [int(process.stdout.readline()) for _ in range(chance.randint(10, 60))]
                if turn % 2:
                    broker.kill()
                    broker.start()
                seen += [int(process.stdout.readline()) for _ in range(10)]
                process.send_signal(signal.SIGKILL)
                rest, _ = process.communicate(timeout=20)
                seen += [int(line) for line in rest.splitlines() if line.strip()]
                wanted.update(range(turn * 10**6, seen[-1] + 1))
        with Ingest(tmp_path / "service", broker.address, splunkd.hec.url, token, keys) as ingest:
            agent = Agent(settings)
            agent.start()
            wait_until(lambda: not any(counts.rows for counts in agent.outbox.counts), 120)
            agent.close()
            assert ingest.spool.flush(60)
    rows = splunkd.search("search index=kepler sourcetype=kepler:fleet kind=telemetry").rows
    values = [int(float(row["value"])) for row in rows]
    assert wanted <= set(values), "a committed record is missing"
    assert len({row["event_id"] for row in rows}) == len(set(values))
