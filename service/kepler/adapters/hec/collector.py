"""One connection to Splunk's HTTP Event Collector, and what its answers mean."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kepler.core.errors import InvalidInput, NotFound
from kepler.settings_sections import is_loopback

MAX_REPLY_BYTES = 1 << 20
# About the data of a request: these events will never be taken as they are.
DATA_CODES = {5, 6, 12, 13, 15}
INDEX_CODE = 7
# About the token, the channel or the input's settings: events wait until somebody mends that.
SETTING_CODES = {1, 2, 3, 4, 10, 11, 14, 16, 21, 22}


class Verdict(Enum):
    """What to do after a POST."""

    TAKEN = "taken"
    RETRY = "retry"  # busy, broken, unreachable
    BLOCKED = "blocked"  # retried as well, but only a person can mend it
    REFUSED = "refused"  # for what is in it: to be taken apart


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, judged."""

    verdict: Verdict
    reason: str = ""  # a word for metrics
    text: str = ""
    code: int = -1  # the collector's, or the HTTP status
    ack_id: int | None = None
    bad_event: int | None = None  # which event of the request, from 0
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the collector is and how to prove it is the right one."""

    url: str
    ca_file: Path | None = None
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise InvalidInput(
                f"{self.url[:200]!r} is no address of an event collector",
                fix="Set hec.url like https://splunk.example.com:8088.",
            )
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise InvalidInput(
                "hec.url has no TLS", cause="The token would travel in the clear.", fix="Use https://."
            )


class Collector:
    """Posts events and asks for acknowledgements. Used by one thread; `close` may come from another.

    Parameters
    ----------
    token
        Asked for at each connection, so that a changed secret is used without a restart.
    channel
        A GUID of this sender; acknowledgements are counted within it.
    """

    def __init__(self, address: Address, token: Callable[[], str], channel: str) -> None:
        self._address, self._token, self._channel = address, token, channel
        parts = urlsplit(address.url)
        self._host, self._port = parts.hostname or "", parts.port or 8088
        self._root = parts.path.rstrip("/").removesuffix("/services/collector")
        self._tls = _context(address.ca_file) if parts.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes) -> Answer:
        """Send lines of events, compressed."""
        # Level 1: 90 % of what level 6 saves on such JSON, in a fifth of the time.
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        packed = packer.compress(body) + packer.flush()
        return self._call("/services/collector/event", packed, {"Content-Encoding": "gzip"})[0]

    def acknowledged(self, ack_ids: Sequence[int]) -> tuple[Answer, set[int]]:
        """Which of ``ack_ids`` are in the index by now."""
        answer, found = self._call(
            f"/services/collector/ack?channel={self._channel}",
            json.dumps({"acks": list(ack_ids)}).encode(),
            {},
        )
        acks = found.get("acks") if answer.verdict is Verdict.TAKEN else None
        if not isinstance(acks, dict):
            return answer, set()
        return answer, {int(key) for key, value in acks.items() if value is True and str(key).isdigit()}

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def _call(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, dict[str, Any]]:
        reused = self._connection is not None
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request(
                "POST",
                self._root + path,
                body,
                {
                    "Authorization": f"Splunk {self._token()}",
                    "X-Splunk-Request-Channel": self._channel,
                    "Content-Type": "application/json",
                    **headers,
                },
            )
            response = self._connection.getresponse()
            reply = response.read(MAX_REPLY_BYTES)
            if response.will_close or response.read(1):
                self.close()
        except TimeoutError:
            self.close()
            return Answer(Verdict.RETRY, "timeout", "Splunk did not answer in time"), {}
        except ssl.SSLCertVerificationError as error:
            self.close()
            return Answer(Verdict.BLOCKED, "certificate", f"Splunk's certificate: {error.verify_message}"), {}
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # A kept connection may have been closed by the other side while it was idle: no news about Splunk.
            reason = "stale-connection" if reused else "unreachable"
            return Answer(Verdict.RETRY, reason, f"{type(error).__name__}: {error}"[:300]), {}
        return judge(response.status, reply, response.getheader("Retry-After"))

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._address.timeout_s)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._address.timeout_s, context=self._tls
        )


def judge(status: int, reply: bytes, retry_after: str | None) -> tuple[Answer, dict[str, Any]]:
    """What an answer means, by the collector's code where there is one, else by the HTTP status."""
    found: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        parsed = json.loads(reply)
        found = parsed if isinstance(parsed, dict) else {}
    code = found.get("code")
    code = code if isinstance(code, int) and not isinstance(code, bool) else status
    text = str(found.get("text", "") or f"HTTP status {status}")[:300]
    if status == 200:
        ack_id = found.get("ackId")
        taken = Answer(Verdict.TAKEN, code=code, ack_id=ack_id if isinstance(ack_id, int) else None)
        return taken, found
    wait_s = _retry_after(retry_after)
    if status == 413:
        return Answer(Verdict.REFUSED, "too-large", text, 413), found
    if code in DATA_CODES or code == INDEX_CODE:
        number = found.get("invalid-event-number")
        bad = number if isinstance(number, int) and number >= 0 else None
        return Answer(
            Verdict.REFUSED, "index" if code == INDEX_CODE else "data", text, code, None, bad
        ), found
    if code in SETTING_CODES or status in (401, 403, 404, 407):
        return Answer(Verdict.BLOCKED, "settings", text, code, retry_after_s=wait_s), found
    reason = "busy" if status in (429, 503) else "error"
    return Answer(Verdict.RETRY, reason, text, code, retry_after_s=wait_s), found


def _retry_after(text: str | None) -> float:
    """Seconds; a date is rare here and its clock is another one, so it counts as nothing said."""
    try:
        return min(3600.0, max(0.0, float(text or 0)))
    except ValueError:
        return 0.0


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
    except FileNotFoundError as error:
        raise NotFound(f"The authority file {ca_file} does not exist", fix="Correct hec.ca_file.") from error
    except ssl.SSLError as error:
        raise InvalidInput(f"{ca_file} holds no PEM certificate", fix="Correct hec.ca_file.") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
