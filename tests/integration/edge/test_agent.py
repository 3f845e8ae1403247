"""The whole agent against a real broker and a host double: what was committed arrives, whoever is killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from kepler_edge.agent import Agent
from kepler_edge.frames import message
from kepler_edge.keys import DeviceKey
from kepler_edge.reading import Reading
from kepler_edge.settings import Settings
from support.broker import Broker
from support.edge_agent import make_home, telemetry
from support.edge_host import Host

ROOT = Path(__file__).resolve().parents[3]


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Agent]:
    agent = Agent(settings)
    agent.start()
    try:
        yield agent
    finally:
        agent.close()


@contextlib.contextmanager
def hosting(port: int, key: DeviceKey, **more: Any) -> Iterator[Host]:
    host = Host(port, "acme", "pump-7", key.public, **more)
    try:
        yield host
    finally:
        host.close()


def put(agent: Agent, cls: int, values: range) -> None:
    for value in values:
        agent.writer.put(cls, telemetry(value))


def values(host: Host) -> list[float]:
    return [record["value"] for record in host.of_kind("telemetry")]


def empty(agent: Agent, *classes: int) -> bool:
    return not any(agent.outbox.counts[cls].rows for cls in classes or (0, 1, 2))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_records_arrive_and_leave_the_outbox(tmp_path: Path, protocol: str) -> None:
    with Broker(tmp_path) as broker:
        settings, key = make_home(tmp_path, f"mqtt://{broker.address}", protocol=protocol, telemetry=True)
        with hosting(broker.port, key) as host, running(settings) as agent:
            for value in range(50):
                agent.scorer.feed(
                    Reading("line", {"speed": float(value), "state": "on", "load": float("nan")})
                )
            put(agent, 0, range(100, 103))
            host.until(lambda: len(host.of_kind("telemetry")) == 153)
            host.until(lambda: empty(agent))
            birth, reported = host.latest("state"), host.latest("shadow/reported")
            assert birth is not None
            assert birth["online"]
            assert birth["epoch"] == agent.outbox.epoch
            assert reported is not None
            assert reported["status"] == "in-step"
            assert agent.link.protocol == protocol
            bd = birth["bd"]
        with hosting(broker.port, key) as late:
            late.until(lambda: late.latest("state") is not None)
            assert late.latest("state") == {"v": 1, "online": False, "bd": bd}
        assert not host.problems
        assert {record["value"] for record in host.of_kind("telemetry") if record["tag"] == "load"} == {None}


def test_kept_records_come_behind_fresh_ones_and_nothing_is_missing(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        settings, key = make_home(tmp_path, f"mqtt://{broker.address}", hist_bytes_per_s=40_000.0)
        broker.stop()
        with running(settings) as agent:
            put(agent, 2, range(20_000))
            put(agent, 0, range(20_000, 20_050))
            assert agent.writer.flush(20)
            broker.start()
            with hosting(broker.port, key) as host:
                host.until(lambda: bool(host.batches), 30)
                put(agent, 2, range(30_000, 30_010))
                began = time.monotonic()
                host.until(lambda: 30_009 in values(host), 10)
                assert time.monotonic() - began < 5
                assert len(values(host)) < 20_060, "history must not have been sent yet"
                put(agent, 1, range(40_000, 40_010))
                agent.sender.set_rates(make_home(tmp_path, settings.broker)[0])
                host.until(lambda: len(values(host)) == 20_070, 60)
                host.until(lambda: empty(agent), 30)
                assert sorted(values(host)) == sorted(
                    [*range(20_050), *range(30_000, 30_010), *range(40_000, 40_010)]
                )
                assert [host.gaps(agent.outbox.epoch, one) for one in ("p0", "p1", "p2")] == [[], [], []]
                assert not host.problems


def test_a_killed_agent_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        _, key = make_home(tmp_path, f"mqtt://{broker.address}")
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'edge_agent'}:{ROOT / 'tests'}:{ROOT / 'service'}"}
        committed = -1
        wanted: set[int] = set()
        with hosting(broker.port, key) as host:
            for _ in range(6):
                start = committed + 100_000 - committed % 100_000
                process = subprocess.Popen(
                    [sys.executable, "-m", "support.edge_agent", str(tmp_path / "settings.json"), "100000", str(start)],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True,
                )  # fmt: skip
                assert process.stdout is not None
                stop_after = random.Random(committed).randint(5, 120)
                seen = [int(process.stdout.readline()) for _ in range(stop_after)]
                process.send_signal(signal.SIGKILL)
                rest, _ = process.communicate(timeout=20)
                seen += [int(line) for line in rest.splitlines() if line.strip()]
                committed = seen[-1]
                wanted.update(range(start, committed + 1))
            with running(make_home(tmp_path, f"mqtt://{broker.address}")[0]) as agent:
                host.until(lambda: empty(agent), 60)
            assert not wanted - set(values(host))
            assert len({key[0] for key in host.records}) == 1, "one epoch"
            assert not host.problems


@pytest.mark.parametrize("shipped", [True, False], ids=["shipped settings", "mosquitto's defaults"])
def test_a_killed_broker_loses_nothing(tmp_path: Path, shipped: bool) -> None:
    with Broker(tmp_path, shipped=shipped) as broker:
        settings, key = make_home(tmp_path, f"mqtt://{broker.address}")
        with hosting(broker.port, key) as host, running(settings) as agent:
            for turn in range(3):
                put(agent, 1, range(turn * 2000, turn * 2000 + 2000))
                host.until(lambda turn=turn: len(values(host)) > turn * 2000 + 300, 30)
                broker.kill()
                put(agent, 2, range(100_000 + turn * 500, 100_000 + turn * 500 + 500))
                time.sleep(0.3)
                broker.start()
            host.until(lambda: len(values(host)) == 7500, 60)
            host.until(lambda: empty(agent), 30)
            assert not host.problems


def test_a_host_that_does_not_acknowledge_keeps_the_outbox_full(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        settings, key = make_home(tmp_path, f"mqtt://{broker.address}", resend_s=1.0)
        with hosting(broker.port, key) as host, running(settings) as agent:
            host.acknowledge = False
            put(agent, 1, range(1000))
            host.until(lambda: host.duplicates >= 1000, 20)
            assert agent.outbox.counts[1].rows == 1000
            host.acknowledge = True
            host.until(lambda: empty(agent), 20)
            assert agent.sender.resends >= 1
            assert not host.problems


def test_commands_are_done_once_and_only_for_the_service(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        settings, key = make_home(tmp_path, f"mqtt://{broker.address}", password="s3cret-pass", username="u")
        with hosting(broker.port, key) as host, running(settings) as agent:
            host.until(lambda: host.latest("shadow/reported") is not None)
            for verb in ("ping", "logs", "diag", "rebirth", "flush", "pause"):
                answer = host.command(verb)
                assert (answer or {}).get("stage") == "done", (verb, answer)
            assert agent.scorer.paused
            diag = host.command("diag")
            assert diag is not None
            assert "s3cret-pass" not in str(diag)
            assert diag["data"]["settings"]["password"] == "set"
            first = host.command("resume", name="a" * 32)
            assert first is not None
            assert not agent.scorer.paused
            host.command("pause")
            again = host.command("resume", name="a" * 32)  # repeated by the line: answered, not done
            assert again == first
            assert agent.scorer.paused
            assert host.command("resume", n=1, wait_s=1) is None  # a replay under another name
            assert agent.scorer.paused
            rollback = host.command("rollback", model="app/none")
            assert rollback is not None
            assert rollback["stage"] == "failed"
            foreign = DeviceKey(b"\x66" * 32)
            value = {
                "v": 1,
                "id": "b" * 32,
                "n": 2**50,
                "verb": "resume",
                "reply_to": f"{host.root}/rsp/host",
            }
            host.publish(f"{host.root}/cmd/resume", value, key=foreign)
            host.raw(f"{host.root}/ack", b"K1\x00" + b"x" * 64 + b"{}")
            host.raw(f"{host.root}/shadow/desired", os.urandom(300_000))
            host.raw(f"{host.root}/cmd/ping", message(f"{host.root}/cmd/pause", value, host.key.sign))
            answer = host.command("ping")
            assert answer is not None
            assert answer["stage"] == "done"
            assert agent.scorer.paused
            assert agent.dropped["signature does not hold"] >= 3
            assert not host.problems


def test_desired_state_is_taken_once_and_outlives_a_restart(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        settings, key = make_home(tmp_path, f"mqtt://{broker.address}")
        with hosting(broker.port, key) as host:
            with running(settings) as agent:
                host.desired(5, paused=True, settings={"hist_bytes_per_s": 5000, "home": "/tmp/other"})
                host.until(lambda: (host.latest("shadow/reported") or {}).get("rev_applied") == 5)
                host.until(lambda: (host.latest("shadow/reported") or {}).get("status") == "paused")
                assert "home" in (host.latest("shadow/reported") or {})["error"]
                assert agent.settings.hist_bytes_per_s == 5000
                host.desired(4, paused=False)
                host.until(lambda: agent.shadow.ignored == 1)
                assert agent.scorer.paused
            with running(settings) as agent:
                assert agent.scorer.paused
                assert agent.settings.hist_bytes_per_s == 5000
                host.desired(6, paused=False)
                host.until(lambda: not agent.scorer.paused)
            assert not host.problems


def client_context(files: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(files.cert, files.key)
    return context


def signed(broker: Broker, csr_pem: str) -> str:
    request = x509.load_pem_x509_csr(csr_pem.encode())
    made = broker._signed("pump-7", request.public_key(), [], ExtendedKeyUsageOID.CLIENT_AUTH)
    return made.public_bytes(Encoding.PEM).decode()


def test_tls_with_certificates_that_are_rotated_while_it_runs(tmp_path: Path) -> None:
    with Broker(tmp_path, tls=True) as broker:
        settings, key = make_home(tmp_path, f"mqtts://{broker.address}")
        home = tmp_path / "home"
        (home / "ca.pem").write_bytes((broker.folder / "ca.pem").read_bytes())
        (home / "certificate.pem").write_text(signed(broker, key.csr_pem("pump-7")))
        context = client_context(broker.host())
        with hosting(broker.port, key, context=context) as host, running(settings) as agent:
            put(agent, 1, range(10))
            host.until(lambda: len(values(host)) == 10)
            asked = host.command("rotate-cert")
            assert asked is not None
            before = (home / "certificate.pem").read_text()
            fresh = signed(broker, asked["data"]["csr_pem"])
            answer = host.command("rotate-cert", certificate_pem=fresh)
            assert answer is not None
            assert answer["stage"] == "done"
            host.until(lambda: (home / "certificate.pem").read_text() == fresh, 20)
            assert fresh != before
            put(agent, 1, range(10, 20))
            host.until(lambda: len(values(host)) == 20, 20)
            other = DeviceKey(b"\x09" * 32)
            refused = host.command("rotate-cert", certificate_pem=signed(broker, other.csr_pem("pump-7")))
            assert refused is not None
            assert refused["stage"] == "failed"
            assert not host.problems


def test_a_new_certificate_that_does_not_connect_is_given_up(tmp_path: Path) -> None:
    with Broker(tmp_path / "one", tls=True) as broker, Broker(tmp_path / "two", tls=True) as stranger:
        settings, key = make_home(tmp_path, f"mqtts://{broker.address}")
        home = tmp_path / "home"
        (home / "ca.pem").write_bytes((broker.folder / "ca.pem").read_bytes())
        (home / "certificate.pem").write_text(signed(broker, key.csr_pem("pump-7")))
        with (
            hosting(broker.port, key, context=client_context(broker.host())) as host,
            running(settings) as agent,
        ):
            host.until(lambda: agent.link.online)
            bad = signed(stranger, key.csr_pem("pump-7"))
            host.command("rotate-cert", certificate_pem=bad)
            host.until(lambda: agent.link.connects >= 2 and agent.link.online, 40)
            assert not (home / "certificate.next.pem").exists()
            put(agent, 1, range(5))
            host.until(lambda: len(values(host)) == 5)


def test_sigterm_ends_it_gracefully(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        _, key = make_home(tmp_path, f"mqtt://{broker.address}")
        env = {**os.environ, "PYTHONPATH": str(ROOT / "edge_agent")}
        with hosting(broker.port, key) as host:
            process = subprocess.Popen(
                [sys.executable, "-m", "kepler_edge", "--settings", str(tmp_path / "settings.json"), "run"],
                stderr=subprocess.PIPE, env=env, text=True,
            )  # fmt: skip
            host.until(lambda: (host.latest("state") or {}).get("online") is True)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=20)
            assert process.returncode == 0, log
            assert time.monotonic() - began < 12
            host.until(lambda: (host.latest("state") or {}).get("online") is False)
            assert '"agent.stopped"' in log
            assert not host.problems
