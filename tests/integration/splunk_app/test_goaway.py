"""A service that sends its connections away, by their age or because it stops, ends no search."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import fakes.service_double
from integration.splunk_app.talk import Double, cells, getinfo, records
from kepler.client.constants import SERVER_OPTIONS
from kepler.v1 import jobs_pb2, models_pb2
from kepler_app import jobs
from kepler_app.client import Client
from kepler_app.commands.predict import KeplerPredict
from kepler_app.commands.train import KeplerTrain
from kepler_app.session import ServiceCommand

AGE_S = 0.3


@pytest.fixture
def predict(service: Double) -> Iterator[KeplerPredict]:
    service.signature, service.fields = "s", ["a"]
    command = KeplerPredict()
    command.getinfo(getinfo("app:m"))
    yield command
    command.close()


@pytest.fixture
def aging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """A service that sends each connection away after `AGE_S`, and waits a minute for its streams."""
    table = {**dict(SERVER_OPTIONS), "grpc.max_connection_age_ms": int(AGE_S * 1000)}
    table["grpc.max_connection_age_grace_ms"] = 60_000
    monkeypatch.setattr(fakes.service_double, "SERVER_OPTIONS", tuple(table.items()))
    with Double() as double:
        monkeypatch.setenv("KEPLER_ADDRESS", double.address)
        yield double


def wait_until_sent_away(command: ServiceCommand) -> None:
    deadline = time.monotonic() + 8
    while command.client.channel._connected:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def body_of(reply: Any) -> bytes:
    return b"".join(reply.body)


def test_a_stopping_service_ends_its_predictions_first(service: Double, predict: KeplerPredict) -> None:
    predict.execute(b"a\n1\n", False)
    stopped = service._server.stop(30)
    wait_until_sent_away(predict)
    reply = predict.execute(b"a\n" + b"".join(b"%d\n" % number for number in range(50_000)), True)
    assert records(body_of(reply))[-1] == {"a": "49999", "p": "49999!"}
    predict.close()
    assert stopped.wait(10), "the stream ended in good order, so the service need not wait for it"
    assert len(service.seen) == 1


def test_a_stopping_service_takes_the_whole_upload(service: Double) -> None:
    command = KeplerTrain()
    command.getinfo(getinfo("KMeans", "a", "wait=f"))
    command.execute(b"a\n1\n", False)
    stopped = service._server.stop(30)
    wait_until_sent_away(command)
    command.execute(b"a\n2\n", False)
    [row] = records(body_of(command.execute(b"a\n3\n", True)))
    command.close()
    assert row["job_id"] == "job-1"
    assert service.rows == [["1"], ["2"], ["3"]]
    assert stopped.wait(10)


def test_an_aged_connection_serves_its_streams_to_their_end(aging: Double) -> None:
    aging.signature, aging.fields = "s", ["a"]
    command = KeplerPredict()
    command.getinfo(getinfo("app:m"))
    command.execute(b"a\n1\n", False)
    wait_until_sent_away(command)
    assert cells(body_of(command.execute(b"a\n2\n", True)))[1] == ["2", "2!"]
    command.close()


def test_calls_after_it_take_a_new_connection(aging: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = slow_job(aging)
    monkeypatch.setattr(jobs, "_RETRY_S", 0.01)
    command = KeplerTrain()
    command.getinfo(getinfo("LogisticRegression", "y", "from", "a", "into", "app:m"))
    command.execute(b"a,y\n1,2\n", False)
    wait_until_sent_away(command)
    upload = command.client.channel.protocols[0]
    reply = command.execute(b"a,y\n3,4\n", True)
    assert [row["predicted(y)"] for row in records(body_of(reply))] == ["1!", "3!"]
    assert watched == [1], "the stream that watched the job lived through its connection's age too"
    assert upload not in command.client.channel.protocols, "a connection without streams is closed"
    command.close()
    assert command.client is not None
    command.close()


def slow_job(service: Double) -> list[int]:
    """Let the job take twice the age of a connection; gives a list that grows with each watcher."""
    watched: list[int] = []
    whole = super(Double, service).WatchJob

    def slow(request: Any, context: Any) -> Any:
        watched.append(1)
        for _ in range(8):
            yield jobs_pb2.Job(id=request.id, state=jobs_pb2.Job.RUNNING)
            time.sleep(AGE_S / 4)
        yield from whole(request, context)

    service.instead["WatchJob"] = slow
    return watched


def test_what_the_service_never_saw_is_sent_again(service: Double) -> None:
    """A proxy may send a connection away with calls on it that it will not look at."""
    from hyperframe.frame import GoAwayFrame

    command = KeplerPredict()
    command.getinfo(getinfo("app:m"))
    service.versions["app.search/m"] = [models_pb2.ModelVersion(name="app.search/m", version=1)]
    client = command.client
    request, reply_type = models_pb2.GetModelRequest(model="app:m"), models_pb2.ModelVersion
    client.connect()
    first = client.channel.protocols[0]
    register = first.processor.register

    def sent_away(stream: Any) -> Any:
        """The frame arrives just when the first call went out."""
        release = register(stream)
        frame = GoAwayFrame(last_stream_id=0)
        client._loop.call_soon(first.data_received, frame.serialize())
        return release

    first.processor.register = sent_away
    assert client.call("ModelService/GetModel", request, reply_type).version == 1
    assert first not in client.channel.protocols
    command.close()


def test_other_farewells_end_the_calls(service: Double) -> None:
    """GOAWAY with an error is no drain: the peer will not answer any more."""
    from h2.errors import ErrorCodes
    from hyperframe.frame import GoAwayFrame

    from kepler_app.errors import SearchError
    from kepler_app.settings import Settings

    service.misbehave = "hang"
    client = Client(Settings(service.address))
    client.connect()
    frame = GoAwayFrame(last_stream_id=0, error_code=ErrorCodes.ENHANCE_YOUR_CALM)
    protocol = client.channel.protocols[0]
    from kepler.v1 import prediction_pb2
    from kepler_app.rows import Appender, Slice
    from kepler_app.streams import Chunk, PredictStream

    stream = PredictStream(client)
    stream.open(prediction_pb2.PredictOpen(model="m"))
    client._loop.call_later(0.2, protocol.data_received, frame.serialize())
    with pytest.raises(SearchError, match="broke the connection off"):
        stream.score(Chunk([Slice(b"1\n", [b"1"])], Appender(["a"], ["p"])))
    client.close()
