"""A day offline: 864,000 records in the outbox, drained with fresh records coming all the while.

    python benchmarks/edge/drain_day.py --records 864000 --hist-bytes-per-s 125000

Starts mosquitto and a small host (a process of its own that acknowledges like the service), and the agent in a third
process. Prints one JSON object: seconds to fill and to drain, the delays of fresh records from commit to host, bytes on
the wire, memory of the agent, and what is missing or out of order (must be 0).
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing as mp
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "edge_agent"), str(ROOT / "tests"), str(ROOT / "service")]

import paho.mqtt.client as mqtt  # noqa: E402
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402

from kepler_edge.agent import Agent, process_figures  # noqa: E402
from kepler_edge.frames import decode, message, parse  # noqa: E402
from kepler_edge.keys import Trust  # noqa: E402
from kepler_edge.settings import load  # noqa: E402
from support.broker import Broker  # noqa: E402
from support.edge_agent import HOST_KEY, make_home, telemetry  # noqa: E402
from support.edge_host import join  # noqa: E402

LIVE_PER_S = 10
ROOT_TOPIC = "kepler/v1/acme/pump-7"


def host(port: int, device_key: bytes, done: Any, results: Any) -> None:
    """Acknowledges everything; notes when fresh records came and whether each stream kept its order."""
    trust = Trust([device_key])
    spans: list[tuple[int, int]] = []
    seen: set[int] = set()
    delays: list[float] = []
    found = {"bytes": 0, "batches": 0, "duplicates": 0, "disorder": 0}
    last = {True: 0, False: 0}

    def on_message(client: mqtt.Client, _: Any, got: mqtt.MQTTMessage) -> None:
        now = time.time()
        suffix = got.topic.removeprefix(f"{ROOT_TOPIC}/")
        if suffix not in ("p0", "p1", "p2", "hist"):
            return
        batch: Any = parse(decode(got.topic, bytes(got.payload), trust.verify))
        found["bytes"] += len(got.payload)
        found["batches"] += 1
        qs = [record["q"] for record in batch["records"]]
        found["duplicates"] += len(seen.intersection(qs))
        seen.update(qs)
        if batch["stream"] == "p2":
            found["disorder"] += batch["first"] <= last[batch["hist"]]
            last[batch["hist"]] = batch["last"]
            if not batch["hist"]:
                delays.extend(now - record["ts"] for record in batch["records"])
            spans[:] = join([*spans, (0, batch["base"]), (batch["after"], batch["last"])])
            gaps = ([[1, spans[0][0]]] if spans[0][0] else []) + [
                [one[1] + 1, other[0]] for one, other in itertools.pairwise(spans)
            ]
            ack = {
                "v": 1, "device": "pump-7", "epoch": batch["epoch"], "stream": "p2", "upto": spans[-1][1], "gaps": gaps,
            }  # fmt: skip
            topic = f"{ROOT_TOPIC}/ack"
            client.publish(topic, message(topic, ack, HOST_KEY.sign), qos=1)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bench-host", clean_session=False)
    client.on_connect = lambda one, *_: one.subscribe(f"{ROOT_TOPIC}/#", 1)
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    done.wait()
    client.loop_stop()
    delays.sort()
    results.put({**found, "records": len(seen), "delays": delays})


def agent(settings_file: str, records: int, go: Any, done: Any, results: Any) -> None:
    """Fills the outbox, then connects and makes fresh records until the outbox is drained."""
    settings = load(Path(settings_file), {}, Path("/nonexistent"))
    one = Agent(settings)
    began = time.perf_counter()
    for first in range(0, records, 100):
        one.outbox.append([(2, telemetry(value % 1000)) for value in range(first, min(first + 100, records))])
    fill_s = time.perf_counter() - began
    size = one.outbox.stats()["bytes"]
    go.set()
    stop = threading.Event()
    made = 0

    def live() -> None:
        nonlocal made
        while not stop.wait(1 / LIVE_PER_S):
            now = one.clock.stamp()
            one.writer.put(2, {**telemetry(made), "ts": now.ts, "mono": now.mono})
            made += 1

    one.start()
    began = time.perf_counter()
    thread = threading.Thread(target=live)
    thread.start()
    while one.outbox.counts[2].rows > 20:
        time.sleep(0.05)
    drain_s = time.perf_counter() - began
    stop.set()
    thread.join()
    one.writer.flush(5)
    while one.outbox.counts[2].rows:
        time.sleep(0.05)
    results.put(
        {
            "fill_s": round(fill_s, 1), "fill_rows_per_s": round(records / fill_s), "outbox_mb": round(int(str(size)) / 1e6, 1),
            "drain_s": round(drain_s, 1), "live": made, "process": process_figures(), "resends": one.sender.resends,
        }
    )  # fmt: skip
    one.close()
    done.set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=864_000)
    parser.add_argument("--hist-bytes-per-s", type=float, default=125_000.0)
    asked = parser.parse_args()
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Broker(folder) as broker:
            _, key = make_home(
                folder, f"mqtt://{broker.address}", hist_bytes_per_s=asked.hist_bytes_per_s, quota_mb=500.0,
                resend_s=30.0, log_level="error",
            )  # fmt: skip
            go, done, agents, hosts = context.Event(), context.Event(), context.Queue(), context.Queue()
            two = context.Process(target=host, args=(broker.port, key.public, done, hosts))
            one = context.Process(
                target=agent, args=(str(folder / "settings.json"), asked.records, go, done, agents)
            )
            two.start()
            one.start()
            agent_found, host_found = agents.get(), hosts.get()
            one.join()
            two.join()
    delays = host_found.pop("delays")
    print(
        json.dumps(
            {
                **agent_found,
                **host_found,
                "missing": asked.records + agent_found["live"] - host_found["records"],
                "live_delay_s": {
                    "p50": round(delays[len(delays) // 2], 3),
                    "p95": round(delays[int(len(delays) * 0.95)], 3),
                    "max": round(delays[-1], 3),
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
