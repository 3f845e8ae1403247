"""What getinfo tells about the search, as plain values."""

from __future__ import annotations

from kepler_app.errors import SearchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _epoch(value: Any) -> float:
    """Seconds since the epoch; 0 for unbounded. Splunk sends text (8.2) or floats (8.0)."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 < seconds < 1e12 else 0.0


def _text(value: Any) -> str:
    """``value`` as text that can be sent on: JSON may hold half a surrogate pair, UTF-8 may not."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


class SearchInfo:
    """The search a command runs in."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        info = metadata.get("searchinfo")
        info = info if isinstance(info, dict) else {}

        def text(key: str) -> str:
            value = info.get(key)
            return _text(value) if isinstance(value, str) else ""

        self.preview = bool(metadata.get("preview", False))
        self.args = [_text(arg) for arg in info.get("args") or []]
        self.raw_args = [_text(arg) for arg in info.get("raw_args") or []] or self.args
        self.sid = text("sid")
        self.app = text("app") or "search"
        self.user = text("username") or text("owner")
        self.session_key = text("session_key")
        self.splunkd_uri = text("splunkd_uri")
        self.dispatch_dir = text("dispatch_dir")
        self.splunk_version = text("splunk_version")
        self._search = text("search")
        self.earliest = _epoch(info.get("earliest_time"))
        self.latest = _epoch(info.get("latest_time"))
        self._times = f"{info.get('earliest_time', '')} {info.get('latest_time', '')}"

    @property
    def search(self) -> str:
        """SPL text; splunkd percent-encodes it."""
        if "%" not in self._search:
            return self._search
        from urllib.parse import unquote

        return unquote(self._search)

    @property
    def realtime(self) -> bool:
        """Whether this is a real-time search: an ``rt_`` search id, or ``rt`` time bounds."""
        return self.sid.startswith("rt_") or self._times.startswith("rt") or " rt" in self._times

    def refuse_realtime(self, command: str) -> None:
        """Raise `SearchError` in a real-time search, which never ends and so never hands over all rows."""
        if self.realtime:
            raise SearchError(
                f"{command} does not run in real-time searches, whose rows never end. "
                "Use a time range with an end, for example the last 24 hours, and schedule the search."
            )
