"""The HTTP Event Collector: events, metric data points, indexer acknowledgement, its error codes.

Sources: facts/observability_security.md section 1.5 (endpoints, reply codes, acknowledgement), limits.conf
[http_input] max_content_length. What has no source is listed in docs/reference/unverified-on-splunk.md.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .hec_faults import Fault, FaultPlan
from .http_server import RestServer
from .web import HangUp, Request, Response, json_response

if TYPE_CHECKING:
    from .splunkd import Splunkd

_GUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_METRIC = "metric_name:"
_JSON = json.JSONDecoder()

REPLIES = {
    0: (200, "Success"),
    1: (403, "Token disabled"),
    2: (401, "Token is required"),
    3: (401, "Invalid authorization"),
    4: (403, "Invalid token"),
    5: (400, "No data"),
    6: (400, "Invalid data format"),
    7: (400, "Incorrect index"),
    8: (500, "Internal server error"),
    9: (503, "Server is busy"),
    10: (400, "Data channel is missing"),
    11: (400, "Invalid data channel"),
    12: (400, "Event field is required"),
    13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"),
    17: (200, "HEC is healthy"),
    18: (503, "HEC is unhealthy, queues are full"),
}


class Refusal(Exception):
    """An answer with a code; `number` tells which event of the request it is about."""

    def __init__(self, code: int, number: int | None = None) -> None:
        super().__init__(REPLIES[code][1])
        self.code, self.number = code, number


def reply(code: int, **more: Any) -> Response:
    status, text = REPLIES[code]
    return json_response({"text": text, "code": code, **more}, status)


@dataclass
class HecToken:
    """An input: which indexes it may write to, and whether it acknowledges."""

    value: str
    default_index: str = "main"
    indexes: tuple[str, ...] = ()
    """Empty: all."""
    use_ack: bool = False
    disabled: bool = False
    acks: dict[str, dict[int, bool]] = field(default_factory=dict)
    """By channel; a status is forgotten once it has been read as true."""
    next_ack: int = 0


class Hec:
    """`splunkd.hec`: its own port beside the REST API's, opened by `start`."""

    def __init__(self, splunkd: Splunkd) -> None:
        self._splunkd = splunkd
        self.tokens: dict[str, HecToken] = {}
        self.faults = FaultPlan()
        self.down = False
        """Every connection ends without an answer."""
        self.is_blank: Callable[[Any], bool] | None = None
        """More events that are refused with code 13, for tests of a bad one among good ones."""
        self.max_content_bytes = 838_860_800
        self.ack_delay_s = 0.0
        self.posts = 0
        self.codes: Counter[int] = Counter()
        self.stored = 0
        self._pending: list[tuple[float, HecToken, str, int]] = []
        self._lock = threading.Lock()
        self._server: RestServer | None = None

    def start(self, host: str = "127.0.0.1", port: int = 0, *, tls: bool = False) -> Hec:
        self._server = RestServer(self._splunkd, host, port, tls=tls, dispatch=lambda _, r: self.handle(r))
        self._server.start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def url(self) -> str:
        if self._server is None:
            raise RuntimeError("HEC does not listen: call start() first.")
        return self._server.uri

    @property
    def ca_file(self) -> Any:
        made = self._server.certificate if self._server is not None else None
        return made.ca_file if made is not None else None

    def add_token(self, **settings: Any) -> str:
        """A new input; gives its token. Keywords are `HecToken`'s."""
        value = str(uuid.uuid4())
        self.tokens[value] = HecToken(value, **settings)
        return value

    # One request

    def handle(self, request: Request) -> Response:
        if self.down:
            raise HangUp
        try:
            response = self._route(request)
        except Refusal as refusal:
            more = {"invalid-event-number": refusal.number} if refusal.number is not None else {}
            response = reply(refusal.code, **more)
            self.codes[refusal.code] += 1
        return response

    def _route(self, request: Request) -> Response:
        path = request.path
        if path in ("collector/health", "collector/health/1.0"):
            return reply(17)
        token = self._token(request)
        if path == "collector/ack":
            return self._acks(token, request)
        if path not in ("collector", "collector/event", "collector/event/1.0"):
            return json_response(
                {"text": "The requested URL was not found on this server.", "code": 404}, 404
            )
        if len(request.body) > self.max_content_bytes:
            return json_response({"text": "Content-Length of is too large", "code": 27}, 413)
        channel = self._channel(token, request)
        return self._store(token, channel, _body(request))

    def _token(self, request: Request) -> HecToken:
        given = request.headers.get("authorization", "")
        if not given:
            raise Refusal(2)
        scheme, _, value = given.partition(" ")
        if scheme.lower() != "splunk" or not value:
            raise Refusal(3)
        token = self.tokens.get(value.strip())
        if token is None:
            raise Refusal(4)
        if token.disabled:
            raise Refusal(1)
        return token

    def _channel(self, token: HecToken, request: Request) -> str:
        channel = request.headers.get("x-splunk-request-channel", "") or dict(request.query).get(
            "channel", ""
        )
        if not channel:
            if token.use_ack:
                raise Refusal(10)
            return ""
        if not _GUID.fullmatch(channel):
            raise Refusal(11)
        return channel

    def _store(self, token: HecToken, channel: str, body: str) -> Response:
        with self._lock:
            self.posts += 1
        fault = self.faults.next()
        if fault is Fault.BUSY:
            response = reply(9)
            if self.faults.retry_after_s is not None:
                response.headers.append(("Retry-After", f"{self.faults.retry_after_s:g}"))
            return response
        if fault is Fault.ERROR:
            return reply(8)
        if fault in (Fault.HANG, Fault.DROP):
            time.sleep(self.faults.hang_s if fault is Fault.HANG else 0)
            raise HangUp
        # What stands before a bad event is taken, what stands after it is not.
        for number, event in enumerate(_events(body)):
            self._take(token, event, number, keep=fault is not Fault.LOST)
        if fault in (Fault.STORED_HANG, Fault.STORED_DROP):
            time.sleep(self.faults.hang_s if fault is Fault.STORED_HANG else 0)
            raise HangUp
        self.codes[0] += 1
        if not token.use_ack:
            return reply(0)
        with self._lock:
            ack_id = token.next_ack
            token.next_ack += 1
            token.acks.setdefault(channel, {})[ack_id] = False
            if fault not in (Fault.LOST, Fault.LOST_ACK):
                self._pending.append((time.monotonic() + self.ack_delay_s, token, channel, ack_id))
        return reply(0, ackId=ack_id)

    def _take(self, token: HecToken, event: Any, number: int, *, keep: bool) -> None:
        if not isinstance(event, dict):
            raise Refusal(6, number)
        if "event" not in event:
            raise Refusal(12, number)
        content = event["event"]
        if content == "" or content is None or (self.is_blank is not None and self.is_blank(content)):
            raise Refusal(13, number)
        index = event.get("index", token.default_index)
        known = self._splunkd.events.indexes
        if index not in known or (token.indexes and index not in token.indexes):
            raise Refusal(7, number)
        fields = event.get("fields", {})
        if not isinstance(fields, dict) or any(isinstance(v, dict) for v in fields.values()):
            raise Refusal(15, number)
        moment = event.get("time")
        try:
            time_s = None if moment is None else float(moment)
        except (TypeError, ValueError):
            raise Refusal(6, number) from None
        if not keep:
            return
        self.stored += 1
        if known[index] == "metric":
            self._take_metric(event, fields, index, time_s)
            return
        self._splunkd.events.add(
            content,
            index=index,
            time_s=time_s,
            host=str(event.get("host", "standin")),
            source=str(event.get("source", "http:standin")),
            sourcetype=str(event.get("sourcetype", "httpevent")),
            fields=fields,
        )

    def _take_metric(self, event: Any, fields: dict[str, Any], index: str, time_s: float | None) -> None:
        values = {k[len(_METRIC) :]: v for k, v in fields.items() if k.startswith(_METRIC)}
        if "metric_name" in fields and "_value" in fields:
            values[str(fields["metric_name"])] = fields["_value"]
        dims = {
            k: str(v)
            for k, v in fields.items()
            if not k.startswith(_METRIC) and k not in ("metric_name", "_value")
        }
        dims.update({k: str(event[k]) for k in ("host", "source", "sourcetype") if k in event})
        for name, value in values.items():
            self._splunkd.events.add_metric(name, float(value), index=index, time_s=time_s, dims=dims)

    def _acks(self, token: HecToken, request: Request) -> Response:
        if not token.use_ack:
            raise Refusal(14)
        channel = self._channel(token, request)
        try:
            asked = json.loads(_body(request))["acks"]
        except (ValueError, KeyError, TypeError):
            raise Refusal(6) from None
        now = time.monotonic()
        with self._lock:
            for due, owner, name, ack_id in self._pending:
                if due <= now and ack_id in owner.acks.get(name, {}):
                    owner.acks[name][ack_id] = True
            self._pending = [p for p in self._pending if p[0] > now]
            known = token.acks.get(channel, {})
            answer = {str(i): known.get(i, False) for i in asked}
            for i in asked:
                if known.get(i):
                    del known[i]
        return json_response({"acks": answer})


def _body(request: Request) -> str:
    body = request.body
    try:
        if request.headers.get("content-encoding", "").lower() == "gzip":
            body = zlib.decompress(body, wbits=31)
        return body.decode()
    except (zlib.error, UnicodeDecodeError):
        raise Refusal(6, 0) from None


def _events(body: str) -> Iterator[Any]:
    """Objects one after the other; white space between them is no matter."""
    position, number, end = 0, 0, len(body)
    while True:
        while position < end and body[position].isspace():
            position += 1
        if position >= end:
            break
        try:
            event, position = _JSON.raw_decode(body, position)
        except ValueError:
            raise Refusal(6, number) from None
        yield event
        number += 1
    if number == 0:
        raise Refusal(5)
