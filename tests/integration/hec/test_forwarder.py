"""The spool against the stand-in's collector: what goes in comes out, whatever happens on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.splunkd import Fault, FaultPlan, Splunkd
from kepler.core.errors import InvalidInput, NotFound, Overloaded
from kepler.ports.hec import Destination, EventKind, HecEvent, MetricPoint
from support.hec_events import QUICK, forwarder, numbered, splunk_with_hec, stored, wait_until


@pytest.fixture(params=[False, True], ids=["plain", "acknowledged"])
def target(request: pytest.FixtureRequest) -> Iterator[tuple[Splunkd, str]]:
    splunkd, token = splunk_with_hec(use_ack=request.param)
    yield splunkd, token
    splunkd.stop()


def test_everything_arrives_with_its_fields(target: tuple[Splunkd, str], tmp_path: Path) -> None:
    splunkd, token = target
    spool = forwarder(tmp_path, splunkd.hec.url, token)
    spool.start()
    spool.put(numbered(range(1000)))
    spool.put([HecEvent(EventKind.JOB, {"state": "done", "text": "ü\n€"}, 1_800_000_000.0, host="h1")])
    spool.put_metrics(
        [MetricPoint({"kepler.rows": 3, "kepler.bad": float("nan")}, 1_800_000_000.0, {"m": "x"})]
    )
    assert spool.flush(20)
    spool.stop()
    rows = stored(splunkd)
    assert sorted(int(row["n"]) for row in rows) == list(range(1000))
    assert rows[0]["event_id"] == "test:999"
    assert rows[0]["_time"] == "1800000999.000"
    job = splunkd.search("search index=kepler sourcetype=kepler:job").rows[0]
    assert (job["state"], job["text"], job["host"]) == ("done", "ü\n€", "h1")
    assert len(job["event_id"]) == 32
    points = splunkd.search("| mstats latest(kepler.rows) as rows where index=kepler_metrics by m").rows
    assert points == [{"m": "x", "rows": "3"}]


def test_faults_lose_nothing_and_the_macro_leaves_nothing_twice(
    target: tuple[Splunkd, str], tmp_path: Path
) -> None:
    splunkd, token = target
    rates = dict.fromkeys(Fault, 0.06)
    if not splunkd.hec.tokens[token].use_ack:
        # Without acknowledgements nobody can know that a 200 was not kept.
        del rates[Fault.LOST]
    splunkd.hec.faults = FaultPlan(rates, seed=5, hang_s=0.3, retry_after_s=0.01)
    spool = forwarder(tmp_path, splunkd.hec.url, token, timeout_s=0.2)
    spool.start()
    for start in range(0, 6000, 100):
        spool.put(numbered(range(start, start + 100), source=f"s{start % 3}"))
    assert spool.flush(60)
    state = spool.states()[0]
    spool.stop()
    assert (state.events, state.dead, state.dropped, state.problem) == (0, 0, 0, "")
    assert state.sent == 6000
    assert sum(splunkd.hec.faults.seen.values()) > 10
    assert sum(state.failures.values()) > 10
    assert len(stored(splunkd, after_macro=False)) > 6000
    rows = stored(splunkd)
    assert sorted(int(row["n"]) for row in rows) == list(range(6000))


def test_one_source_arrives_in_order(tmp_path: Path) -> None:
    splunkd, token = splunk_with_hec()
    splunkd.hec.faults = FaultPlan({Fault.BUSY: 0.2, Fault.DROP: 0.2}, seed=1)
    spool = forwarder(tmp_path, splunkd.hec.url, token)
    spool.start()
    for start in range(0, 2000, 50):
        spool.put([replace(e, time=0.0) for e in numbered(range(start, start + 50))])
    assert spool.flush(30)
    spool.stop()
    order = [int(row["n"]) for row in stored(splunkd)]
    splunkd.stop()
    assert order == list(range(1999, -1, -1))  # a search gives the newest first


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"index": "nosuch"}, 7),
        ({"body": {}}, 13),
    ],
)
def test_a_bad_event_is_isolated_and_the_rest_delivered(
    target: tuple[Splunkd, str], tmp_path: Path, bad: dict[str, object], code: int
) -> None:
    splunkd, token = target
    events = numbered(range(300))
    if code == 13:
        # What the collector calls blank depends on its version: here it is what `_blank` says.
        splunkd.hec.is_blank = lambda content: isinstance(content, dict) and content.get("n") == 77
    else:
        events[77] = replace(events[77], **bad)  # type: ignore[arg-type]
    spool = forwarder(tmp_path, splunkd.hec.url, token)
    spool.start()
    spool.put(events)
    assert spool.flush(20)
    letters = spool.dead_letters()
    assert [(letter.code, letter.destination) for letter in letters] == [(code, Destination.EVENTS)]
    assert '"n":77' in letters[0].body
    assert sorted(int(r["n"]) for r in stored(splunkd)) == [n for n in range(300) if n != 77]
    # Mended, it can be sent after all.
    splunkd.events.create("nosuch")
    splunkd.hec.is_blank = None
    assert spool.retry_dead([letters[0].id]) == 1
    assert spool.flush(20)
    spool.stop()
    assert found(splunkd, "search index=* sourcetype=kepler:prediction n=77") == 1


def found(splunkd: Splunkd, search: str) -> int:
    return len(splunkd.search(search).rows)


def test_events_too_large_for_the_receiver_are_split_then_given_up(tmp_path: Path) -> None:
    splunkd, token = splunk_with_hec()
    splunkd.hec.max_content_bytes = 400  # of the compressed body
    spool = forwarder(tmp_path, splunkd.hec.url, token)
    noise = os.urandom(2000).hex()
    spool.start()
    spool.put([*numbered(range(50)), *numbered([50], noise=noise), *numbered(range(51, 100))])
    assert spool.flush(20)
    letters = spool.dead_letters()
    spool.stop()
    assert [(letter.code, letter.reason[:14]) for letter in letters] == [(413, "Content-Length")]
    assert sorted(int(r["n"]) for r in stored(splunkd)) == [n for n in range(100) if n != 50]
    splunkd.stop()


def test_a_missing_token_keeps_everything(tmp_path: Path) -> None:
    splunkd, token = splunk_with_hec()
    stored_tokens: list[str] = []

    def give() -> str:
        if not stored_tokens:
            raise NotFound("There is no secret 'splunk-hec-token'", fix="Store it with `kepler secret set`.")
        return stored_tokens[0]

    spool = forwarder(tmp_path, splunkd.hec.url, give)
    spool.start()
    spool.put(numbered(range(10)))
    wait_until(lambda: "splunk-hec-token" in spool.states()[0].problem)
    spool.put(numbered(range(10, 20)))
    stored_tokens.append(token)
    assert spool.flush(10)
    assert not spool.states()[0].problem
    spool.stop()
    assert sorted(int(r["n"]) for r in stored(splunkd, after_macro=False)) == list(range(20))
    splunkd.stop()


@pytest.mark.parametrize("wrong", ["token", "disabled", "index"])
def test_what_an_administrator_can_mend_keeps_everything(tmp_path: Path, wrong: str) -> None:
    splunkd, token = splunk_with_hec()
    tokens = ["not-the-token" if wrong == "token" else token]
    if wrong == "disabled":
        splunkd.hec.tokens[token].disabled = True
    options = {"index": "later"} if wrong == "index" else {}
    spool = forwarder(tmp_path, splunkd.hec.url, lambda: tokens[0], **options)
    spool.start()
    spool.put(numbered(range(10)))
    wait_until(lambda: spool.states()[0].problem)
    assert not spool.flush(0.3)
    assert not spool.dead_letters()
    assert spool.states()[0].events == 10
    tokens[0] = token
    splunkd.hec.tokens[token].disabled = False
    splunkd.events.create("later")
    assert spool.flush(10)
    spool.stop()
    assert found(splunkd, "search index=* sourcetype=kepler:prediction") == 10
    splunkd.stop()


def test_a_full_spool_drops_the_oldest_and_says_so(tmp_path: Path) -> None:
    splunkd, token = splunk_with_hec()
    splunkd.hec.down = True
    spool = forwarder(tmp_path, splunkd.hec.url, token, spool_bytes=20_000)
    for start in range(0, 1000, 10):
        spool.put(numbered(range(start, start + 10)))
    state = spool.states()[0]
    assert state.bytes <= 20_000
    spool.put(numbered(range(1000, 1010), source="kept"), keep=True)
    for start in range(2000, 2070, 10):
        spool.put(numbered(range(start, start + 10), source="kept"), keep=True)
    with pytest.raises(Overloaded):
        spool.put(numbered(range(3000, 3100), source="kept"), keep=True)
    splunkd.hec.down = False
    spool.start()
    assert spool.flush(20)
    wait_until(lambda: spool.states()[0].dropped)
    assert spool.flush(20)
    dropped = spool.states()[0].dropped
    spool.stop()
    rows = stored(splunkd)
    mine = sorted(int(r["n"]) for r in rows if r["source"] == "test")
    assert 0 < len(mine) < 1000
    assert mine == list(range(1000 - len(mine), 1000)), "the oldest go first"
    assert {int(r["n"]) for r in rows} >= {*range(1000, 1010), *range(2000, 2070)}
    assert not any(int(r["n"]) >= 3000 for r in rows), "refused means not taken"
    assert dropped == 1000 - len(mine)
    alert = splunkd.search("search index=kepler sourcetype=kepler:alert").rows[0]
    assert (alert["alert"], alert["reason"], alert["of_source"]) == ("hec.events_dropped", "full", "test")
    assert int(alert["events"]) == dropped
    splunkd.stop()


def test_a_key_is_taken_once(tmp_path: Path) -> None:
    splunkd, token = splunk_with_hec()
    spool = forwarder(tmp_path, splunkd.hec.url, token)
    assert spool.put(numbered(range(5)), key="a")
    assert not spool.put(numbered(range(5)), key="a")
    spool.stop()
    again = forwarder(tmp_path, splunkd.hec.url, token)
    assert again.has("a")
    assert not again.put(numbered(range(5)), key="a")
    assert again.states()[0].events == 5
    again.forget(["a"])
    assert not again.has("a")
    again.stop()
    splunkd.stop()


def test_what_is_no_event_is_refused_at_the_door(tmp_path: Path) -> None:
    splunkd, token = splunk_with_hec()
    spool = forwarder(tmp_path, splunkd.hec.url, token)
    with pytest.raises(InvalidInput, match="no JSON"):
        spool.put(numbered([1], value=float("nan")))
    with pytest.raises(InvalidInput, match="too large"):
        spool.put(numbered([1], text="x" * QUICK.batch_bytes))
    assert spool.states()[0].events == 0
    spool.stop()
    splunkd.stop()


def test_a_receiver_that_was_down_gets_everything(tmp_path: Path) -> None:
    splunkd, token = splunk_with_hec(use_ack=True)
    splunkd.hec.down = True
    spool = forwarder(tmp_path, splunkd.hec.url, token)
    spool.start()
    spool.put(numbered(range(500)))
    wait_until(lambda: spool.states()[0].problem)
    splunkd.hec.down = False
    assert spool.flush(20)
    assert not spool.states()[0].problem
    spool.stop()
    assert len(stored(splunkd)) == 500
    splunkd.stop()
