"""What one search carries along: who asks, where it runs, what it may be told to stop."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .apps import Apps, CustomCommand
from .lookups import Lookups
from .runner import CommandProcess, Log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .events import EventStore


@dataclass
class RunConfig:
    """How commands are run; tests change it to see a command under other conditions.

    Parameters
    ----------
    chunk_rows
        Rows per chunk, limits.conf [searchresults] maxresultrows (facts/splunk_app.md 1.6).
    probes
        How many times each command is started just to plan (3-4 were seen, facts/splunk_app.md 1.2).
    preview
        Also run each command with `run_in_preview = true` in a preview first; "force" runs all in it.
    last_chunk
        "data": the last rows travel with finished=true (recordings of 6.3 and 8.0.3); "empty": a header-only
        chunk ends the stream (recordings of 8.2.1); "auto": "empty" for searches of an index, else "data".
    """

    chunk_rows: int = 50_000
    probes: int = 1
    preview: bool | str = False
    last_chunk: str = "auto"
    max_rows_command: int = 50_000


@dataclass
class SearchContext:
    search: str
    sid: str
    app: str
    owner: str
    username: str
    session_key: str
    splunkd_uri: str
    splunk_version: str
    dispatch_dir: Path
    config: RunConfig
    apps: Apps
    lookups: Lookups
    events: EventStore
    python: str
    environment: Mapping[str, str]
    splunk_home: Path
    now: float
    earliest: float = 0.0
    latest: float = 0.0
    log: Log = field(default_factory=Log)
    on_message: Callable[[str, str, bytes], None] | None = None
    may_run: Callable[[CustomCommand], bool] = lambda _: True
    is_preview: bool = False
    reads_index: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    finalized: threading.Event = field(default_factory=threading.Event)
    processes: set[CommandProcess] = field(default_factory=set)

    def cancel(self) -> None:
        self.cancelled.set()
        for process in list(self.processes):
            process.abort()
