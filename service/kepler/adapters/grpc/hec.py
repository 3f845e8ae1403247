"""HecService: convert in, call one use case, convert out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from kepler.adapters.grpc.calls import principal
from kepler.adapters.grpc.convert import caller_from_proto
from kepler.ports.hec import DeadLetter, SpoolState
from kepler.usecases.spool import ManageSpool
from kepler.v1 import hec_pb2

T = TypeVar("T")


class HecServicer:
    def __init__(self, manage: ManageSpool, pool: Executor) -> None:
        self._manage, self._pool = manage, pool

    async def GetSpool(self, _: hec_pb2.GetSpoolRequest) -> hec_pb2.GetSpoolResponse:
        return hec_pb2.GetSpoolResponse(states=await self._run(self._states))

    async def FlushSpool(self, request: hec_pb2.FlushSpoolRequest) -> hec_pb2.FlushSpoolResponse:
        empty = await self._run(lambda: self._manage.flush(request.timeout_s))
        return hec_pb2.FlushSpoolResponse(empty=empty, states=await self._run(self._states))

    async def ListDeadLetters(
        self, request: hec_pb2.ListDeadLettersRequest
    ) -> hec_pb2.ListDeadLettersResponse:
        found = await self._run(lambda: self._manage.dead_letters(request.page_size, request.after_id))
        return hec_pb2.ListDeadLettersResponse(dead_letters=[letter_to_proto(letter) for letter in found])

    async def RetryDeadLetters(self, request: hec_pb2.DeadLetterChoice) -> hec_pb2.DeadLetterCount:
        caller = caller_from_proto(request.caller, principal())
        ids = list(request.ids)
        count = await self._run(lambda: self._manage.retry(caller, ids, everything=request.all))
        return hec_pb2.DeadLetterCount(count=count)

    async def DeleteDeadLetters(self, request: hec_pb2.DeadLetterChoice) -> hec_pb2.DeadLetterCount:
        caller = caller_from_proto(request.caller, principal())
        ids = list(request.ids)
        count = await self._run(lambda: self._manage.delete(caller, ids, everything=request.all))
        return hec_pb2.DeadLetterCount(count=count)

    def _states(self) -> list[hec_pb2.SpoolState]:
        return [state_to_proto(state) for state in self._manage.states()]

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def state_to_proto(state: SpoolState) -> hec_pb2.SpoolState:
    return hec_pb2.SpoolState(
        destination=state.destination.value,
        events=state.events,
        bytes=state.bytes,
        oldest_at=state.oldest_at,
        dead_letters=state.dead,
        sent=state.sent,
        resent=state.resent,
        dropped=state.dropped,
        failures=dict(state.failures),
        problem=state.problem,
    )


def letter_to_proto(letter: DeadLetter) -> hec_pb2.DeadLetter:
    return hec_pb2.DeadLetter(
        id=letter.id,
        refused_at=letter.at,
        destination=letter.destination.value,
        source=letter.source,
        code=letter.code,
        reason=letter.reason,
        body=letter.body,
    )
