"""Streams that end before the search does: idle ones are opened again, broken ones are said at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from integration.splunk_app.talk import Double, error_of, getinfo, records, talk
from kepler.core.errors import Overloaded, TimedOut
from kepler.v1 import prediction_pb2, training_pb2
from kepler_app import streams
from kepler_app.client import Client
from kepler_app.commands.predict import KeplerPredict
from kepler_app.errors import SearchError
from kepler_app.settings import Settings

PLAN = getinfo("app:m")
SILENT = "The client sent nothing for too long"


class Impatient:
    """Predicts, and ends a stream as an idle one after so many slices; the last number holds for all further.

    Answer and end come together, so that a client that hears the end first loses the answer.
    """

    def __init__(self, service: Double, *slices: int) -> None:
        self.service = service
        self.slices = list(slices)
        self.opens: list[Any] = []
        self.outputs = ["p"]

    def __call__(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        open_ = next(requests).open
        self.opens.append(open_)
        most = self.slices.pop(0) if len(self.slices) > 1 else self.slices[0]
        opened = prediction_pb2.PredictOpened(
            model="app.search/m@1", signature="s1", output_columns=self.outputs
        )
        opened.notices.add(text=f"Stream {len(self.opens)}.")
        yield prediction_pb2.PredictResponse(opened=opened)
        for number in range(most):
            request = next(requests, None)
            if request is None:
                return
            rows = request.rows.splitlines()
            values = b"".join(row.split(b",")[0] + b"!\n" for row in rows)
            scored = prediction_pb2.Scored(rows=len(rows), values=values, one_line_per_row=True)
            scored.notices.add(text=f"Slice {number}.")
            yield prediction_pb2.PredictResponse(scored=scored)
        self.service._abort(TimedOut(SILENT, fix="Run the search again."), context)


def table(rows: int) -> bytes:
    """Some 6 slices of 1.5 MB per 100,000 rows."""
    return b"a,b\n" + b"".join(b'%d,"%s"\n' % (number, b"x" * 80) for number in range(rows))


def test_a_stream_that_ended_between_chunks_is_opened_again(service: Double) -> None:
    service.instead["Predict"] = impatient = Impatient(service, 1)
    bodies = [b"a,b\n1,2\n", b"a,b\n3,4\n", b"a,b\n5,6\n"]
    code, answers = talk(KeplerPredict(), PLAN, *bodies)
    assert code == 0, answers[-1]
    assert [records(body)[0]["p"] for _, body in answers[1:]] == ["1!", "3!", "5!"]
    assert [(open_.model, open_.signature) for open_ in impatient.opens] == [
        ("app:m", ""),
        ("app.search/m@1", "s1"),
        ("app.search/m@1", "s1"),
    ]


def test_only_unanswered_slices_go_again(service: Double) -> None:
    service.instead["Predict"] = impatient = Impatient(service, 2, 1, 1000)
    rows = 100_000
    code, answers = talk(KeplerPredict(), PLAN, table(rows))
    assert code == 0, answers[-1][0]
    assert [row["p"] for row in records(answers[-1][1])] == [f"{number}!" for number in range(rows)]
    assert len(impatient.opens) == 3
    notices = {
        text for metadata, _ in answers for _, text in metadata.get("inspector", {}).get("messages", [])
    }
    assert {"Stream 1.", "Stream 2.", "Stream 3.", "Slice 0.", "Slice 1."} <= notices


def test_a_service_that_ends_every_stream_is_said(service: Double) -> None:
    service.instead["Predict"] = impatient = Impatient(service, 0)
    assert error_of(KeplerPredict(), PLAN, b"a,b\n1,2\n") == f"{SILENT}. Run the search again."
    assert len(impatient.opens) == 3


@pytest.mark.parametrize("last", [b"a,b\n", b"", b"b,a\n3,4\n"])
def test_an_idle_stream_without_open_questions_fails_nothing(service: Double, last: bytes) -> None:
    service.instead["Predict"] = Impatient(service, 1)
    code, answers = talk(KeplerPredict(), PLAN, b"a,b\n1,2\n", last)
    assert code == 0, answers[-1][0]


def test_a_version_that_answers_otherwise_is_refused(service: Double) -> None:
    plain = Impatient(service, 1)

    def renamed(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        if plain.opens:
            plain.outputs = ["other"]
        yield from plain(requests, context)

    service.instead["Predict"] = renamed
    sentence = error_of(KeplerPredict(), PLAN, b"a,b\n1,2\n", b"a,b\n3,4\n")
    assert sentence == "The model 'app.search/m@1' changed while the search ran. Run the search again."


def test_a_service_that_hangs_is_not_asked_again(service: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    service.misbehave = "hang"
    monkeypatch.setattr(streams, "CHUNK_TIMEOUT_S", 0.3)
    assert "did not answer in time" in error_of(KeplerPredict(), PLAN, b"a\n1\n")
    assert len(service.seen) == 1


def test_a_full_queue_behind_a_failed_upload_is_said(
    service: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of many slices is queued when the service gives up, and then the search ends."""
    full = threading.Event()

    def give_up(requests: Any, context: Any) -> Any:
        next(requests)
        yield training_pb2.TrainResponse(accepted=training_pb2.TrainAccepted(algorithm="KMeans"))
        assert full.wait(20)
        service._abort(Overloaded("The service's disk is full", fix="Free space"), context)

    service.instead["Train"] = give_up
    client = Client(Settings(service.address))
    upload = streams.TrainUpload(client)
    upload.open(training_pb2.TrainOpen(algorithm="KMeans"))
    assert upload._queue is not None
    assert upload._sender is not None
    monkeypatch.setattr(streams, "CHUNK_TIMEOUT_S", 5.0)
    while not upload._queue.full():
        upload.send(b"x" * 3_000_000)
    full.set()
    while not upload._sender.done():
        threading.Event().wait(0.01)
    with pytest.raises(SearchError, match="disk is full"):
        upload.finish()
    client.close()
