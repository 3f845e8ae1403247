"""keplertrain against a service over real gRPC."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from integration.splunk_app.talk import LAST, Double, cells, error_of, getinfo, records, said, talk
from kepler.core.errors import InternalError, Overloaded
from kepler.v1 import jobs_pb2, training_pb2
from kepler_app import jobs
from kepler_app.commands.train import KeplerTrain

PLAN = getinfo("LogisticRegression", "y", "from", "a", "into", "app:m", "C=0.5")


def test_rows_come_back_with_predictions(service: Double) -> None:
    code, answers = talk(KeplerTrain(), PLAN, b"a,y\n1,2\n", b'a,y\n3,"x\ny"\n', b"a,y\n")
    assert code == 0
    assert [metadata["finished"] for metadata, _ in answers[1:]] == [False, False, True]
    assert answers[0][0] == {"type": "events"}
    assert [body for _, body in answers[:3]] == [b"", b"", b""]
    assert cells(answers[3][1]) == [["a", "y", "predicted(y)"], ["1", "2", "1!"], ["3", "x\ny", "3!"]]
    assert ["WARN", "2 rows were dropped."] in said(answers)
    open_ = service.seen[0]
    assert (open_.algorithm, open_.target, open_.features, open_.into) == (
        "LogisticRegression",
        "y",
        ["a"],
        "app:m",
    )
    assert dict(open_.params) == {"C": "0.5"}
    assert open_.caller.search == "| inputlookup x"
    assert (open_.caller.user, open_.caller.app, open_.caller.sid) == ("ana", "search", "1.7")
    assert (open_.caller.earliest, open_.caller.latest) == (0, 1700000000)
    assert len(open_.request_id) == len(open_.caller.trace_id) == 32
    assert service.rows == [["1", "2"], ["3", "x\ny"]]


def test_many_slices_arrive_in_order(service: Double) -> None:
    rows = 120_000
    body = b"a,y\n" + b"".join(b'%d,"%s"\n' % (number, b"x" * 40) for number in range(rows))
    code, answers = talk(KeplerTrain(), PLAN, body, b"a,y\n7,8\n")
    assert code == 0
    assert [row[0] for row in service.rows] == [*map(str, range(rows)), "7"]
    assert [row["predicted(y)"] for row in records(answers[-1][1])] == [*(f"{n}!" for n in range(rows)), "7!"]


def test_summary_is_one_row(service: Double) -> None:
    plan = getinfo("LogisticRegression", "y", "from", "a", "into", "app:m", "output=summary", "seed=7")
    _, answers = talk(KeplerTrain(), plan, b"a,y\n1,2\n")
    [row] = records(answers[-1][1])
    assert (row["model"], row["rows"], row["accuracy"]) == ("app.search/m@1", "1", "0.97")
    assert service.seen[0].options.output == "summary"
    assert (service.seen[0].options.seed, service.seen[0].options.has_seed) == (7, True)


def test_not_waiting_gives_the_job(service: Double) -> None:
    _, answers = talk(KeplerTrain(), getinfo("KMeans", "a", "wait=f"), b"a\n1\n")
    [row] = records(answers[-1][1])
    assert (row["job_id"], row["state"]) == ("job-1", "queued")
    assert "keplerjobs status job-1" in row["message"]


def test_after_the_timeout_the_job_goes_on(service: Double) -> None:
    started = threading.Event()

    def slow(request: Any, context: Any) -> Any:
        yield jobs_pb2.Job(id=request.id, state=jobs_pb2.Job.RUNNING)
        started.set()
        while context.is_active():
            time.sleep(0.05)

    service.instead["WatchJob"] = slow
    _, answers = talk(KeplerTrain(), getinfo("KMeans", "a", "timeout=1"), b"a\n1\n")
    assert started.is_set()
    [row] = records(answers[-1][1])
    assert (row["job_id"], row["state"]) == ("job-1", "running")
    assert any(level == "WARN" and "timeout=1" in text for level, text in said(answers))


def test_waiting_outlives_a_lost_connection(service: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    whole = super(Double, service).WatchJob

    def flaky(request: Any, context: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            context.abort(*abort_unavailable())
        if len(calls) == 2:
            return
        yield from whole(request, context)

    service.instead["WatchJob"] = flaky
    monkeypatch.setattr(jobs, "_RETRY_S", 0.01)
    code, answers = talk(KeplerTrain(), PLAN, b"a,y\n1,2\n")
    assert (code, len(calls)) == (0, 3)
    assert cells(answers[-1][1])[1] == ["1", "2", "1!"]


def abort_unavailable() -> tuple[Any, str]:
    import grpc

    return grpc.StatusCode.UNAVAILABLE, "restarting"


def test_a_service_that_stays_away_is_said_with_the_job(
    service: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.instead["WatchJob"] = lambda _request, context: context.abort(*abort_unavailable())
    monkeypatch.setattr(jobs, "_RETRY_S", 0.01)
    monkeypatch.setattr(jobs, "PATIENCE_S", 0.1)
    assert "training job job-1 is on the service's disk" in error_of(KeplerTrain(), PLAN, b"a,y\n1,2\n")


def test_a_job_that_fails_is_the_searchs_error(service: Double) -> None:
    service.job_error = InternalError("The worker died", cause="It ran out of memory", fix="Use fewer rows")
    sentence = error_of(KeplerTrain(), PLAN, b"a,y\n1,2\n")
    assert sentence == "The worker died. It ran out of memory. Use fewer rows."


def test_unknown_algorithms_are_refused_before_rows_go_up(service: Double) -> None:
    plan = getinfo("LogisticRegresion", "y", "from", "a")
    sentence = error_of(KeplerTrain(), plan, b"a,y\n1,2\n", b"a,y\n3,4\n")
    assert "There is no algorithm 'LogisticRegresion'" in sentence
    assert "LogisticRegression" in sentence


def test_errors_during_the_upload_keep_their_words(service: Double) -> None:
    def full(requests: Any, context: Any) -> Any:
        next(requests)
        yield training_pb2.TrainResponse(accepted=training_pb2.TrainAccepted(algorithm="KMeans"))
        next(requests)
        service._abort(Overloaded("The service's disk is full", fix="Free space"), context)

    service.instead["Train"] = full
    body = b"a,y\n" + b"1,%s\n" % (b"2" * 1000) * 6_000
    sentence = error_of(KeplerTrain(), PLAN, body, body, body)
    assert sentence == "The service's disk is full. Free space."


def test_dry_run_trains_nothing(service: Double) -> None:
    code, answers = talk(KeplerTrain(), getinfo("KMeans", "a", "dry_run=t"), b"a\n1\n", b"a\n2\n")
    assert code == 0
    [row] = records(answers[-1][1])
    assert row["algorithm"] == "KMeans"
    assert row["used_fields"] == "a"
    assert service.jobs == {}


def test_previews_do_nothing(service: Double) -> None:
    code, answers = talk(KeplerTrain(), getinfo("KMeans", "a", preview=True), b"a\n1\n", b"a\n2\n")
    assert code == 0
    assert [body for _, body in answers] == [b"", b"", b""]
    assert service.seen == []


def test_refusals_that_need_no_service() -> None:
    assert "real-time" in error_of(KeplerTrain(), getinfo("KMeans", "a", sid="rt_1"))
    assert "No algorithm" in error_of(KeplerTrain(), getinfo())
    for body in (b"", b"a,y\n"):
        assert "No rows" in error_of(KeplerTrain(), PLAN, body)


def test_a_changed_header_is_brought_in_line(service: Double) -> None:
    plan = getinfo("KMeans", "a", "b")
    code, answers = talk(KeplerTrain(), plan, b"a,b\n1,2\n", b"c,b,a\n9,4,3\n", b"b\n6\n")
    assert code == 0
    assert service.rows == [["1", "2"], ["3", "4"], ["", "6"]]
    expected = [
        ["a", "b", "c", "predicted(y)"],
        ["1", "2", "", "1!"],
        ["3", "4", "9", "3!"],
        ["", "6", "", "!"],
    ]
    assert cells(answers[-1][1]) == expected
    assert [text for level, text in said(answers) if "fields are missing in the first rows" in text] == []


def test_late_fields_are_said_or_refused(service: Double) -> None:
    plan = getinfo("LogisticRegression", "y", "from", "*")
    _, answers = talk(KeplerTrain(), plan, b"a,y\n1,2\n", b"a,y,late,__mv_late\n3,4,5,\n")
    assert any("late" in text and "left out" in text for level, text in said(answers) if level == "WARN")
    named = getinfo("LogisticRegression", "y", "from", "a", "late")
    assert "'late' is missing in the first rows" in error_of(
        KeplerTrain(), named, b"a,y\n1,2\n", b"a,y,late\n3,4,5\n"
    )


def test_an_earlier_prediction_is_replaced(service: Double) -> None:
    _, answers = talk(KeplerTrain(), PLAN, b'a,"predicted(y)",y\n1,old,2\n')
    assert records(answers[-1][1]) == [{"a": "1", "y": "2", "predicted(y)": "1!"}]


def test_the_search_may_go_at_any_time(service: Double) -> None:
    import io

    from integration.splunk_app.talk import MORE, frame
    from kepler_app.chunks import serve

    output = io.BytesIO()
    assert serve(KeplerTrain(), io.BytesIO(frame(PLAN) + frame(MORE, b"a,y\n1,2\n")), output) == 0
    assert service.jobs == {}, "half of the rows are no training"


def test_the_spool_lies_in_the_dispatch_folder(service: Double, tmp_path: Path) -> None:
    plan = getinfo("KMeans", "a", dispatch_dir=str(tmp_path))
    code, _ = talk(KeplerTrain(), plan, b"a\n1\n")
    assert code == 0
    assert LAST["finished"] is True
