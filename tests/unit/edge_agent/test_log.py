"""The log: lines of JSON, no secrets, a bounded rate, repeats counted."""

from __future__ import annotations

import io
import json

from kepler_edge.clock import Clock
from kepler_edge.log import Log
from support.mqtt_schemas import check


class Bench:
    def __init__(self, level: str = "info") -> None:
        self.now = 100.0
        self.stream = io.StringIO()
        self.log = Log(Clock(lambda: 1.8e9, lambda: self.now, lambda: None, "0" * 32), level, self.stream)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def test_lines_are_json_and_hide_what_sounds_secret() -> None:
    bench = Bench()
    bench.log.info(
        "a.b", token="abc", private_key="abc", certificate_pem="abc", n=1, x=float("nan"), none=None
    )
    bench.log.debug("not.shown")
    assert bench.lines == [
        {"ts": 1.8e9, "level": "info", "event": "a.b", "token": "hidden", "private_key": "hidden",
         "certificate_pem": "hidden", "n": 1, "x": None},
    ]  # fmt: skip
    assert bench.log.last(0) == []
    assert len(bench.log.last(5)) == 1


def test_repeats_are_counted_not_written() -> None:
    bench = Bench()
    for _ in range(100):
        bench.log.warning("line.down", reason="no route")
    bench.log.warning("line.down", reason="refused")
    assert len(bench.lines) == 2
    bench.now += 61
    bench.log.warning("line.down", reason="no route")
    assert bench.lines[-1]["repeated"] == 99


def test_records_are_bounded_and_as_the_contract_says() -> None:
    bench = Bench()
    found: list[dict[str, object]] = []
    bench.log.deliver_to(found.append, 10)
    for number in range(50):
        bench.log.info("event", number=number, text="x" * 2000, nested={"a": [1]})
    assert len(found) == 10
    assert bench.log.held_back == 40
    bench.now += 60
    bench.log.info("event")
    assert len(found) == 11
    batch = {
        "v": 1, "device": "d", "epoch": "0" * 16, "stream": "p3", "hist": False, "first": 1, "last": 11, "after": 0, "base": 0,
        "clock": {"sync": True, "err_ms": 0, "boot": "0" * 32, "mono": 1.0, "ts": 1.0},
        "records": [record | {"q": number + 1} for number, record in enumerate(found)],
    }  # fmt: skip
    check("batch", batch)


def test_a_closed_stream_does_not_end_the_agent() -> None:
    bench = Bench()
    bench.stream.close()
    bench.log.error("event")
    assert len(bench.log.last()) == 1
