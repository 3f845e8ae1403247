"""Drives one search command as splunkd does: getinfo, then chunks in lock-step, one reply each.

Source: facts of the chunked protocol, replayed from real recordings by tests/contract.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_HEADER = re.compile(rb"chunked\s+1\.0\s*,\s*(\d+)\s*,\s*(\d+)\s*\n")


@dataclass
class Reply:
    metadata: dict[str, Any]
    body: bytes


@dataclass
class Run:
    """One finished command. Seconds are wall clock."""

    rows: int = 0
    getinfo_s: float = 0.0
    first_reply_s: float = 0.0
    execute_s: float = 0.0
    cpu_s: float = 0.0
    replies: list[Reply] = field(default_factory=list)
    getinfo: dict[str, Any] = field(default_factory=dict)

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.execute_s


class CommandFailed(RuntimeError):
    """The command replied with an error or died."""


class Command:
    """A started search command.

    Parameters
    ----------
    argv
        Interpreter and script.
    args
        What stands behind the command in the search, as splunkd splits it.
    """

    def __init__(self, argv: list[str], args: list[str], *, env: dict[str, str], search: str = "") -> None:
        self._args = args
        self._search = search
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **env},
        )

    def send(self, metadata: dict[str, Any], body: bytes = b"") -> None:
        head = json.dumps(metadata).encode()
        stdin = self._process.stdin
        assert stdin
        stdin.write(b"chunked 1.0,%d,%d\n" % (len(head), len(body)))
        stdin.write(head)
        stdin.write(body)
        stdin.flush()

    def receive(self) -> Reply:
        stdout = self._process.stdout
        assert stdout
        line = stdout.readline()
        match = _HEADER.fullmatch(line)
        if match is None:
            self._process.wait(10)
            stderr = self._process.stderr.read().decode(errors="replace") if self._process.stderr else ""
            raise CommandFailed(f"no reply, exit {self._process.returncode}: {line[:200]!r} {stderr[-2000:]}")
        metadata = json.loads(stdout.read(int(match[1])) or b"{}")
        body = stdout.read(int(match[2]))
        if metadata.get("error"):
            raise CommandFailed(str(metadata["error"]))
        return Reply(metadata, body)

    def getinfo(self, dispatch_dir: Path) -> dict[str, Any]:
        self.send(
            {
                "action": "getinfo",
                "preview": False,
                "streaming_command_will_restart": False,
                "searchinfo": {
                    "args": self._args,
                    "raw_args": self._args,
                    "dispatch_dir": str(dispatch_dir),
                    "sid": "1700000000.1",
                    "app": "search",
                    "owner": "admin",
                    "username": "admin",
                    "session_key": "0" * 32,
                    "splunkd_uri": "https://127.0.0.1:8089",
                    "splunk_version": "9.4.0",
                    "search": self._search,
                    "command": "",
                    "maxresultrows": 50000,
                    "earliest_time": "0",
                    "latest_time": "0",
                },
            }
        )
        return self.receive().metadata

    def close(self) -> None:
        """End the command; its exit code must be 0."""
        assert self._process.stdin
        self._process.stdin.close()
        code = self._process.wait(30)
        if code:
            raise CommandFailed(f"exit {code}")


def drive(
    argv: list[str],
    args: list[str],
    chunks: Iterable[tuple[int, bytes]],
    *,
    env: dict[str, str],
    dispatch_dir: Path,
    keep: bool = False,
) -> Run:
    """Run a command over ``chunks`` of (rows, CSV with header); replies are kept when asked."""
    before = os.times()
    command = Command(argv, args, env=env)
    run = Run()
    run.getinfo = command.getinfo(dispatch_dir)
    run.getinfo_s = time.perf_counter() - command.started
    listed = list(chunks)
    started = time.perf_counter()
    for number, (rows, body) in enumerate(listed):
        command.send({"action": "execute", "finished": number == len(listed) - 1}, body)
        reply = command.receive()
        if number == 0:
            run.first_reply_s = time.perf_counter() - started
        run.rows += rows
        if keep:
            run.replies.append(reply)
    run.execute_s = time.perf_counter() - started
    command.close()
    after = os.times()
    run.cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return run
