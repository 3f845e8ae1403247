"""The messages of the chunked search command protocol, byte for byte as splunkd sends them.

Sources: facts/splunk_app.md 1.2-1.4; key order and spelling from the recordings of Splunk 8.2.1.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote as percent

# The reader of both splunklib and MLTK allows these spaces (facts/splunk_app.md 1.2).
HEADER = re.compile(rb"chunked\s+1.0\s*,\s*(\d+)\s*,\s*(\d+)\s*\n")


def frame(metadata: dict[str, Any], body: bytes = b"") -> bytes:
    """Header line, metadata without a trailing newline, body. Lengths are bytes."""
    data = json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")
    return b"chunked 1.0,%d,%d\n%s%s" % (len(data), len(body), data, body)


@dataclass(frozen=True)
class SearchInfo:
    """What splunkd tells a command about its search."""

    args: list[str]
    raw_args: list[str]
    dispatch_dir: str
    sid: str
    app: str
    owner: str
    username: str
    session_key: str
    splunkd_uri: str
    splunk_version: str
    search: str
    command: str
    maxresultrows: int = 50_000
    earliest_time: str = "0"
    latest_time: str = "0"
    preview: bool = False
    streaming_command_will_restart: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def getinfo(self) -> dict[str, Any]:
        """The metadata of the first message; `search` travels percent-encoded."""
        return {
            "action": "getinfo",
            "preview": self.preview,
            "streaming_command_will_restart": self.streaming_command_will_restart,
            "searchinfo": {
                "args": self.args,
                "raw_args": self.raw_args,
                "dispatch_dir": self.dispatch_dir,
                "sid": self.sid,
                "app": self.app,
                "owner": self.owner,
                "username": self.username,
                "session_key": self.session_key,
                "splunkd_uri": self.splunkd_uri,
                "splunk_version": self.splunk_version,
                "search": percent(self.search, safe=""),
                "command": self.command,
                "maxresultrows": self.maxresultrows,
                "earliest_time": self.earliest_time,
                "latest_time": self.latest_time,
                **self.extra,
            },
        }


def execute(finished: bool) -> dict[str, Any]:
    return {"action": "execute", "finished": finished}
