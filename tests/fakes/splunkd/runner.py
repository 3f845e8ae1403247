"""Start an app's command as splunkd does and speak the chunked protocol with it in lock-step.

Sources: facts/splunk_app.md 1.2 (framing, lock-step, no argv), 1.4 (reply keys and types), 1.7 (errors).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .chunked import HEADER, frame
from .errors import SearchFailed

# The keys splunkd knows in a getinfo reply (facts/splunk_app.md 1.4); it refuses others such as requires_preop.
REPLY_KEYS = {
    "type",
    "generating",
    "required_fields",
    "maxwait",
    "streaming_preop",
    "finished",
    "error",
    "inspector",
    "maxinputs",
    "run_in_preview",
}
TYPES = ("streaming", "stateful", "events", "reporting")
LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_EXIT_GRACE_S = 10.0


@dataclass
class Log:
    """search.log and info.csv of one search."""

    lines: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    messages: list[tuple[str, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def write(self, level: str, component: str, text: str) -> None:
        with self._lock:
            self.lines.append(f"{level:<5} {component} - {text}")

    def on_stderr(self, line: str) -> None:
        """Every line a command writes to stderr is an ERROR in search.log (facts/splunk_app.md 1.7)."""
        with self._lock:
            self.stderr.append(line)
            self.lines.append(
                f"ERROR ChunkedExternProcessor [ChunkedExternProcessorStderrLogger] - stderr: {line}"
            )

    def message(self, level: str, text: str) -> None:
        with self._lock:
            if (level, text) not in self.messages:
                self.messages.append((level, text))

    def text(self) -> str:
        return "".join(line + "\n" for line in self.lines)


@dataclass(frozen=True)
class Reply:
    metadata: dict[str, Any]
    body: bytes


class CommandProcess:
    """One running command: `exchange` writes a message and reads its one reply.

    Parameters
    ----------
    name
        The command's name, for banners.
    argv, env, cwd
        How to start it. The command line is interpreter and script, nothing more: any further argument makes
        splunklib speak the older protocol (facts/splunk_app.md 1.2).
    max_wait_s, max_chunk_bytes
        commands.conf `maxwait` and `maxchunksize`; 0 is unlimited.
    on_message
        Called with (direction, bytes) for every message, for tests that record.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: dict[str, str],
        cwd: str,
        log: Log,
        *,
        max_wait_s: float = 0,
        max_chunk_bytes: int = 0,
        on_message: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self.name = name
        self._log = log
        self._max_wait_s = max_wait_s
        self._max_chunk_bytes = max_chunk_bytes
        self._on_message = on_message
        self._buffer = bytearray()
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin
        self._out = self._process.stdout
        os.set_blocking(self._in.fileno(), False)
        os.set_blocking(self._out.fileno(), False)
        self._stderr = threading.Thread(target=self._read_stderr, name=f"stderr-{name}", daemon=True)
        self._stderr.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self._log.on_stderr(line.decode("utf-8", "replace").rstrip("\r\n"))

    def exchange(self, metadata: dict[str, Any], body: bytes = b"") -> Reply:
        """Write one message and read the one reply to it. Reading goes on while writing, so a command may answer
        before it has read everything."""
        if not self._fill():
            raise self._eof()
        if self._buffer:
            # Two replies to one request desynchronise splunkd (facts/splunk_app.md 1.2).
            self._log.write("ERROR", "ChunkedExternProcessor", "Failure writing result chunk, buffer full.")
            raise self._died("sent more than one reply to one request")
        message = frame(metadata, body)
        if self._on_message:
            self._on_message("in", message)
        deadline = time.monotonic() + self._max_wait_s if self._max_wait_s else None
        pending = memoryview(message)
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            selector.register(self._in, selectors.EVENT_WRITE)
            while True:
                reply = self._take_reply()
                if reply is not None and not pending:
                    return self._accept(reply)
                wait = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = selector.select(wait)
                if not ready and deadline is not None:
                    self.kill()
                    raise SearchFailed(
                        f"Error in '{self.name}' command: External search command timed out after "
                        f"{self._max_wait_s:g} seconds."
                    )
                for key, _ in ready:
                    if key.fileobj is self._in:
                        try:
                            pending = pending[os.write(self._in.fileno(), pending) :]
                        except BlockingIOError:
                            continue
                        except BrokenPipeError:
                            pending = memoryview(b"")
                        if not pending:
                            selector.unregister(self._in)
                    elif not self._fill():
                        raise self._eof()

    def _fill(self) -> bool:
        try:
            data = os.read(self._out.fileno(), 1 << 20)
        except BlockingIOError:
            return True
        self._buffer += data
        return bool(data)

    def _take_reply(self) -> tuple[bytes, bytes, bytes] | None:
        """(header, metadata, body) when a whole message is in the buffer; it stays there until accepted."""
        end = self._buffer.find(b"\n", 0, 256)
        if end < 0:
            if len(self._buffer) > 256:
                raise self._bad_header(bytes(self._buffer[:80]))
            return None
        match = HEADER.fullmatch(bytes(self._buffer[: end + 1]))
        if match is None:
            raise self._bad_header(bytes(self._buffer[:end]))
        n_meta, n_body = int(match[1]), int(match[2])
        if self._max_chunk_bytes and n_meta + n_body > self._max_chunk_bytes:
            self.kill()
            raise SearchFailed(
                f"Error in '{self.name}' command: External search command sent a chunk of {n_meta + n_body} bytes; "
                f"maxchunksize is {self._max_chunk_bytes}."
            )
        stop = end + 1 + n_meta + n_body
        if len(self._buffer) < stop:
            return None
        middle = end + 1 + n_meta
        return match[0], bytes(self._buffer[end + 1 : middle]), bytes(self._buffer[middle:stop])

    def _accept(self, reply: tuple[bytes, bytes, bytes]) -> Reply:
        header, raw, body = reply
        del self._buffer[: len(header) + len(raw) + len(body)]
        if self._on_message:
            self._on_message("out", header + raw + body)
        try:
            metadata = json.loads(raw or b"{}")
        except ValueError as error:
            self._log.write("ERROR", "ChunkedExternProcessor", f"Failed to parse metadata: {error}")
            raise self._died("sent metadata that is not JSON") from error
        return Reply(metadata, body)

    def _bad_header(self, got: bytes) -> SearchFailed:
        shown = got.decode("utf-8", "replace")
        self._log.write(
            "ERROR", "ChunkedExternProcessor", f"Failed attempting to parse transport header: {shown}"
        )
        self.kill()
        return SearchFailed(
            f"Error in '{self.name}' command: Invalid message received from external search command during search, "
            "see search.log."
        )

    def _died(self, how: str) -> SearchFailed:
        self._log.write("ERROR", "ChunkedExternProcessor", f"The command '{self.name}' {how}.")
        self.kill()
        return SearchFailed(
            f"Error in '{self.name}' command: Invalid message received from external search command during search, "
            "see search.log."
        )

    def _eof(self) -> SearchFailed:
        """The command ended instead of replying: texts of 9.4.6 (facts/splunk_app.md 1.7)."""
        size = len(self._buffer)
        self._log.write(
            "ERROR",
            "ChunkedExternProcessor",
            f"EOF while attempting to read transport header read_size={size}",
        )
        code = self.close()
        how = f" with non-zero error code {code}" if code else ""
        text = f"Error in '{self.name}' command: External search command exited unexpectedly{how}."
        self._log.write("ERROR", "ChunkedExternProcessor", text)
        return SearchFailed(text)

    @property
    def unread(self) -> int:
        """Bytes beyond the last reply: a command that talks out of turn."""
        return len(self._buffer)

    def close(self) -> int:
        """End of input, then wait; a command that does not leave is killed. Returns its exit code."""
        self._close_pipes()
        try:
            code = self._process.wait(_EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            self._log.write(
                "WARN", "ChunkedExternProcessor", f"Killing '{self.name}', which ignored end of input."
            )
            self._process.kill()
            code = self._process.wait()
        self._stderr.join(_EXIT_GRACE_S)
        return code

    def abort(self) -> None:
        """Kill it from another thread: the exchange that waits sees end of output and cleans up."""
        self._process.kill()

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def _close_pipes(self) -> None:
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()

    def finish(self) -> int:
        """After the last reply: end of input, read what is left to say, wait."""
        with contextlib.suppress(OSError):
            self._in.close()
        os.set_blocking(self._out.fileno(), True)
        timer = threading.Timer(_EXIT_GRACE_S, self._process.kill)
        timer.start()
        try:
            while data := os.read(self._out.fileno(), 1 << 16):
                self._buffer += data
        finally:
            timer.cancel()
        if self._buffer:
            self._log.write("ERROR", "ChunkedExternProcessor", "Failure writing result chunk, buffer full.")
        return self.close()


def check_getinfo(name: str, metadata: dict[str, Any]) -> None:
    """Refuse what splunkd refuses in a getinfo reply (facts/splunk_app.md 1.4)."""
    unknown = sorted(set(metadata) - REPLY_KEYS)
    if unknown:
        raise SearchFailed(f"Error in '{name}' command: Invalid key '{unknown[0]}' in the getinfo reply.")
    kind = metadata.get("type", "streaming")
    if kind not in TYPES:
        raise SearchFailed(f"Error in '{name}' command: Invalid custom search command type: {kind}.")
    if metadata.get("streaming_preop"):
        raise SearchFailed(f"Error in '{name}' command: the splunkd stand-in does not run streaming_preop.")


def inspect(log: Log, metadata: dict[str, Any]) -> None:
    """Inspector messages become messages of the job (facts/splunk_app.md 1.7).

    MLTK sends the text of `error` in the inspector as well, and its users see one banner: it is not told twice.
    """
    inspector = metadata.get("inspector") or {}
    for entry in inspector.get("messages", []) if isinstance(inspector, dict) else []:
        if not (isinstance(entry, list) and len(entry) == 2):
            log.write("ERROR", "ChunkedExternProcessor", f"Error adding inspector message: {entry!r}")
            continue
        if metadata.get("error") == entry[1]:
            continue
        level = str(entry[0]).upper()
        log.message(level if level in LEVELS else "INFO", str(entry[1]))
