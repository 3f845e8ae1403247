"""The service takes the batches that the contract's schema describes, and no others."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kepler.adapters.mqtt.frames import BadFrame, canonical
from kepler.adapters.mqtt.messages import batch_from
from kepler.fleet.batches import TOLERANCE_S, BatchClock, BootClock, EdgeBatch, timed
from kepler.fleet.ledger import BatchRange, StreamName
from support.mqtt_schemas import validator

NUMBER = st.integers(1, 2**53 - 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(0, 1e12)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SCALAR = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FLOAT | TEXT
HEX = st.from_regex(r"\A[0-9a-f]{16,32}\Z")
STREAM = st.sampled_from(["p0", "p1", "p2", "p3"])


def record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"q": NUMBER, "ts": FLOAT, "mono": POSITIVE, **fields})


PREDICTION = st.fixed_dictionaries(
    {
        "q": NUMBER, "ts": FLOAT, "mono": POSITIVE, "kind": st.just("prediction"),
        "model": st.from_regex(r"\A[A-Za-z0-9_.-]{1,20}(/[A-Za-z0-9_.-]{1,20})?\Z"), "version": NUMBER,
        "out": st.dictionaries(TEXT, SCALAR, max_size=4),
    },
    optional={"sha8": st.text("0123456789abcdef", max_size=8), "source": TEXT, "alert": st.booleans(),
              "shadow": st.booleans(), "lat_us": POSITIVE},
)  # fmt: skip
RECORD = st.one_of(
    PREDICTION,
    record(kind=st.just("telemetry"), tag=TEXT, value=SCALAR),
    record(
        kind=st.just("log"),
        level=st.sampled_from(["debug", "info", "warning", "error"]),
        event=TEXT,
        keys=st.dictionaries(TEXT, SCALAR, max_size=3),
    ),
    st.fixed_dictionaries(
        {"q": NUMBER, "ts": FLOAT, "mono": POSITIVE, "kind": st.just("tombstone"), "from": NUMBER, "to": NUMBER,
         "count": NUMBER, "stream": STREAM, "reason": st.sampled_from(["full", "ttl", "corrupt", "quota"])}
    ),
)  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    found = draw(st.lists(RECORD, min_size=1, max_size=6, unique_by=lambda r: r["q"]))
    found.sort(key=lambda r: r["q"])
    first = found[0]["q"]
    return {
        "v": 1, "device": draw(st.from_regex(r"\A[a-z0-9-]{1,64}\Z")), "epoch": draw(HEX), "stream": draw(STREAM),
        "hist": draw(st.booleans()), "base": draw(st.integers(0, 2**53 - 1)), "after": draw(st.integers(0, first - 1)),
        "first": first, "last": found[-1]["q"],
        "clock": {"sync": draw(st.booleans()), "err_ms": draw(POSITIVE), "boot": draw(HEX), "mono": draw(POSITIVE),
                  "ts": draw(FLOAT)},
        "records": found,
    }  # fmt: skip


def is_no_whole_float(value: object) -> bool:
    """A schema takes 3.0 for an integer; the contract wants it written as 3."""
    return not (isinstance(value, float) and value.is_integer())


def taken(message: dict[str, Any]) -> EdgeBatch:
    return batch_from(canonical(message), "t", message["device"], message["stream"], 1.0)


@given(batches())
def test_what_the_schema_describes_is_taken_whole(message: dict[str, Any]) -> None:
    validator("batch").validate(message)
    batch = taken(message)
    assert batch.records == json.loads(canonical(message))["records"]
    assert (batch.range.first, batch.range.last, batch.range.after) == (
        message["first"], message["last"], message["after"],
    )  # fmt: skip
    assert batch.name.device == message["device"]


@settings(max_examples=60)
@given(batches(), st.data())
def test_what_the_schema_refuses_is_refused(message: dict[str, Any], data: st.DataObject) -> None:
    changed = copy.deepcopy(message)
    place = data.draw(st.sampled_from(["batch", "clock", "record"]))
    target = {"batch": changed, "clock": changed["clock"], "record": changed["records"][0]}[place]
    key = data.draw(st.sampled_from([*target, "unknown"]))
    if data.draw(st.booleans()) and key in target:
        del target[key]
    else:
        target[key] = data.draw(
            SCALAR.filter(is_no_whole_float)
            | st.lists(SCALAR, max_size=2)
            | st.dictionaries(TEXT, SCALAR, max_size=2)
        )
    valid = validator("batch").is_valid(changed)
    try:
        batch_from(canonical(changed), "t", message["device"], message["stream"], 1.0)
        refused = ""
    except BadFrame as bad:
        refused = bad.check
    # "numbers" and "topic" are what a schema cannot say: numbers that contradict each other, another's topic.
    assert bool(refused) or valid
    assert not (valid and refused) or refused in ("numbers", "topic")


@given(batches(), st.sampled_from(["v", "base", "after", "first", "last"]))
def test_integers_are_written_without_a_point(message: dict[str, Any], key: str) -> None:
    body = canonical({**message, key: float(message[key])})
    with pytest.raises(BadFrame):
        batch_from(body, "t", message["device"], message["stream"], 1.0)


@given(st.binary(max_size=200))
def test_bytes_give_bad_frames_and_nothing_else(body: bytes) -> None:
    try:
        batch_from(body, "t", "d", "p1", 1.0)
    except BadFrame:
        return
    raise AssertionError("random bytes were taken for a batch")


@given(
    sync=st.booleans(),
    known=st.none() | st.floats(0, 2e9),
    wrong_s=st.floats(-3e9, 3e9),
    taken_at=st.floats(1.6e9, 2e9),
    delay_s=st.floats(0, 1e5),
    mono=st.floats(0, 1e6),
)
def test_times_are_right_where_a_boot_is_known(
    sync: bool, known: float | None, wrong_s: float, taken_at: float, delay_s: float, mono: float
) -> None:
    """A clock that was off by `wrong_s` when the record was taken, and set since then if `sync`."""
    sent_at = taken_at + delay_s
    clock = BatchClock("ab" * 8, sync, 0.01, mono + delay_s, sent_at if sync else sent_at + wrong_s)
    batch = EdgeBatch(
        "t", StreamName("d", "e" * 16, "p1"), BatchRange(1, 1, 0, 0), False, clock,
        [{"q": 1, "ts": taken_at + wrong_s, "mono": mono}], "", sent_at + 1.0,
    )  # fmt: skip
    boot = None if known is None else BootClock(taken_at - mono, 0.01)
    ((found, how),) = timed(batch, boot)
    assert math.isclose(found, taken_at, abs_tol=TOLERANCE_S + 1.1)
    if abs(wrong_s) > TOLERANCE_S + 1.1:
        assert how == ("boot" if sync or boot else "arrival")
    if abs(wrong_s) < TOLERANCE_S - 1.1:
        assert how == ""
        assert found == taken_at + wrong_s
