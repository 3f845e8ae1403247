"""From devices over a real broker through ledger and spool into the stand-in's index."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.splunkd import Fault, FaultPlan, Splunkd
from kepler.adapters.mqtt import frames
from support.broker import Broker
from support.edge_sender import EPOCH, Device, NamedKeys, batch, device_key
from support.hec_events import splunk_with_hec, stored, wait_until
from support.ingest_service import Ingest

STEPS = ("received", "ledger-new", "spooled", "ledger-done", "device-acknowledged", "broker-acknowledged")


@pytest.fixture
def splunk() -> Iterator[tuple[Splunkd, str]]:
    splunkd, token = splunk_with_hec(use_ack=True)
    yield splunkd, token
    splunkd.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as started:
        yield started


def test_records_arrive_once_with_their_names_and_are_acknowledged(
    tmp_path: Path, broker: Broker, splunk: tuple[Splunkd, str]
) -> None:
    splunkd, token = splunk
    keys = NamedKeys("press-1", "press-2")
    with (
        Ingest(tmp_path / "home", broker.address, splunkd.hec.url, token, keys) as ingest,
        Device("press-1", broker.address) as one,
        Device("press-2", broker.address) as two,
    ):
        for device in (one, two):
            for start in range(1, 1001, 100):
                made = batch(device.name, range(start, start + 100))
                device.send(made)
                device.send(made)  # as a device does that got no acknowledgement
            device.send(batch(device.name, range(1, 1001, 2), after=0))  # packed anew
            wait_until(lambda device=device: device.is_safe("p1", 1000))
        assert one.acks[-1] == {
            "v": 1, "device": "press-1", "epoch": EPOCH, "stream": "p1", "upto": 1000, "gaps": [],
        }  # fmt: skip
        assert ingest.spool.flush(20)
        wait_until(lambda: ingest.channel.batches == 42)
    rows = stored(splunkd, after_macro=False)
    assert len(rows) == 2000
    assert {row["event_id"] for row in rows} == {
        f"press-{d}:{EPOCH}:{q}" for d in (1, 2) for q in range(1, 1001)
    }
    row = rows[0]
    assert (row["tenant"], row["kind"], row["stream"], row["machine"]) == (
        "plant7",
        "prediction",
        "p1",
        "press 7",
    )
    assert row["host"] == row["device"] == row["source"].removeprefix("edge:")
    assert row["out.predicted(failure)"] in ("0", "1")


def test_kept_records_come_after_live_ones_and_gaps_are_named(
    tmp_path: Path, broker: Broker, splunk: tuple[Splunkd, str]
) -> None:
    splunkd, token = splunk
    with (
        Ingest(tmp_path / "home", broker.address, splunkd.hec.url, token, NamedKeys("d")) as ingest,
        Device("d", broker.address) as device,
    ):
        device.send(batch("d", range(901, 951), after=900))
        wait_until(lambda: device.acks)
        assert (device.acks[-1]["upto"], device.acks[-1]["gaps"]) == (950, [[1, 900]])
        assert not device.is_safe("p1", 900)
        for start in range(1, 901, 300):
            device.send(batch("d", range(start, start + 300), after=start - 1, hist=True), "hist")
        wait_until(lambda: device.is_safe("p1", 900))
        wait_until(lambda: device.acks[-1]["gaps"] == [])
        assert ingest.spool.flush(20)
    assert len(stored(splunkd, after_macro=False)) == 950


def test_other_kinds_go_where_searches_look_for_them(
    tmp_path: Path, broker: Broker, splunk: tuple[Splunkd, str]
) -> None:
    splunkd, token = splunk
    common = {"ts": 1_800_000_000.0, "mono": 999.0}
    records = [
        {**common, "q": 1, "kind": "telemetry", "tag": "cpu", "value": 0.5, "source": "gw"},
        {**common, "q": 2, "kind": "log", "level": "warning", "event": "model.slow", "keys": {"ms": 3}},
        {
            **common,
            "q": 3,
            "kind": "tombstone",
            "from": 1,
            "to": 9,
            "count": 4,
            "stream": "p2",
            "reason": "full",
        },
    ]
    clock = {"sync": True, "err_ms": 5, "boot": "ab" * 8, "mono": 1000.0, "ts": 1_800_000_001.0}
    with (
        Ingest(tmp_path / "home", broker.address, splunkd.hec.url, token, NamedKeys("d")) as ingest,
        Device("d", broker.address) as device,
    ):
        device.send(batch("d", [1, 2, 3], stream="p0", records=records, clock=clock))
        wait_until(lambda: device.is_safe("p0", 3))
        assert ingest.spool.flush(20)
    rows = splunkd.search("search index=kepler sourcetype=kepler:fleet | sort q").rows
    assert [row["kind"] for row in rows] == ["telemetry", "log", "tombstone"]
    assert (rows[0]["machine"], rows[1]["keys.ms"], rows[2]["count"]) == ("gw", "3", "4")
    assert {row["_time"] for row in rows} == {"1800000000.000"}
    assert not any(row.get("device_time") for row in rows)


def test_times_of_a_clock_that_was_not_set_are_put_right(
    tmp_path: Path, broker: Broker, splunk: tuple[Splunkd, str]
) -> None:
    splunkd, token = splunk
    now = time.time()

    def unset(q: int) -> list[dict[str, object]]:
        return [{"q": q, "ts": 100.0 + q, "mono": 100.0 + q, "kind": "telemetry", "tag": "t", "value": q}]

    no_clock = {"sync": False, "err_ms": 9e11, "boot": "ab" * 8, "mono": 110.0, "ts": 110.0}
    clock = {"sync": True, "err_ms": 5, "boot": "ab" * 8, "mono": 120.0, "ts": now}
    with (
        Ingest(tmp_path / "home", broker.address, splunkd.hec.url, token, NamedKeys("d")) as ingest,
        Device("d", broker.address) as device,
    ):
        for q, state in ((1, no_clock), (2, clock), (3, no_clock)):
            device.send(batch("d", [q], stream="p2", records=unset(q), clock=state))
            wait_until(lambda q=q: device.is_safe("p2", q))
        assert ingest.spool.flush(20)
    rows = splunkd.search("search index=kepler sourcetype=kepler:fleet | sort q").rows
    assert [row["time_from"] for row in rows] == ["arrival", "boot", "boot"]
    assert [float(row["device_time"]) for row in rows] == [101.0, 102.0, 103.0]
    assert float(rows[0]["_time"]) == pytest.approx(now - 9, abs=3)
    assert float(rows[1]["_time"]) == pytest.approx(now - 18, abs=0.01)
    assert float(rows[2]["_time"]) == pytest.approx(now - 17, abs=0.01)


def test_hostile_messages_are_dropped_and_counted(
    tmp_path: Path, broker: Broker, splunk: tuple[Splunkd, str]
) -> None:
    splunkd, token = splunk
    randomly = random.Random(7)
    with (
        Ingest(tmp_path / "home", broker.address, splunkd.hec.url, token, NamedKeys("good", "bad")) as ingest,
        Device("bad", broker.address) as bad,
        Device("good", broker.address) as good,
    ):
        topic = f"{bad.root}/p1"
        sign = device_key("bad").sign
        whole = frames.message(topic, batch("bad", range(1, 200)), sign)
        expected: list[tuple[str, bytes]] = [
            (topic, b""),
            (topic, b"K1" + bytes(10)),
            (topic, bytes(1000)),
            (topic, randomly.randbytes(100_000)),
            # Another device's topic, its own body; its own topic with another's body; the same frame elsewhere.
            (f"{good.root}/p1", frames.message(f"{good.root}/p1", batch("good", [1]), sign)),
            (topic, frames.message(topic, batch("good", [1]), sign)),
            (f"{good.root}/p1", whole),
            (f"{bad.root}/p2", frames.message(f"{bad.root}/p2", batch("bad", [1]), sign)),
            (
                "kepler/v1/plant7/unknown/p1",
                frames.message("kepler/v1/plant7/unknown/p1", batch("unknown", [1]), sign),
            ),
            ("kepler/v1/PLANT/bad/p1", frames.message("kepler/v1/PLANT/bad/p1", batch("bad", [1]), sign)),
            (
                "kepler/v1/plant7/host/p1",
                frames.message("kepler/v1/plant7/host/p1", batch("host", [1]), sign),
            ),
            (topic, _bomb(topic, sign)),
            (topic, frames.encode(topic, b'{"v":1,"v":1}', sign)),
            (topic, frames.encode(topic, b'{"v":NaN}', sign)),
            (topic, frames.encode(topic, b"[" * 100_000, sign)),
            (topic, frames.encode(topic, b"[]", sign)),
            (topic, frames.encode(topic, b"\xff\xfe", sign)),
        ]
        changes: list[dict[str, object]] = [
            {"first": 2}, {"last": 200}, {"after": 5}, {"records": []}, {"v": 2}, {"epoch": "../../etc"},
            {"stream": "p9"}, {"hist": 1}, {"extra": 1}, {"base": -1}, {"after": 2**60}, {"clock": {}},
        ]  # fmt: skip
        expected += [
            (topic, frames.message(topic, batch("bad", range(1, 4)) | change, sign)) for change in changes
        ]
        for i in range(0, len(whole), max(1, len(whole) // 40)):
            torn = bytearray(whole)
            torn[i] ^= 1 << randomly.randrange(8)
            expected += [(topic, bytes(torn)), (topic, whole[:i])]
        for where, payload in expected:
            bad.send_raw(where, payload)
        wait_until(lambda: sum(ingest.channel.refused.values()) >= len(expected))
        assert sum(ingest.channel.refused.values()) == len(expected)
        assert set(ingest.channel.refused) >= {
            "no-frame", "signature", "topic", "unknown-device", "zlib", "json", "schema", "numbers",
        }  # fmt: skip
        assert "internal" not in ingest.channel.refused
        good.send(batch("good", range(1, 11)))
        wait_until(lambda: good.is_safe("p1", 10))
        assert not bad.acks
        assert ingest.spool.flush(20)
    assert {row["device"] for row in stored(splunkd, after_macro=False)} == {"good"}


def _bomb(topic: str, sign: object) -> bytes:
    import zlib

    body = zlib.compress(b'{"v":"' + b"a" * (64 << 20) + b'"}', 9)
    return frames.MAGIC + b"\1" + sign(frames.signed_bytes(topic, 1, body)) + body  # type: ignore[operator]


def test_over_tls_a_device_cannot_speak_for_another(tmp_path: Path, splunk: tuple[Splunkd, str]) -> None:
    splunkd, token = splunk
    with Broker(tmp_path, tls=True) as broker:
        files = {n: broker.device(n, device_key(n).private_bytes_raw()) for n in ("one", "two")}
        with (
            Ingest(
                tmp_path / "home",
                broker.address,
                splunkd.hec.url,
                token,
                NamedKeys("one", "two"),
                files=broker.host(),
            ) as ingest,
            Device("one", broker.address, files=files["one"]) as one,
        ):
            topic = "kepler/v1/plant7/two/p1"
            stolen = frames.message(topic, batch("two", range(1, 6)), device_key("two").sign)
            one.send_raw(topic, stolen)  # the access list drops it, whatever its signature says
            one.send(batch("one", range(1, 6)))
            wait_until(lambda: one.is_safe("p1", 5))
            assert ingest.spool.flush(20)
            assert not ingest.channel.refused
    assert {row["device"] for row in stored(splunkd, after_macro=False)} == {"one"}


def test_a_full_spool_holds_the_devices_back_and_loses_nothing(
    tmp_path: Path, broker: Broker, splunk: tuple[Splunkd, str]
) -> None:
    splunkd, token = splunk
    splunkd.hec.down = True
    with (
        Ingest(
            tmp_path / "home", broker.address, splunkd.hec.url, token, NamedKeys("d"), spool_bytes=200_000
        ) as ingest,
        Device("d", broker.address) as device,
    ):
        for start in range(1, 2001, 100):
            device.send(batch("d", range(start, start + 100)))
        wait_until(lambda: ingest.spool.states()[0].events >= 100)
        time.sleep(0.5)
        assert not device.is_safe("p1", 2000)
        assert ingest.spool.states()[0].dropped == 0
        splunkd.hec.down = False
        wait_until(lambda: device.is_safe("p1", 2000), 40)
        assert ingest.spool.flush(20)
    assert len(stored(splunkd)) == 2000


def test_a_killed_broker_loses_nothing(tmp_path: Path, splunk: tuple[Splunkd, str]) -> None:
    """With mosquitto's own defaults, which forget what they acknowledged: the device sends until it is safe."""
    splunkd, token = splunk
    broker = Broker(tmp_path, shipped=False).start()
    with Ingest(tmp_path / "home", broker.address, splunkd.hec.url, token, NamedKeys("d")) as ingest:
        for kill in range(3):
            with Device("d", broker.address) as device:
                device.send(batch("d", range(kill * 100 + 1, kill * 100 + 101)))
                broker.kill()
            broker.start()
            assert ingest.link.wait_online(20)
        with Device("d", broker.address) as device:
            for start in range(1, 301, 100):
                device.send(batch("d", range(start, start + 100)))
            wait_until(lambda: device.is_safe("p1", 300))
        assert ingest.spool.flush(20)
    broker.stop()
    assert len(stored(splunkd, after_macro=False)) == 300


