"""Searches outlast the ten minutes of their user's token: it is asked for again, from the app's broker."""

from __future__ import annotations

import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest

from fakes.splunkd import Splunkd
from integration.splunk_app.search_head import configure, grant, plan, store_secret
from integration.splunk_app.talk import Double, error_of, records, talk
from kepler.v1 import jobs_pb2
from kepler_app import bearer, client, jobs
from kepler_app.commands.jobs import KeplerJobs
from kepler_app.commands.models import KeplerModels
from kepler_app.commands.predict import KeplerPredict
from kepler_app.commands.train import KeplerTrain
from kepler_app.errors import SearchError


class Clock(types.SimpleNamespace):
    """Clocks of the token's holder, ahead by as many seconds as a test says."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s

    def time(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(bearer, "time", found)
    return found


@pytest.fixture
def expiring(secure: Double) -> Iterator[Double]:
    """A service on which each token of a user ends with the next."""
    secure.newest_only = True
    return secure


def body_of(reply: Any) -> bytes:
    return b"".join(reply.body)


def end_token(service: Double) -> None:
    """As after ten minutes: what was issued is no longer taken."""
    service.issued.append(None)


def test_a_token_is_renewed_before_it_ends(splunkd: Splunkd, expiring: Double, clock: Clock) -> None:
    command = KeplerModels()
    command.getinfo(plan(splunkd, "ana"))
    command.execute(b"", True)
    clock.ahead_s = 535
    command.execute(b"", True)
    assert len(expiring.issued) == 1, "there is more than a minute left"
    clock.ahead_s = 545
    command.execute(b"", True)
    command.execute(b"", True)
    assert len(expiring.issued) == 2
    assert expiring.refused == [], "no call was made with a token that had ended"
    command.close()


def test_a_long_training_gives_its_rows_back(splunkd: Splunkd, expiring: Double, clock: Clock) -> None:
    """Token, upload, and then everything else with one token each."""
    whole = super(Double, expiring).WatchJob

    def watch(request: Any, context: Any) -> Any:
        yield from whole(request, context)
        clock.ahead_s += 600
        end_token(expiring)

    expiring.instead["WatchJob"] = watch
    command = KeplerTrain()
    command.getinfo(plan(splunkd, "ana", "LogisticRegression", "y", "from", "a", "into", "app:m"))
    command.execute(b"a,y\n1,2\n", False)
    clock.ahead_s = 3000
    end_token(expiring)
    reply = command.execute(b"a,y\n3,4\n", True)
    assert [row["predicted(y)"] for row in records(body_of(reply))] == ["1!", "3!"]
    assert expiring.refused == []
    command.close()


@pytest.mark.parametrize("lost", ["WatchJob", "ReadPredictions"])
def test_a_token_that_ends_unforeseen_is_renewed_once(
    splunkd: Splunkd, expiring: Double, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """The search head's clock is behind, or the service has forgotten the token."""
    begin = expiring._begin
    ended: list[str] = []

    def end_at(method: str, context: Any) -> None:
        if method == lost and not ended:
            ended.append(method)
            end_token(expiring)
        begin(method, context)

    monkeypatch.setattr(expiring, "_begin", end_at)
    code, answers = talk(
        KeplerTrain(),
        plan(splunkd, "ana", "LogisticRegression", "y", "from", "a", "into", "app:m"),
        b"a,y\n1,2\n",
    )
    assert code == 0, answers[-1][0]
    assert expiring.refused == [lost]


def test_waiting_for_a_job_outlives_tokens(
    splunkd: Splunkd, expiring: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_RETRY_S", 0.01)
    expiring.jobs["j"] = jobs_pb2.Job(id="j", state=jobs_pb2.Job.SUCCEEDED)
    calls: list[int] = []
    whole = super(Double, expiring).WatchJob

    def cut_off(request: Any, context: Any) -> Any:
        expiring._begin("WatchJob", context)
        calls.append(1)
        if len(calls) < 3:
            yield jobs_pb2.Job(id="j", state=jobs_pb2.Job.RUNNING)
            end_token(expiring)
            return
        yield from whole(request, context)

    expiring.instead["WatchJob"] = cut_off
    code, answers = talk(KeplerJobs(), plan(splunkd, "ana", "wait", "j"), b"")
    assert code == 0, answers[-1][0]
    assert records(answers[-1][1])[0]["state"] == "succeeded"
    assert len(calls) == 3
    assert expiring.refused == ["WatchJob", "WatchJob"]


def test_a_prediction_opened_again_has_a_new_token(splunkd: Splunkd, expiring: Double) -> None:
    expiring.signature, expiring.fields = "s", ["a"]
    command = KeplerPredict()
    command.getinfo(plan(splunkd, "ana", "app:m"))
    command.execute(b"a\n1\n", False)
    end_token(expiring)
    reply = command.execute(b"a,b\n2,3\n", True)
    assert records(body_of(reply)) == [{"a": "2", "b": "3", "p": "2!"}]
    command.close()


def test_a_token_that_is_never_taken_is_said(splunkd: Splunkd, expiring: Double) -> None:
    expiring.newest_only = False
    sentence = error_of(KeplerModels(), plan(splunkd, "ana"), b"")
    assert "token is not known" in sentence
    assert len(expiring.issued) == 2, "one more token was tried, and no third"


def test_when_no_new_token_is_given(splunkd: Splunkd, expiring: Double, clock: Clock) -> None:
    command = KeplerModels()
    command.getinfo(plan(splunkd, "ana"))
    command.execute(b"", True)
    grant(splunkd, "ana")
    clock.ahead_s = 560
    command.execute(b"", True)
    clock.ahead_s = 610
    with pytest.raises(SearchError, match="none of the capabilities"):
        command.execute(b"", True)
    grant(splunkd, "ana", "kepler_predict")
    configure(splunkd, address="elsewhere:1")
    store_secret(splunkd, '{"token": "another"}')
    with pytest.raises(SearchError):
        command.execute(b"", True)
    command.close()


def test_ending_takes_no_longer_than_it_may(service: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is stuck fails no search whose rows are out."""
    monkeypatch.setattr(client, "_CLOSE_TIMEOUT_S", 0.05)
    release = threading.Event()
    made = client.Client(client.Settings(service.address))
    made._loop.call_soon_threadsafe(release.wait, 20)
    made.close()
    release.set()
    made._loop.call_soon_threadsafe(made._loop.call_later, 0.3, made._loop.stop)  # the farewell comes first
    made._thread.join(10)
    made._loop.close()
