"""The spool into Splunk, as a client sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from kepler.v1 import common_pb2, hec_pb2, hec_pb2_grpc


@dataclass(frozen=True, slots=True)
class Spool:
    """What waits for one destination, and what became of the rest since the service started."""

    destination: str
    events: int
    bytes: int
    oldest_at: float
    dead_letters: int
    sent: int
    resent: int
    dropped: int
    failures: Mapping[str, int]
    problem: str


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that Splunk would not take."""

    id: int
    refused_at: float
    destination: str
    source: str
    code: int
    reason: str
    body: str


class SpoolCalls:
    """Calls of `HecService`; `unary` makes one and turns its errors into ours."""

    def __init__(
        self, channel: grpc.Channel, unary: Callable[[Any, Any], Any], caller: common_pb2.Caller
    ) -> None:
        self._stub = hec_pb2_grpc.HecServiceStub(channel)
        self._unary, self._caller = unary, caller

    def states(self) -> list[Spool]:
        return [_spool(s) for s in self._unary(self._stub.GetSpool, hec_pb2.GetSpoolRequest()).states]

    def flush(self, timeout_s: float = 10.0) -> tuple[bool, list[Spool]]:
        """Try now what waits; whether all was delivered within ``timeout_s``, 20 s at most."""
        answer = self._unary(self._stub.FlushSpool, hec_pb2.FlushSpoolRequest(timeout_s=timeout_s))
        return answer.empty, [_spool(s) for s in answer.states]

    def dead_letters(self, limit: int = 100, after: int = 0) -> list[RefusedEvent]:
        request = hec_pb2.ListDeadLettersRequest(page_size=limit, after_id=after)
        found = self._unary(self._stub.ListDeadLetters, request).dead_letters
        return [
            RefusedEvent(d.id, d.refused_at, d.destination, d.source, d.code, d.reason, d.body) for d in found
        ]

    def retry(self, ids: Sequence[int] = (), *, everything: bool = False) -> int:
        """Put refused events back into the spool; gives their number."""
        return self._unary(self._stub.RetryDeadLetters, self._choice(ids, everything)).count

    def delete(self, ids: Sequence[int] = (), *, everything: bool = False) -> int:
        """Forget refused events for good; gives their number."""
        return self._unary(self._stub.DeleteDeadLetters, self._choice(ids, everything)).count

    def _choice(self, ids: Sequence[int], everything: bool) -> hec_pb2.DeadLetterChoice:
        return hec_pb2.DeadLetterChoice(ids=ids, all=everything, caller=self._caller)


def _spool(s: hec_pb2.SpoolState) -> Spool:
    return Spool(
        s.destination, s.events, s.bytes, s.oldest_at, s.dead_letters, s.sent, s.resent, s.dropped,
        dict(s.failures), s.problem,
    )  # fmt: skip
