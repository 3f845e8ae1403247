"""The messages themselves: recorded sessions as Splunk sent them, and a command of the app that answers them.

What the splunkd stand-in cannot say (two columns of one name, a recorded chunk byte for byte, noise) is said
here, in lock-step like splunkd: one message, one reply.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
from pathlib import Path
from typing import Any, Self

from fakes.splunkd.chunked import HEADER, SearchInfo, execute, frame

Message = tuple[dict[str, Any], bytes]
csv.field_size_limit(1 << 30)


def messages(data: bytes) -> list[Message]:
    """(metadata, body) of each message of a recorded input; at most a line feed follows the last one."""
    found: list[Message] = []
    position = 0
    while match := HEADER.match(data, position):
        middle = match.end() + int(match[1])
        end = middle + int(match[2])
        found.append((json.loads(data[match.end() : middle]), data[middle:end]))
        position = end
    assert data[position:] in (b"", b"\n"), f"{len(data) - position} bytes are no message"
    return found


def recording(path: Path) -> list[Message]:
    return messages(gzip.decompress(path.read_bytes()))


def getinfo(*raw_args: str, app: str = "search", user: str = "admin") -> dict[str, Any]:
    info = SearchInfo(
        args=[arg.replace('"', "") for arg in raw_args], raw_args=list(raw_args), dispatch_dir="", sid="1600000000.1",
        app=app, owner=user, username=user, session_key="", splunkd_uri="https://127.0.0.1:8089",
        splunk_version="9.4.6", search="| inputlookup x", command="",
    )  # fmt: skip
    return info.getinfo()


def cells(body: bytes) -> list[list[str]]:
    """Header and rows, every cell as it is."""
    return list(csv.reader(io.StringIO(body.decode("utf-8", "surrogateescape"), newline="")))


class Conversation:
    """One command of the app in a process of its own."""

    def __init__(self, python: str, app: Path, command: str, home: Path, **env: str) -> None:
        self.child = subprocess.Popen(
            [python, str(app / "bin" / f"{command}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "SPLUNK_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", **env},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.communicate()

    def say(self, metadata: dict[str, Any], body: bytes = b"") -> Message:
        """Send one message and read its one reply."""
        stdin, stdout = self.child.stdin, self.child.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(frame(metadata, body))
        stdin.flush()
        line = stdout.readline(256)
        match = HEADER.fullmatch(line)
        assert match is not None, f"no reply, but {line!r}"
        head = json.loads(stdout.read(int(match[1])))
        return head, stdout.read(int(match[2]))

    def execute(self, body: bytes, *, finished: bool) -> Message:
        return self.say(execute(finished), body)

    def end(self) -> None:
        """Close its input: it says nothing more and leaves in good order."""
        stdin, stdout, stderr = self.child.stdin, self.child.stdout, self.child.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        stdin.close()
        assert stdout.read() == b""
        assert stderr.read() == b""
        self.child.stdin = None
        assert self.child.wait(20) == 0
