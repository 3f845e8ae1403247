"""Framing and the loop: one reply each, errors as one sentence, silence at the end."""

from __future__ import annotations

import io
import json
from typing import Any

from kepler_app.chunks import Command, Reply, error_metadata, read_message, serve, write_message
from kepler_app.errors import SearchCancelled, SearchError, full_stop
from unit.splunk_app.plain import refused


def frame(metadata: object, body: bytes = b"") -> bytes:
    text = json.dumps(metadata).encode()
    return b"chunked 1.0,%d,%d\n" % (len(text), len(body)) + text + body


def replies(output: bytes) -> list[tuple[dict[str, Any], bytes]]:
    stream, found = io.BytesIO(output), []
    while True:
        message = read_message(stream)
        if message is None:
            return found
        found.append(message)


GETINFO = frame({"action": "getinfo", "searchinfo": {}})
MORE = {"action": "execute", "finished": False}
LAST = {"action": "execute", "finished": True}


class Echo(Command):
    """Gives back what it gets."""

    name = "echo"

    def __init__(self, fails: BaseException | None = None, at: str = "execute") -> None:
        super().__init__()
        self.fails, self.at, self.closed = fails, at, 0
        self.heard: list[SearchError] = []

    def getinfo(self, metadata: dict[str, Any]) -> dict[str, Any]:
        self._fail("getinfo")
        self.say("WARN", "planned")
        return {"type": "stateful"}

    def execute(self, body: bytes, finished: bool) -> Reply:
        self._fail("execute")
        self.say("INFO", "once")
        return Reply([body[:1], body[1:]])

    def close(self) -> None:
        self.closed += 1
        super().close()
        self._fail("close")

    def on_error(self, error: SearchError) -> None:
        super().on_error(error)
        self.heard.append(error)

    def _fail(self, at: str) -> None:
        if self.fails is not None and self.at == at:
            raise self.fails


def talk(command: Command, *messages: bytes) -> tuple[int, list[tuple[dict[str, Any], bytes]]]:
    output = io.BytesIO()
    code = serve(command, io.BytesIO(b"".join(messages)), output)
    return code, replies(output.getvalue())


def test_each_message_gets_one_reply_and_finished_comes_back() -> None:
    code, answers = talk(Echo(), GETINFO, frame(MORE, b"a\n1\n"), frame(LAST, b"a\n2\n"))
    assert code == 0
    assert answers == [
        ({"type": "stateful", "inspector": {"messages": [["WARN", "planned"]]}}, b""),
        ({"inspector": {"messages": [["INFO", "once"]]}, "finished": False}, b"a\n1\n"),
        ({"finished": True}, b"a\n2\n"),
    ]


def test_a_planning_run_ends_silently() -> None:
    command = Echo()
    code, answers = talk(command, GETINFO)
    assert (code, len(answers), command.closed) == (0, 1, 1)
    assert talk(Echo()) == (0, [])


def test_input_cut_off_anywhere_ends_silently() -> None:
    whole = GETINFO + frame(LAST, b"a\n1\n")
    for end in range(len(whole)):
        code, answers = talk(Echo(), whole[:end])
        assert code == 0
        assert len(answers) == (1 if end >= len(GETINFO) else 0)


def test_errors_are_one_sentence_before_and_after_the_plan() -> None:
    for at, earlier in (("getinfo", 0), ("execute", 1)):
        command = Echo(SearchError("No such model."), at)
        code, answers = talk(command, GETINFO, frame(LAST))
        assert code == 1
        metadata, body = answers[earlier]
        assert len(answers) == earlier + 1
        assert body == b""
        assert list(metadata) == ["inspector", "error", "finished"]
        assert metadata["error"] == "No such model."
        assert metadata["inspector"]["messages"] == [["ERROR", "No such model."]]
        assert metadata["finished"] is True
        assert [error.sentence for error in command.heard] == ["No such model."]
        assert command.closed == 1


def test_messages_said_before_an_error_are_kept() -> None:
    command = Echo(SearchError("Bad."))
    command.say("WARN", "first")
    command.say("WARN", "first")
    _, answers = talk(command, frame(LAST))
    assert answers[0][0]["inspector"]["messages"] == [["WARN", "first"], ["ERROR", "Bad."]]


def test_a_crash_shows_no_stack() -> None:
    code, answers = talk(Echo(ValueError("secret detail")), frame(LAST))
    assert code == 1
    assert "secret" not in answers[0][0]["error"]
    assert answers[0][0]["finished"] is True


def test_the_search_may_leave_at_any_time() -> None:
    for gone in (SearchCancelled(0), BrokenPipeError(), KeyboardInterrupt()):
        command = Echo(gone)
        assert talk(command, frame(LAST)) == (0, [])
        assert command.closed == 1


def test_closing_never_speaks() -> None:
    assert talk(Echo(SearchError("late"), "close"), GETINFO)[0] == 0


class Gone(io.BytesIO):
    def write(self, _data: Any) -> int:
        raise BrokenPipeError


def test_a_closed_output_ends_quietly() -> None:
    assert serve(Echo(), io.BytesIO(GETINFO), Gone()) == 0
    assert serve(Echo(SearchError("x")), io.BytesIO(frame(LAST)), Gone()) == 0


def test_what_is_no_message_is_refused_once() -> None:
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"chunked 2.0,2,0\n{}", b"x" * 1000, b"chunked 1.0,-1,0\n"):
        code, answers = talk(Echo(), junk)
        assert code == 1
        assert len(answers) == 1
    for metadata in (b"[]", b"{", b"\xff\xfe"):
        code, answers = talk(Echo(), b"chunked 1.0,%d,0\n" % len(metadata) + metadata)
        assert code == 1
        assert "JSON" in answers[0][0]["error"]
    with refused("too large"):
        read_message(io.BytesIO(b"chunked 1.0,10,999999999999\n{}"))


def test_blanks_in_the_header_are_tolerated() -> None:
    assert read_message(io.BytesIO(b"chunked  1.0 , 2 , 1 \n{}x")) == ({}, b"x")


def test_metadata_is_utf8_and_lone_surrogates_cannot_break_it() -> None:
    output = io.BytesIO()
    write_message(output, {"error": "ñ \udcff"})
    [(metadata, _)] = replies(output.getvalue())
    assert metadata["error"] == "ñ ?"


def test_a_reply_may_stream_and_override_finished() -> None:
    class Last(Echo):
        def execute(self, body: bytes, finished: bool) -> Reply:
            return Reply(iter([b"a", b"bc"]), size=3, finished=True)

    code, answers = talk(Last(), frame(MORE), frame(MORE))
    assert (code, answers) == (0, [({"finished": True}, b"abc")])


def test_error_metadata_puts_the_inspector_first() -> None:
    assert list(error_metadata("x")) == ["inspector", "error", "finished"]


def test_sentences_end() -> None:
    assert [full_stop(text) for text in ("a", "a.", "a?", " a\n b ", "")] == ["a.", "a.", "a?", "a b.", ""]
