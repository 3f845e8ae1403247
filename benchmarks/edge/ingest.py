"""How quickly batches of devices become safe: broker, checks, ledger, spool and acknowledgement.

    PYTHONPATH=service:tests:. python -m benchmarks.edge.ingest --devices 20 --batches 50

Broker, service and the devices' publisher share this machine; the batches are made and signed before the clock
starts. Prints records/s until the last acknowledgement, and the time of each part alone for one batch.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import paho.mqtt.client as mqtt

from kepler.adapters.mqtt import frames
from kepler.adapters.mqtt.messages import batch_from
from support.broker import Broker
from support.edge_sender import NamedKeys, batch, device_key
from support.hec_events import splunk_with_hec
from support.ingest_service import Ingest


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--batches", type=int, default=50, help="of each device")
    parser.add_argument("--records", type=int, default=500, help="in each batch")
    given = parser.parse_args()
    names = [f"device-{n}" for n in range(given.devices)]
    messages: list[tuple[str, bytes]] = []
    for i in range(given.batches):
        first = i * given.records + 1
        for name in names:
            topic = f"kepler/v1/plant7/{name}/p1"
            made = batch(name, range(first, first + given.records))
            messages.append((topic, frames.message(topic, made, device_key(name).sign)))
    keys = NamedKeys(*names)
    topic, payload = messages[0]
    _timed("signature and inflating", lambda: frames.decode(topic, payload, keys.public_keys(names[0])))
    body = frames.decode(topic, payload, keys.public_keys(names[0]))
    _timed("JSON and schema", lambda: batch_from(body, "plant7", names[0], "p1", time.time()))
    total = len(messages) * given.records
    splunkd, token = splunk_with_hec()
    with tempfile.TemporaryDirectory() as name, Broker(Path(name)) as broker:
        publisher = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "publisher", protocol=mqtt.MQTTv5)
        host, _, port = broker.address.partition(":")
        publisher.connect(host, int(port))
        publisher.loop_start()
        with Ingest(Path(name) / "home", broker.address, splunkd.hec.url, token, keys) as ingest:
            began = time.monotonic()
            for topic, payload in messages:
                publisher.publish(topic, payload, qos=1)
            while ingest.channel.batches < len(messages):
                time.sleep(0.01)
            safe = time.monotonic() - began
            assert ingest.spool.flush(600)
            there = time.monotonic() - began
        publisher.disconnect()
        publisher.loop_stop()
    stored = splunkd.hec.stored
    splunkd.stop()
    print(f"{total} records in {len(messages)} batches: safe at {total / safe:.0f} records/s, in Splunk at "
          f"{total / there:.0f} records/s")  # fmt: skip
    return int(stored != total)


def _timed(title: str, work: object) -> None:
    began, runs = time.perf_counter(), 50
    for _ in range(runs):
        work()  # type: ignore[operator]
    print(f"{title}: {(time.perf_counter() - began) / runs * 1000:.2f} ms for one batch")


if __name__ == "__main__":
    sys.exit(main())
