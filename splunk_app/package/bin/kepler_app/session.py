"""What every command that talks to the service does at its first execute: settings, client, caller."""

from __future__ import annotations

import os
import time

from kepler_app import logs, settings
from kepler_app.chunks import Command
from kepler_app.errors import SearchError, in_search_words
from kepler_app.searchinfo import SearchInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kepler_app.client import Client


class ServiceCommand(Command):
    """A command with a search around it and, from its first execute on, a client."""

    def __init__(self) -> None:
        super().__init__()
        self.info = SearchInfo({})
        self._client: Client | None = None
        self._trace_id = ""
        self._phases: dict[str, float] = {}
        self._log: dict[str, Any] = {}
        self._began = 0.0

    def plan(self, metadata: dict[str, Any]) -> SearchInfo:
        """Keep what getinfo says."""
        self.info = SearchInfo(metadata)
        return self.info

    @property
    def client(self) -> Client:
        """The connection, made at first use: importing it costs more than planning a search."""
        if self._client is None:
            self._began = time.monotonic()
            found = settings.load(self.info)
            from kepler_app.client import Client

            self._client = Client(found)
            self._phases["connect"] = time.monotonic() - self._began
        return self._client

    def caller(self) -> Any:
        """The caller message of this search."""
        from kepler_app.client import caller

        self._trace_id = self._trace_id or os.urandom(16).hex()
        return caller(self.info, self._trace_id)

    def note(self, **keys: Any) -> None:
        """Keys for the log line that is written when the command ends."""
        self._log.update(keys)

    def timed(self, phase: str, began: float) -> None:
        """Add the seconds since ``began`` to ``phase``."""
        self._phases[phase] = self._phases.get(phase, 0.0) + time.monotonic() - began

    def say_notices(self, notices: Any) -> None:
        """Pass the service's notices on as messages of the search."""
        for notice in notices:
            self.say("WARN" if notice.level == notice.WARN else "INFO", in_search_words(notice.text))

    def report_crash(self, error: BaseException) -> str:
        crash_id = logs.crash(self.name, self.info.sid, error)
        return (
            f"{self.name} failed inside with error id {crash_id}. "
            f"Find the details with index=_internal source=*kepler.log* {crash_id} and report them."
        )

    def on_error(self, error: SearchError) -> None:
        logs.write("ERROR", "command.failed", command=self.name, sid=self.info.sid, user=self.info.user,
                   app=self.info.app, trace_id=self._trace_id, code=error.code, error=error.sentence, **self._log)  # fmt: skip

    def close(self) -> None:
        if self._client is None:
            return
        self._client.close()
        self._client = None
        seconds = {f"{phase}_s": value for phase, value in self._phases.items()}
        total = time.monotonic() - self._began
        logs.write("INFO", "command.done", command=self.name, sid=self.info.sid, user=self.info.user, app=self.info.app,
                   trace_id=self._trace_id, **self._log, **seconds, total_s=total)  # fmt: skip
