"""The whole agent with a real model: offered over MQTT, fetched in pieces, scoring what an input reads."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from kepler_edge.agent import Agent
from kepler_edge.frames import canonical, decode, encode, parse
from kepler_edge.keys import Trust
from kepler_edge.reading import Reading
from support import mqtt_schemas
from support.broker import Broker
from support.edge_agent import HOST_KEY, make_home
from support.edge_host import Host
from support.edge_models import Signing, draft, registered, release_document, sample_rows

SIGNING = Signing.fresh()


def serve_pieces(host: Host, folder: Path, device_key: bytes) -> None:
    """Answers `model/get` from the files of ``folder``."""
    files = {
        hashlib.sha256(file.read_bytes()).hexdigest(): file.read_bytes()
        for file in folder.iterdir()
        if file.is_file()
    }
    trust = Trust([device_key])

    def asked(_client: Any, _data: Any, found: mqtt.MQTTMessage) -> None:
        request: Any = parse(decode(found.topic, bytes(found.payload), trust.verify))
        mqtt_schemas.check("chunk-get", request)
        piece = files[request["sha256"]][request["off"] : request["off"] + request["len"]]
        header = canonical({"sha256": request["sha256"], "off": request["off"], "crc32": zlib.crc32(piece)})
        topic = f"{host.root}/model/chunk"
        body = len(header).to_bytes(4, "big") + header + piece
        host._client.publish(topic, encode(topic, body, host.key.sign), qos=1)

    host._client.message_callback_add(f"{host.root}/model/get", asked)


@pytest.mark.timeout(180)
def test_a_model_is_fetched_in_pieces_scores_and_outlives_a_restart(tmp_path: Path) -> None:
    version = tmp_path / "version"
    registered(draft("linear"), version, SIGNING)
    readings = sample_rows(200)
    with Broker(tmp_path) as broker:
        lines = tmp_path / "readings.jsonl"
        lines.write_text(
            "".join(json.dumps({k: row[k] for k in ("a", "b", "colour")}) + "\n" for row in readings)
        )
        settings, key = make_home(tmp_path, f"mqtt://{broker.address}")
        trusted = [HOST_KEY.public, SIGNING.signer._public.public_bytes_raw()]
        (tmp_path / "home" / "trust.json").write_text(json.dumps(Trust(trusted).to_base64()))
        host = Host(broker.port, "acme", "pump-7", key.public)
        serve_pieces(host, version, key.public)
        agent = Agent(settings)
        agent.start()
        try:
            release = release_document(version, url="", thresholds={"probability(label=bad)": 0.8})
            host.desired(1, releases=[release])
            host.until(lambda: "app.search/m" in agent.releases.serving(), 60)
            host.until(lambda: bool((host.latest("state") or {}).get("models")), 10)
            birth = host.latest("state")
            assert birth is not None
            model = birth["models"][0]
            assert (model["name"], model["version"], model["slot"]) == ("app.search/m", 1, "a")
            for row in readings:
                agent.scorer.feed(Reading("line", {name: row[name] for name in ("a", "b", "colour")}))
            host.until(lambda: len(host.of_kind("prediction")) == 200, 30)
            host.until(lambda: (host.latest("shadow/reported") or {}).get("status") == "in-step", 30)
        finally:
            agent.close()
        found = host.of_kind("prediction")
        by_stream = {stream: set(host.numbers(stream)) for stream in ("p0", "p1")}
        for record in found:
            alert = record["out"]["probability(label=bad)"] >= 0.8
            assert record["alert"] is alert
            assert record["q"] in by_stream["p0" if alert else "p1"]
        assert any(record["alert"] for record in found)
        states = [step["to"] for suffix, step in host.seen if suffix == "rollout"]
        assert states[-1] == "committed"
        assert states.index("downloading") < states.index("selftest") < states.index("probation")
        host.close()
        broker.stop()
        # Without a line: the model serves at once, an input is read, and all of it is kept.
        settings, _ = make_home(
            tmp_path, settings.broker, inputs=[{"name": "line", "kind": "file", "path": str(lines)}]
        )
        (tmp_path / "home" / "trust.json").write_text(json.dumps(Trust(trusted).to_base64()))
        agent = Agent(settings)
        assert "app.search/m" in agent.releases.serving()
        agent.start()
        Host.until(host, lambda: agent.outbox.counts[0].appended + agent.outbox.counts[1].appended == 200, 30)
        agent.close()
        assert not host.problems
