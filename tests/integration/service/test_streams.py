"""Many prediction streams at once over mutual TLS: every answer is right and memory stays bounded.

How fast they are is measured by benchmarks/load/streams.py, beside a bare gRPC server.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from kepler.core.errors import Overloaded
from kepler.v1 import prediction_pb2, prediction_pb2_grpc
from support.running_service import running
from support.service_client import MIB, connect, forget_peak, predict_one, rss_bytes, trained


def load(root: Path, **order: Any) -> dict[str, Any]:
    """Run the benchmark's load client in a process of its own; gives what it saw."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.harness.stream_load"],
        input=json.dumps(order), capture_output=True, text=True, cwd=root, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("streams", "messages", "connections"),
    [
        pytest.param(150, 4, 5, id="reduced"),
        pytest.param(1000, 10, 10, id="full", marks=pytest.mark.full),
    ],
)
def test_many_streams_at_once_are_all_answered_right(
    mutual: Any, root: Path, streams: int, messages: int, connections: int
) -> None:
    with mutual.connect("train", "predict") as client:
        full_name = trained(client, "app:streams")
        predict_one(client, "app:streams", 1, 2)
    pid = mutual.running.pid
    forget_peak(pid)
    before = rss_bytes(pid)
    tls = mutual.tls
    seen = load(
        root, address=mutual.running.grpc, model="app:streams", streams=streams, messages=messages,
        connections=connections, ca=str(tls.ca), cert=str(tls.client_cert), key=str(tls.client_key),
        token=mutual.mint("predict"),
    )  # fmt: skip
    assert seen["errors"] == []
    assert (seen["answers"], seen["wrong"]) == (streams * messages, 0)
    assert seen["models"] == [full_name]
    assert rss_bytes(pid, "VmHWM") - before <= 150 * MIB


def test_the_load_client_notices_wrong_answers_and_lost_streams(mutual: Any, root: Path) -> None:
    """What the test above stands on."""
    sys.path.insert(0, str(root))
    try:
        from benchmarks.harness.stream_load import Order, right
    finally:
        sys.path.remove(str(root))
    order = Order("", rows=2)
    assert right(order, 1, 0, b"21\n18.0\n")
    assert not right(order, 1, 0, b"21\n18.1\n")
    assert not right(order, 1, 0, b"21\n")
    assert not right(order, 1, 0, b"21\nx\n")
    assert asdict(order)["model"] == ""
    tls = mutual.tls
    seen = load(
        root, address=mutual.running.grpc, model="app:nothing", streams=3, messages=2, connections=1,
        ca=str(tls.ca), cert=str(tls.client_cert), key=str(tls.client_key), token=mutual.mint("predict"),
    )  # fmt: skip
    assert len(seen["errors"]) == 3
    assert "NOT_FOUND" in seen["errors"][0]
    assert seen["answers"] == 0


def test_streams_beyond_the_bound_are_refused_to_retry_and_places_come_free(tmp_path: Path) -> None:
    with running(tmp_path, env={"KEPLER_PREDICT__MAX_STREAMS": "2"}) as service, connect(service) as client:
        trained(client, "app:few")
        opening = prediction_pb2.PredictRequest(
            open=prediction_pb2.PredictOpen(
                caller={"user": "ana", "app": "search"}, model="app:few", columns=["a", "b"]
            )
        )
        with grpc.insecure_channel(service.grpc) as channel:
            stub = prediction_pb2_grpc.PredictionServiceStub(channel)
            open_streams = []
            for _ in range(2):
                call = stub.Predict(_first_then_wait(opening))
                assert next(call).opened.model == "app.search/few@1"
                open_streams.append(call)
            with pytest.raises(Overloaded, match="2 prediction streams") as refused:
                predict_one(client, "app:few", 1, 2)
            assert refused.value.retry_after_s > 0
            open_streams[0].cancel()
            for _ in range(100):
                if "kepler_predict_streams 1.0" in httpx.get(f"http://{service.http}/metrics").text:
                    break
            assert float(predict_one(client, "app:few", 1, 2)[1].values) == pytest.approx(-3)
            open_streams[1].cancel()


def _first_then_wait(first: prediction_pb2.PredictRequest) -> Any:
    import threading

    forever = threading.Event()

    def requests() -> Any:
        yield first
        forever.wait(20)

    return requests()
