"""Inputs on a real broker: JSON topics and Sparkplug B, through a restart of the broker."""

import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from kepler_edge.inputs import open_input
from kepler_edge.inputs.sparkplug import payload_class
from support.broker import Broker


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path) as found:
        yield found


class Running:
    """An input in a thread, and what it handed over."""

    def __init__(self, settings):
        self.input = open_input(settings)
        self.readings = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.input.run, args=(self.readings.append, self._stop))

    def __enter__(self):
        self._thread.start()
        self.wait(lambda: self.input.counts["connects"] == 1)
        time.sleep(0.2)  # for the subscription
        return self

    def __exit__(self, *given):
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def wait(self, until, seconds=20.0):
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, self.input.counts
            time.sleep(0.02)


def publish(port, *messages):
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for topic, payload in messages:
        client.publish(topic, payload, qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def test_json_topics_and_what_is_wrong(broker):
    settings = {"kind": "mqtt", "name": "line", "broker": f"mqtt://127.0.0.1:{broker.port}",
                "topics": ["plant/+/#"], "qos": 1}  # fmt: skip
    with Running(settings) as running:
        publish(
            broker.port,
            ("plant/1/all", b'{"temp": 20.5, "ts": 1700000000}'),
            ("plant/1/temperature", b"21"),
            ("plant/1/junk", b"\xff\xfe"),
            ("other/1", b"1"),
        )
        running.wait(lambda: len(running.readings) == 2 and running.input.counts["wrong"] == 1)
        first, second = running.readings
        assert (first.source, first.fields["temp"], first.ts) == ("plant/1/all", 20.5, 1.7e9)
        assert (second.source, second.fields) == ("plant/1/temperature", {"temperature": 21})
        broker.kill()
        broker.start()
        running.wait(lambda: running.input.counts["connects"] == 2)
        time.sleep(0.2)
        publish(broker.port, ("plant/1/temperature", b"22"))
        running.wait(lambda: len(running.readings) == 3)


def test_sparkplug_through_a_broker(broker):
    birth = payload_class()(timestamp=1_700_000_000_000)
    birth.metrics.add(name="Temp", alias=1, datatype=10, double_value=20.5)
    data = payload_class()(timestamp=1_700_000_001_000)
    data.metrics.add(alias=1, double_value=21.5)
    with Running({"kind": "sparkplug", "name": "s", "broker": f"mqtt://127.0.0.1:{broker.port}"}) as running:
        publish(
            broker.port,
            ("spBv1.0/plant/NBIRTH/edge1", birth.SerializeToString()),
            ("spBv1.0/plant/NDATA/edge1", data.SerializeToString()),
            ("spBv1.0/plant/NDATA/edge1", b"\xff"),
        )
        running.wait(lambda: running.input.counts["wrong"] == 1)
        assert [(reading.source, reading.fields) for reading in running.readings] == [
            ("plant/edge1", {"Temp": 20.5}),
            ("plant/edge1", {"Temp": 21.5}),
        ]


def test_a_broker_that_is_away_does_not_keep_the_input_from_ending():
    opened = open_input({"kind": "mqtt", "name": "m", "broker": "mqtt://127.0.0.1:1", "topics": ["a"]})
    stop = threading.Event()
    thread = threading.Thread(target=opened.run, args=(print, stop))
    thread.start()
    time.sleep(0.3)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
