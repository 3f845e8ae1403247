"""Commands: once, whatever is repeated, replayed, expired, or cut off by a crash."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from kepler_edge.clock import Clock, Sync
from kepler_edge.commands import Commands
from kepler_edge.errors import InvalidInput
from kepler_edge.log import Log
from support.mqtt_schemas import check

REPLIES = "kepler/v1/t/d/rsp"


class Bench:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.done: list[Mapping[str, object]] = []
        self.sent: list[dict[str, object]] = []
        self.sync = Sync(True, 1.0)
        self.clock = Clock(lambda: 1.8e9, lambda: 5.0, lambda: self.sync, "0" * 32)
        self.answer: object = {"ok": True}
        self.restart()

    def restart(self) -> None:
        handlers = dict.fromkeys(("ping", "diag", "pause"), self.handle)
        log = Log(self.clock, stream=io.StringIO())
        self.commands = Commands(self.home, REPLIES, handlers, self.send, self.clock, log)

    def handle(self, args: Mapping[str, object]) -> dict[str, object]:
        self.done.append(args)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[return-value]

    def send(self, topic: str, reply: dict[str, object]) -> None:
        assert topic == f"{REPLIES}/host"
        check("reply", reply)
        self.sent.append(reply)

    def take(self, verb: str = "ping", **change: object) -> list[object]:
        message = {"v": 1, "id": "a" * 32, "n": 1, "verb": verb, "reply_to": f"{REPLIES}/host"} | change
        self.sent.clear()
        self.commands.take(verb, message)
        return [one["stage"] for one in self.sent]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_one_is_done_once_and_answered_again(bench: Bench) -> None:
    assert bench.take(args={"a": 1}) == ["ack", "done"]
    assert bench.take(args={"a": 2}) == ["done"]
    bench.restart()
    assert bench.take() == ["done"]
    assert bench.sent[0]["data"] == {"ok": True}
    assert bench.done == [{"a": 1}]


def test_an_old_number_is_refused_after_a_restart_too(bench: Bench) -> None:
    bench.take(n=7)
    bench.restart()
    for n in (1, 6, 7):
        assert bench.take(id="b" * 32, n=n) == []
    assert bench.take(id="c" * 32, n=8) == ["ack", "done"]
    assert bench.commands.refused == 3


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"id": "A" * 32}, {"id": "a" * 8}, {"id": 5}, {"n": "1"}, {"n": True}, {"n": 1.5},
        {"reply_to": "kepler/v1/t/other/rsp/host"}, {"reply_to": REPLIES}, {"reply_to": f"{REPLIES}/"},
        {"reply_to": f"{REPLIES}/#"}, {"reply_to": f"{REPLIES}/a\n"}, {"reply_to": None}, {"expires": 1.0},
    ],
)  # fmt: skip
def test_what_is_no_command_is_refused(bench: Bench, change: dict[str, object]) -> None:
    assert bench.take(**change) == []
    assert bench.done == []
    assert bench.commands.refused == 1


def test_the_topic_and_the_body_must_name_the_same_verb(bench: Bench) -> None:
    bench.commands.take(
        "ping", {"v": 1, "id": "a" * 32, "n": 1, "verb": "pause", "reply_to": f"{REPLIES}/host"}
    )
    assert bench.done == []


def test_expiry_is_judged_only_while_the_clock_is_set(bench: Bench) -> None:
    bench.sync = Sync(False, 16000.0)
    assert bench.take(expires=1.0) == ["ack", "done"]


def test_what_fails_says_why(bench: Bench) -> None:
    bench.answer = InvalidInput("No such model", fix="Name another.")
    assert bench.take() == ["ack", "failed"]
    assert bench.sent[-1]["text"] == "No such model. Name another."
    bench.answer = RuntimeError("s3cret path")
    assert bench.take(id="b" * 32, n=2) == ["ack", "failed"]
    assert "s3cret" not in str(bench.sent)


def test_a_crash_in_the_middle_is_answered_and_not_repeated(bench: Bench) -> None:
    bench.answer = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.take()
    bench.restart()
    bench.answer = {}
    assert bench.take() == ["failed"]
    assert "restarted" in str(bench.sent[0]["text"])
    assert len(bench.done) == 1


def test_long_answers_come_in_parts(bench: Bench) -> None:
    bench.answer = {"lines": [f"{number * 7919 % 104729:x}" * 4 for number in range(20_000)]}
    stages = bench.take("diag")
    assert stages[0] == "ack"
    assert stages[-1] == "done"
    parts = bench.sent[1:]
    assert [one["part"] for one in parts] == list(range(len(parts)))
    packed = "".join(one["data"]["zlib"] for one in parts)  # type: ignore[index]
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == bench.answer
    assert bench.take("diag") == ["done"]
    assert "asked" in str(bench.sent) or "answered before" in str(bench.sent)
    assert (bench.home / "commands.json").stat().st_size < 5000


def test_memory_is_bounded(bench: Bench) -> None:
    for n in range(1, 200):
        bench.take(id=f"{n:032x}", n=n)
    assert len(json.loads((bench.home / "commands.json").read_text())["answers"]) == 128