@pytest.mark.parametrize("times", [1, pytest.param(50, marks=[pytest.mark.full, pytest.mark.timeout(3000)])])
def test_killed_between_any_two_steps_nothing_is_missing_or_twice(
    tmp_path: Path, root: Path, broker: Broker, splunk: tuple[Splunkd, str], times: int
) -> None:
    splunkd, token = splunk
    splunkd.hec.faults = FaultPlan(
        {Fault.BUSY: 0.05, Fault.STORED_DROP: 0.05, Fault.LOST_ACK: 0.02}, seed=times
    )
    randomly = random.Random(times)
    sent = 0
    for round_ in range(times):
        for step in STEPS:
            service = _start(root, tmp_path, broker, splunkd, token, step, randomly.randrange(1, 4))
            with Device("d", broker.address) as device:
                for _ in range(6):
                    device.send(batch("d", range(sent + 1, sent + 21), base=0))
                    sent += 20
                    time.sleep(0.01)
                if step != "broker-acknowledged" or round_ % 2:
                    # The outbox sends again what is not safe, packed in another way.
                    device.send(batch("d", range(sent - 50, sent + 1)))
                for _ in range(200):
                    if service.poll() is not None:
                        break
                    device.send(batch("d", [sent + 1]))
                    sent += 1
                    time.sleep(0.05)
                service.communicate(timeout=10)
                assert service.returncode == -9, "it was to end itself"
    service = _start(root, tmp_path, broker, splunkd, token, "never", 1)
    with Device("d", broker.address) as device:
        for start in range(1, sent + 1, 500):
            device.send(batch("d", range(start, min(start + 500, sent + 1))))
        wait_until(lambda: device.is_safe("p1", sent), 60)
    service.terminate()
    service.communicate(timeout=20)
    with Ingest(tmp_path / "home", broker.address, splunkd.hec.url, token, NamedKeys("d")) as ingest:
        assert ingest.spool.flush(60)
        assert not ingest.ledger.open()
    rows = stored(splunkd)
    assert sorted(int(row["q"]) for row in rows) == list(range(1, sent + 1))


def _start(
    root: Path, folder: Path, broker: Broker, splunkd: Splunkd, token: str, step: str, count: int
) -> subprocess.Popen[str]:
    service = subprocess.Popen(
        [sys.executable, "-m", "support.ingest_service", str(folder / "home"), broker.address, splunkd.hec.url, step,
         str(count), "d"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root / "tests",
        env={**os.environ, "PYTHONPATH": f"{root / 'service'}:{root / 'tests'}"},
    )  # fmt: skip
    assert service.stdin is not None
    service.stdin.write(token + "\n")
    service.stdin.flush()
    return service
