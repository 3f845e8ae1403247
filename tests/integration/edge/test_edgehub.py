"""Readings from a Splunk Edge Hub and scores to it, over real gRPC with the stand-in."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fakes.edgehub.server import FakeEdgeHub
from kepler_edge.edgehub import WAITING, EdgeHub, HubOutput
from kepler_edge.errors import InvalidInput, Unavailable
from kepler_edge.inputs import open_input
from kepler_edge.inputs.edgehub import EdgeHubInput
from kepler_edge.reading import Reading


def until(found: Callable[[], object], limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not found():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


@pytest.fixture
def hub() -> Iterator[FakeEdgeHub]:
    with FakeEdgeHub() as found:
        yield found


class Reader:
    """Runs an input in a thread of its own, as the agent does."""

    def __init__(self, **settings: object) -> None:
        opened = open_input({"name": "hub", "kind": "edgehub", **settings})
        assert isinstance(opened, EdgeHubInput)
        self.input, self.got, self.stop = opened, list[Reading](), threading.Event()
        self.thread = threading.Thread(target=self.input.run, args=(self.got.append, self.stop), daemon=True)

    def __enter__(self) -> Reader:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_a_reading_holds_the_last_value_of_every_source(hub: FakeEdgeHub) -> None:
    with Reader(address=hub.address, fields={"temperature": "temp"}) as reader:
        until(lambda: hub.tell("temperature", 21.5, 1_700_000_000.25))
        until(lambda: reader.got)
        hub.tell("vibration", 0.5)
        hub.tell("state", "never asked for")
        hub.tell("vibration", True)
        until(lambda: len(reader.got) == 3)
    assert hub.asked == [["temperature", "vibration"]]
    assert reader.got[0] == Reading("hub", {"temp": 21.5}, 1_700_000_000.25)
    assert reader.got[1] == Reading("hub", {"temp": 21.5, "vibration": 0.5}, None)
    assert reader.got[2].fields["vibration"] is True


def test_a_trigger_makes_one_reading_of_many_values_and_errors_are_gaps(hub: FakeEdgeHub) -> None:
    with Reader(address=hub.address, ids=["temperature", "vibration"], trigger="vibration") as reader:
        until(lambda: hub.tell("temperature", 1.0))
        hub.tell("temperature", None, error="sensor unplugged")
        hub.tell("vibration", 2.0)
        until(lambda: reader.got)
    assert [reading.fields for reading in reader.got] == [{"temperature": None, "vibration": 2.0}]


def test_it_reads_on_when_the_hub_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kepler_edge.inputs.edgehub._WAIT_S", (0.05, 0.2))
    with FakeEdgeHub() as first:
        port = first.port
        with Reader(address=first.address) as reader:
            until(lambda: first.tell("temperature", 1.0))
            first.cut()
            until(lambda: first.tell("temperature", 2.0))
            until(lambda: len(reader.got) >= 2)
            first.__exit__()
            with FakeEdgeHub(port=port) as second:
                until(lambda: second.tell("temperature", 3.0))
                until(lambda: reader.got[-1].fields["temperature"] == 3.0)
    assert reader.input.counts["connects"] >= 3


def record(score: float = 0.1, **more: object) -> dict[str, object]:
    return {
        "kind": "prediction", "ts": 1_700_000_000.125, "mono": 5.0, "model": "app.search/failure", "version": 3,
        "sha8": "0" * 8, "source": "hub", "out": {"isOutlier": 1, "anomaly_score": score}, "alert": True, "lat_us": 8.1,
        **more,
    }  # fmt: skip


def test_a_score_is_metrics_of_32_bits_and_an_exact_event(hub: FakeEdgeHub) -> None:
    client = EdgeHub(hub.address)
    client.send(record(), "press-7")
    client.close()
    [metric], [event] = hub.metrics, hub.events
    values = {item.name: item.value for item in metric.metrics}
    assert values == {
        "kepler.isOutlier": 1.0,
        "kepler.anomaly_score": struct.unpack("f", struct.pack("f", 0.1))[0],
        "kepler.alert": 1.0,
    }
    assert metric.dimensions["device"] == "press-7"
    assert metric.create_time.ToNanoseconds() == 1_700_000_000_125_000_000
    assert json.loads(event.fields["event"]) == record()
    assert event.fields["sourcetype"] == "kepler:prediction"


def test_scores_never_wait_for_the_hub_and_the_outbox_gets_all(hub: FakeEdgeHub) -> None:
    kept: list[dict[str, object]] = []
    output = HubOutput(lambda _priority, found: kept.append(found), EdgeHub(hub.address), "press-7")
    for place in range(WAITING + 5):
        output.put(1, record(float(place)))
    output.put(2, {"kind": "telemetry"})
    output.put(1, record(shadow=True))
    assert len(kept) == WAITING + 7
    assert output.counts["dropped"] == 5
    stop = threading.Event()
    thread = threading.Thread(target=output.run, args=(stop,), daemon=True)
    thread.start()
    until(lambda: output.counts["sent"] >= 50)
    hub.refuse = "quota"
    until(lambda: output.counts["refused"] >= 1)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_hub_that_is_away_is_said() -> None:
    client = EdgeHub("127.0.0.1:9")
    with pytest.raises(Unavailable, match="does not answer"):
        client.sources()
    client.close()
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        EdgeHub("nowhere")
    with pytest.raises(InvalidInput, match="which it does not read"):
        open_input({"name": "hub", "kind": "edgehub", "ids": ["a"], "trigger": "b"})


def test_the_agent_gives_predictions_to_the_hub_that_its_settings_name(hub: FakeEdgeHub) -> None:
    from kepler_edge import agent
    from kepler_edge.settings import make

    kept: list[object] = []
    put = lambda _priority, found: kept.append(found)  # noqa: E731
    assert agent._hub_output(make({"device": "press-7"}), put) is None
    output = agent._hub_output(make({"device": "press-7", "edgehub_output": hub.address}), put)
    assert output is not None
    output.put(0, record())
    stop = threading.Event()
    thread = threading.Thread(target=output.run, args=(stop,), daemon=True)
    thread.start()
    until(lambda: output.counts["sent"] == 1)
    stop.set()
    thread.join(10)
    assert kept == [record()]
    assert hub.events[0].fields["device"] == "press-7"
