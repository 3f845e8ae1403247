"""The chunked search command protocol: framing, and the loop that owns standard input and output.

A message is ``chunked 1.0,<metadata bytes>,<body bytes>\\n``, a JSON object and a CSV body. Splunk sends one
getinfo and then executes; each is answered by exactly one message, and ``finished`` comes back as it was
sent. A process may see getinfo and then the end of input: Splunk was only planning.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from abc import ABC, abstractmethod

from kepler_app.errors import SearchCancelled, SearchError

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself costs milliseconds that each planning run would pay
    from collections.abc import Iterable
    from typing import Any, BinaryIO

    Metadata = dict[str, Any]

_HEADER = re.compile(rb"chunked\s+1\.0\s*,\s*(\d{1,12})\s*,\s*(\d{1,12})\s*\n")
_MAX_HEADER = 256
_FAREWELL_S = 3.0  # from SIGTERM to the end, whatever still runs
_MAX_METADATA = 64 * 1024 * 1024
_MAX_BODY = 4 * 1024 * 1024 * 1024


class Reply:
    """Answer to one execute.

    Parameters
    ----------
    body
        Parts of the CSV body, in order; any iterable of bytes whose lengths sum to ``size``.
    size
        Bytes of the body; None sums the parts, which must then be a list.
    finished
        None echoes what Splunk sent.
    """

    __slots__ = ("body", "finished", "size")

    def __init__(
        self, body: Iterable[bytes] = (), *, size: int | None = None, finished: bool | None = None
    ) -> None:
        self.body = body if size is not None else list(body)
        self.size = sum(map(len, self.body)) if size is None else size
        self.finished = finished


class Command(ABC):
    """A search command. `getinfo` plans, `execute` answers one chunk each, `close` frees what was opened."""

    name = ""

    def __init__(self) -> None:
        self._messages: list[tuple[str, str]] = []
        self._said: set[tuple[str, str]] = set()

    @abstractmethod
    def getinfo(self, metadata: Metadata) -> Metadata:
        """Reply to the plan: ``type``, ``required_fields``, ``generating``. Opens nothing."""

    @abstractmethod
    def execute(self, body: bytes, finished: bool) -> Reply:
        """Answer one chunk."""

    def close(self) -> None:
        """Free what `execute` opened; called once, also after errors and cancels."""
        self._said.clear()

    def report_crash(self, error: BaseException) -> str:
        """One sentence for an error that should not happen."""
        return f"{self.name} failed inside: {type(error).__name__}."

    def on_error(self, error: SearchError) -> None:
        """Hear of the error that fails the search, after the reply is out."""
        del error

    def say(self, level: str, text: str) -> None:
        """Queue a message ("INFO", "WARN") for the next reply; each text once per search."""
        if (level, text) not in self._said:
            self._said.add((level, text))
            self._messages.append((level, text))

    def take_messages(self) -> list[tuple[str, str]]:
        messages, self._messages = self._messages, []
        return messages


def read_message(stream: BinaryIO) -> tuple[Metadata, bytes] | None:
    """Next message, or None at the end of input. Raises `SearchError` for what is no message."""
    line = b"\n"
    while line == b"\n":  # a recorded session ends with one more line feed
        line = stream.readline(_MAX_HEADER)
    if not line:
        return None
    match = _HEADER.fullmatch(line)
    if match is None:
        if not line.endswith(b"\n") and len(line) < _MAX_HEADER:
            return None  # cut off in mid-header: Splunk went away
        raise SearchError(
            "Splunk sent a message whose first line is not the chunked protocol 1.0.", "Protocol"
        )
    sizes = int(match[1]), int(match[2])
    if sizes[0] > _MAX_METADATA or sizes[1] > _MAX_BODY:
        raise SearchError(
            f"Splunk announced a message of {sizes[0] + sizes[1]:,} bytes, which is too large.", "Protocol"
        )
    metadata, body = stream.read(sizes[0]), stream.read(sizes[1])
    if len(metadata) < sizes[0] or len(body) < sizes[1]:
        return None
    try:
        parsed = json.loads(metadata)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise SearchError("Splunk sent metadata that is not a JSON object.", "Protocol")
    return parsed, body


def write_message(stream: BinaryIO, metadata: Metadata, body: Iterable[bytes] = (), size: int = 0) -> None:
    """Send one message and flush."""
    encoded = json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    stream.write(b"chunked 1.0,%d,%d\n" % (len(encoded), size))
    stream.write(encoded)
    for part in body:
        stream.write(part)
    stream.flush()


def _inspector(messages: list[tuple[str, str]]) -> Metadata:
    return {"messages": [[level, text] for level, text in messages]}


def error_metadata(sentence: str, messages: list[tuple[str, str]] | None = None) -> Metadata:
    """Metadata that fails the search with one sentence, at getinfo as at execute.

    ``inspector`` stands before ``error``: in that order splunkd keeps both.
    """
    return {
        "inspector": _inspector([*(messages or []), ("ERROR", sentence)]),
        "error": sentence,
        "finished": True,
    }


def _answer(command: Command, metadata: Metadata, body: bytes, stdout: BinaryIO) -> bool:
    """Answer one message; gives whether that was the last."""
    if metadata.get("action") == "getinfo":
        reply = command.getinfo(metadata)
        messages = command.take_messages()
        if messages:
            reply = {**reply, "inspector": _inspector(messages)}
        write_message(stdout, reply)
        return False
    asked = bool(metadata.get("finished", False))
    answer = command.execute(body, asked)
    head: Metadata = {}
    messages = command.take_messages()
    if messages:
        head["inspector"] = _inspector(messages)
    head["finished"] = asked if answer.finished is None else answer.finished
    write_message(stdout, head, answer.body, answer.size)
    return bool(head["finished"])


def serve(command: Command, stdin: BinaryIO, stdout: BinaryIO) -> int:
    """Talk with splunkd until it ends; gives the exit code. Writes to nothing but ``stdout``."""
    try:
        try:
            while True:
                message = read_message(stdin)
                if message is None:
                    return 0
                if _answer(command, *message, stdout):
                    return 0
        except SearchError as error:
            write_message(stdout, error_metadata(error.sentence, command.take_messages()))
            command.on_error(error)
            return 1
        except (SearchCancelled, BrokenPipeError, KeyboardInterrupt):
            return 0
        except Exception as error:
            write_message(stdout, error_metadata(command.report_crash(error), command.take_messages()))
            return 1
    except (SearchCancelled, OSError, ValueError):  # nobody listens any more
        return 0
    finally:
        _close_quietly(command)


def _close_quietly(command: Command) -> None:
    try:
        command.close()
    except (SearchCancelled, OSError, SearchError):
        return  # the search is over; what could not be freed goes with the process


def _on_sigterm(_signum: int, _frame: object) -> None:
    if hasattr(signal, "setitimer"):
        # The exception may land where code of others swallows it or holds a lock: the end comes all the same.
        signal.signal(signal.SIGALRM, _on_alarm)
        signal.setitimer(signal.ITIMER_REAL, _FAREWELL_S)
    raise SearchCancelled(0)


def _on_alarm(_signum: int, _frame: object) -> None:
    import os

    os._exit(0)


def main(command: Command) -> None:
    """Run ``command`` as splunkd's child and leave. Skips the interpreter's slow farewell."""
    import os

    signal.signal(signal.SIGTERM, _on_sigterm)
    code = 1
    try:
        code = serve(command, sys.stdin.buffer, sys.stdout.buffer)
    except SearchCancelled:
        code = 0
    finally:
        os._exit(code)
