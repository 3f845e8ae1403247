"""A device that is unsure asks a running service over gRPC, and goes on without it."""

from __future__ import annotations

import csv
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kepler.sdk import connect
from kepler_edge.ask import Asker, Rule
from kepler_edge.clock import Clock
from kepler_edge.errors import InvalidInput, KeplerError, Unavailable
from kepler_edge.log import Log
from kepler_edge.model import LoadedModel
from kepler_edge.predict_rows import MESSAGES, PredictService
from kepler_edge.reading import Reading
from kepler_edge.scoring import Scorer
from support.edge_models import Signing, draft, registered, sample_rows
from support.running_service import RunningService


def test_the_messages_are_those_of_the_contract(root: Path) -> None:
    """Every field by number, type and name."""
    text = (root / "proto/kepler/v1/prediction.proto").read_text() + (
        root / "proto/kepler/v1/common.proto"
    ).read_text()
    for name, fields in MESSAGES.items():
        body = re.search(rf"^message {name} {{(.*?)^}}", text, re.MULTILINE | re.DOTALL)
        assert body is not None, name
        for field, number, kind, many, of in fields:
            plain = {8: "bool", 9: "string", 12: "bytes", 4: "uint64"}.get(kind, of)
            assert re.search(
                rf"^\s*{'repeated ' if many else ''}{plain} {field} = {number};", body[1], re.MULTILINE
            ), field


@pytest.fixture(scope="module")
def large(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = sample_rows()
    path = tmp_path_factory.mktemp("ask") / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with connect(service.grpc, home=service.home) as client:
        client.train(
            str(path), algorithm="RandomForestClassifier", target="label", features=["a", "b", "colour"],
            into="app:large", n_estimators=20,
        )  # fmt: skip
    return "app:large"


def test_unsure_readings_get_the_services_answer_and_sure_ones_the_devices(
    service: RunningService, large: str, tmp_path: Path
) -> None:
    signing = Signing.fresh()
    registered(draft("linear"), tmp_path, signing)
    model = LoadedModel.load(tmp_path, signing.trust)
    put: list[tuple[int, dict[str, Any]]] = []
    asked = PredictService(service.grpc)
    asker = Asker(
        lambda priority, found: put.append((priority, found)), asked, large, Rule(confidence=0.9), 10.0
    )

    class Models:
        def serving(self) -> dict[str, LoadedModel]:
            return {model.name: model}

        def shadows(self) -> dict[str, LoadedModel]:
            return {}

        def observe(self, *_: object) -> None: ...

    scorer = Scorer(Models(), lambda priority, found: put.append((priority, found)), Clock(), Log(Clock()))
    scorer.second_opinion = asker
    stop = threading.Event()
    thread = threading.Thread(target=asker.run, args=(stop,), daemon=True)
    thread.start()
    rows = sample_rows(60, seed=5)
    for row in rows:
        scorer.take(Reading("press", {name: row[name] for name in ("a", "b", "colour")}))
    end = time.monotonic() + 30
    while len(put) < len(rows) and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    thread.join(10)
    asked.close()
    outs = [found["out"] for _, found in put]
    told = [out for out in outs if "answered_by" in out]
    own = [out for out in outs if "answered_by" not in out]
    assert len(outs) == 60
    assert told
    assert own
    assert {out["answered_by"] for out in told} == {"app.search/large@1"}
    assert all(max(out["probability(label=bad)"], out["probability(label=good)"]) >= 0.9 for out in own)
    assert all(
        max(out["device.probability(label=bad)"], out["device.probability(label=good)"]) < 0.9 for out in told
    )
    assert all(isinstance(out["probability(label=bad)"], float) for out in told)
    assert asker.counts["answered"] == len(told)


def test_silence_and_refusals_are_told_apart(service: RunningService) -> None:
    away = PredictService("127.0.0.1:9")
    with pytest.raises(Unavailable):
        away.ask("app:large", {"a": 1}, probabilities=False, timeout_s=1.0)
    here = PredictService(service.grpc, token_file="/nowhere/token")
    with pytest.raises(KeplerError, match="ask_token_file"):
        here.ask("app:large", {"a": 1}, probabilities=False, timeout_s=1.0)
    known = PredictService(service.grpc)
    with pytest.raises(KeplerError) as caught:
        known.ask("app:no-such-model", {"a": 1}, probabilities=False, timeout_s=10.0)
    assert not isinstance(caught.value, Unavailable)
    for each in (away, here, known):
        each.close()
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        PredictService("nowhere")
