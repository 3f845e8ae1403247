"""What an answer of the collector means, and where we send a token at all."""

from __future__ import annotations

import json

import pytest

from kepler.adapters.hec.collector import Address, Verdict, judge
from kepler.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("status", "body", "verdict", "reason"),
    [
        (200, {"text": "Success", "code": 0}, Verdict.TAKEN, ""),
        (200, {"text": "Success", "code": 0, "ackId": 7}, Verdict.TAKEN, ""),
        (403, {"code": 1}, Verdict.BLOCKED, "settings"),
        (401, {"code": 2}, Verdict.BLOCKED, "settings"),
        (401, {"code": 3}, Verdict.BLOCKED, "settings"),
        (403, {"code": 4}, Verdict.BLOCKED, "settings"),
        (400, {"code": 5}, Verdict.REFUSED, "data"),
        (400, {"code": 6}, Verdict.REFUSED, "data"),
        (400, {"code": 7}, Verdict.REFUSED, "index"),
        (500, {"code": 8}, Verdict.RETRY, "error"),
        (503, {"code": 9}, Verdict.RETRY, "busy"),
        (400, {"code": 10}, Verdict.BLOCKED, "settings"),
        (400, {"code": 11}, Verdict.BLOCKED, "settings"),
        (400, {"code": 12}, Verdict.REFUSED, "data"),
        (400, {"code": 13}, Verdict.REFUSED, "data"),
        (400, {"code": 14}, Verdict.BLOCKED, "settings"),
        (400, {"code": 15}, Verdict.REFUSED, "data"),
        (503, {"code": 18}, Verdict.RETRY, "busy"),
        (503, {"code": 20}, Verdict.RETRY, "busy"),
        (413, {"code": 27}, Verdict.REFUSED, "too-large"),
        # Something between us and Splunk, or a newer Splunk.
        (413, "<html>", Verdict.REFUSED, "too-large"),
        (502, "<html>", Verdict.RETRY, "error"),
        (503, "", Verdict.RETRY, "busy"),
        (429, "", Verdict.RETRY, "busy"),
        (408, "", Verdict.RETRY, "error"),
        (404, "", Verdict.BLOCKED, "settings"),
        (407, "", Verdict.BLOCKED, "settings"),
        (400, {"code": 99}, Verdict.RETRY, "error"),
        (400, {"code": "6"}, Verdict.RETRY, "error"),
        (400, {"code": True}, Verdict.RETRY, "error"),
        (302, "", Verdict.RETRY, "error"),
        (500, [1], Verdict.RETRY, "error"),
    ],
)
def test_verdicts(status: int, body: object, verdict: Verdict, reason: str) -> None:
    reply = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    answer, _ = judge(status, reply, None)
    assert (answer.verdict, answer.reason) == (verdict, reason)


def test_details_are_taken_over() -> None:
    assert judge(200, b'{"code":0,"ackId":3}', None)[0].ack_id == 3
    assert judge(400, b'{"code":6,"invalid-event-number":4}', None)[0].bad_event == 4
    assert judge(400, b'{"code":6,"invalid-event-number":-4}', None)[0].bad_event is None
    assert judge(503, b"", "7")[0].retry_after_s == 7
    assert judge(503, b"", "1e9")[0].retry_after_s == 3600
    assert judge(503, b"", "Wed, 21 Oct 2026 07:28:00 GMT")[0].retry_after_s == 0
    assert judge(503, b"", "-5")[0].retry_after_s == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "splunk:8088",
        "ftp://splunk",
        "https://",
        "http://splunk.example.com:8088",
        "https://user:x@splunk",
        "https://s?x=1",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        Address(url)


@pytest.mark.parametrize(
    "url", ["https://splunk.example.com:8088", "http://127.0.0.1:8088", "http://localhost", "https://s/x/"]
)
def test_addresses_that_are_taken(url: str) -> None:
    Address(url)
