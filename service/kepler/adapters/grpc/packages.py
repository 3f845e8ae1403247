"""ExportVersion and ImportVersion of ModelService: package bytes out and in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from kepler.adapters.grpc.calls import principal
from kepler.adapters.grpc.convert import caller_from_proto, version_to_proto
from kepler.core.errors import Cancelled, InvalidInput
from kepler.usecases.packages import Export, Import, MovePackages
from kepler.v1 import models_pb2 as pb

T = TypeVar("T")


class PackageCalls:
    """What `ModelServicer` hands the two calls to."""

    def __init__(self, moves: MovePackages, pool: Executor) -> None:
        self._moves = moves
        self._pool = pool

    async def export(
        self, request: pb.ExportVersionRequest
    ) -> AsyncGenerator[pb.ExportVersionResponse, None]:
        caller = caller_from_proto(request.caller, principal())
        run = _Worker(self._pool)
        package: Export | None = None
        try:
            package = await run(self._moves.export, caller, request.model)
            yield pb.ExportVersionResponse(
                opened=pb.ExportOpened(
                    version=version_to_proto(package.version),
                    size_bytes=package.size,
                    sha256=package.sha256,
                    key_id=package.key_id,
                )
            )
            chunks = package.chunks()
            while chunk := await run(lambda: next(chunks, b"")):
                yield pb.ExportVersionResponse(chunk=chunk)
        finally:
            package = package or await run.last()
            if package is not None:
                package.close()

    async def take(self, requests: AsyncIterator[pb.ImportVersionRequest]) -> pb.ImportVersionResponse:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("kind") != "open":
            raise InvalidInput("The first message of an import must be `open`", fix="Send `open` first.")
        caller = caller_from_proto(first.open.caller, principal())
        run = _Worker(self._pool)
        package: Import | None = None
        try:
            package = await run(self._moves.open, caller, first.open.into)
            async for request in requests:
                kind = request.WhichOneof("kind")
                if kind == "chunk":
                    await run(package.write, request.chunk)
                elif kind == "end":
                    taken = await run(package.finish, request.end.size_bytes, request.end.sha256)
                    return pb.ImportVersionResponse(
                        version=version_to_proto(taken.version),
                        origin=taken.origin.full_name,
                        key_id=taken.origin.key_id,
                    )
                else:
                    raise InvalidInput(
                        "An import holds one `open`, then chunks, then one `end`", fix="Send them in order."
                    )
            raise Cancelled(
                "The package ended without saying that it was complete",
                cause="Its sender was stopped or the connection broke.",
                fix="Import it again; nothing was kept.",
            )
        finally:
            opened = await run.last()
            package = package or opened
            if package is not None:
                await asyncio.get_running_loop().run_in_executor(self._pool, package.close)


class _Worker:
    """Calls in threads, one after the other.

    Shielded: a thread cannot be stopped, and what it does must be over before anything is dropped.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._work: asyncio.Future[Any] | None = None

    async def __call__(self, function: Callable[..., T], *arguments: Any) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        self._work = future
        return await asyncio.shield(future)

    async def last(self) -> Any:
        """Wait for the last call; gives its result, None where there is none."""
        if self._work is None:
            return None
        await asyncio.wait({self._work})
        return None if self._work.cancelled() or self._work.exception() else self._work.result()
