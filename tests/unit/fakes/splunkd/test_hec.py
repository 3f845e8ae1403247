"""The stand-in's event collector answers as documented (facts/observability_security.md 1.5)."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fakes.splunkd import Fault, FaultPlan, Splunkd
from fakes.splunkd.web import HangUp, Request

CHANNEL = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def splunkd() -> Iterator[Splunkd]:
    with Splunkd(listen=False, python=sys.executable) as started:
        started.events.create("kepler")
        started.events.create("points", metrics=True)
        yield started


def post(
    splunkd: Splunkd, body: bytes | str, path: str = "collector/event", **headers: str
) -> tuple[int, dict[str, Any]]:
    data = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = splunkd.hec.handle(Request("POST", path, None, None, [], [], data, named))
    return response.status, json.loads(response.body)


def auth(token: str) -> str:
    return f"Splunk {token}"


def test_events_are_stored_and_searched(splunkd: Splunkd) -> None:
    token = splunkd.hec.add_token(default_index="kepler")
    body = (
        '{"event":{"a":1},"time":1800000000.5,"host":"h","source":"s","sourcetype":"t","fields":{"f":"x"}}'
        '{"event":"plain b=2","index":"main"}\n {"event":{"a":3}}'
    )
    assert post(splunkd, body, authorization=auth(token)) == (200, {"text": "Success", "code": 0})
    row = splunkd.search("search index=kepler a=1").rows[0]
    assert (row["_time"], row["host"], row["source"], row["sourcetype"], row["f"]) == (
        "1800000000.500", "h", "s", "t", "x",
    )  # fmt: skip
    assert splunkd.search("search index=main b=2 | stats count").rows == [{"count": "1"}]


def test_gzip_and_metrics(splunkd: Splunkd) -> None:
    token = splunkd.hec.add_token()
    point = {
        "time": 1.0,
        "event": "metric",
        "index": "points",
        "fields": {"metric_name:a": 1, "metric_name:b": 2.5, "m": "x"},
    }
    single = {
        "time": 2.0,
        "event": "metric",
        "index": "points",
        "fields": {"metric_name": "a", "_value": 7, "m": "x"},
    }
    body = gzip.compress(f"{json.dumps(point)}{json.dumps(single)}".encode())
    assert post(splunkd, body, authorization=auth(token), content_encoding="gzip")[0] == 200
    assert splunkd.search("| mstats sum(a) as a sum(b) as b where index=points by m").rows == [
        {"m": "x", "a": "8", "b": "2.5"}
    ]
    status, answer = post(splunkd, b"\x1f\x8bnot", authorization=auth(token), content_encoding="gzip")
    assert (status, answer["code"]) == (400, 6)


@pytest.mark.parametrize(
    ("body", "status", "code", "number"),
    [
        ("", 400, 5, None),
        ("nonsense", 400, 6, 0),
        ('{"event":1}{"event":', 400, 6, 1),
        ('{"event":1}{"event":1,"index":"nosuch"}', 400, 7, 1),
        ('{"x":1}', 400, 12, 0),
        ('{"event":1}{"event":1}{"event":""}', 400, 13, 2),
        ('{"event":1,"fields":{"a":{"b":1}}}', 400, 15, 0),
        ('{"event":1,"fields":[1]}', 400, 15, 0),
        ('{"event":1,"time":"noon"}', 400, 6, 0),
    ],
)
def test_bad_bodies(splunkd: Splunkd, body: str, status: int, code: int, number: int | None) -> None:
    token = splunkd.hec.add_token()
    found = post(splunkd, body, authorization=auth(token))
    assert (found[0], found[1]["code"], found[1].get("invalid-event-number")) == (status, code, number)
    assert splunkd.hec.stored == (number or 0)


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [("", 401, 2), ("Splunk", 401, 3), ("Bearer x", 401, 3), ("Splunk wrong", 403, 4)],
)
def test_bad_tokens(splunkd: Splunkd, header: str, status: int, code: int) -> None:
    found = post(splunkd, '{"event":1}', **({"authorization": header} if header else {}))
    assert (found[0], found[1]["code"]) == (status, code)


def test_a_disabled_token_and_one_that_may_not_write_there(splunkd: Splunkd) -> None:
    token = splunkd.hec.add_token(default_index="main", indexes=("main",))
    assert post(splunkd, '{"event":1,"index":"kepler"}', authorization=auth(token))[1]["code"] == 7
    splunkd.hec.tokens[token].disabled = True
    found = post(splunkd, '{"event":1}', authorization=auth(token))
    assert (found[0], found[1]["code"]) == (403, 1)


def test_acknowledgements(splunkd: Splunkd) -> None:
    token = splunkd.hec.add_token(use_ack=True)
    plain = splunkd.hec.add_token()
    event = '{"event":1}'
    assert post(splunkd, event, authorization=auth(token))[1]["code"] == 10
    assert post(splunkd, event, authorization=auth(token), x_splunk_request_channel="me")[1]["code"] == 11
    given = {"authorization": auth(token), "x_splunk_request_channel": CHANNEL}
    assert [post(splunkd, event, **given)[1]["ackId"] for _ in range(2)] == [0, 1]
    ask = '{"acks":[0,1,5]}'
    assert post(splunkd, ask, "collector/ack", **given)[1] == {"acks": {"0": True, "1": True, "5": False}}
    # Read once, then gone.
    assert post(splunkd, ask, "collector/ack", **given)[1]["acks"]["0"] is False
    other = {**given, "x_splunk_request_channel": CHANNEL.replace("1", "2")}
    assert post(splunkd, ask, "collector/ack", **other)[1]["acks"]["1"] is False
    disabled = post(
        splunkd, ask, "collector/ack", authorization=auth(plain), x_splunk_request_channel=CHANNEL
    )
    assert (disabled[0], disabled[1]["code"]) == (400, 14)


def test_too_large_and_health(splunkd: Splunkd) -> None:
    token = splunkd.hec.add_token()
    splunkd.hec.max_content_bytes = 10
    assert post(splunkd, '{"event":"1234"}', authorization=auth(token))[0] == 413
    assert post(splunkd, "", "collector/health")[1]["code"] == 17


@pytest.mark.parametrize(
    ("fault", "stored", "acknowledged"),
    [
        (Fault.LOST, 0, False),
        (Fault.LOST_ACK, 1, False),
        (None, 1, True),
    ],
)
def test_faults_that_answer_200(
    splunkd: Splunkd, fault: Fault | None, stored: int, acknowledged: bool
) -> None:
    token = splunkd.hec.add_token(use_ack=True)
    splunkd.hec.faults = FaultPlan(choose=lambda _: fault)
    given = {"authorization": auth(token), "x_splunk_request_channel": CHANNEL}
    assert post(splunkd, '{"event":1}', **given)[0] == 200
    assert splunkd.hec.stored == stored
    assert post(splunkd, '{"acks":[0]}', "collector/ack", **given)[1]["acks"]["0"] is acknowledged


@pytest.mark.parametrize(
    ("fault", "stored"), [(Fault.DROP, 0), (Fault.STORED_DROP, 1), (Fault.HANG, 0), (Fault.STORED_HANG, 1)]
)
def test_faults_that_end_the_connection(splunkd: Splunkd, fault: Fault, stored: int) -> None:
    token = splunkd.hec.add_token()
    splunkd.hec.faults = FaultPlan(choose=lambda _: fault, hang_s=0.01)
    with pytest.raises(HangUp):
        post(splunkd, '{"event":1}', authorization=auth(token))
    assert splunkd.hec.stored == stored


def test_faults_that_refuse(splunkd: Splunkd) -> None:
    token = splunkd.hec.add_token()
    splunkd.hec.faults = FaultPlan(choose=lambda n: (Fault.BUSY, Fault.ERROR)[n - 1], retry_after_s=3)
    request = Request("POST", "collector", None, None, [], [], b'{"event":1}', {"authorization": auth(token)})
    busy, error = splunkd.hec.handle(request), splunkd.hec.handle(request)
    assert (busy.status, json.loads(busy.body)["code"], busy.headers) == (503, 9, [("Retry-After", "3")])
    assert (error.status, json.loads(error.body)["code"]) == (500, 8)
    assert splunkd.hec.stored == 0
