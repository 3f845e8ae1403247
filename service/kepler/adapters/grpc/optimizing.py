"""OptimizeVersion of ModelService: calibration rows in, a version for gateways out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor

from kepler.adapters.grpc.calls import principal
from kepler.adapters.grpc.convert import caller_from_proto, notice_to_proto, table_to_proto, version_to_proto
from kepler.adapters.storage.csv_slices import SliceReader, check_header
from kepler.core.errors import Cancelled, InvalidInput, Overloaded
from kepler.usecases.optimize import Optimized, OptimizeVersion
from kepler.v1 import models_pb2 as pb

MAX_BYTES = 64 * 2**20  # of calibration rows


class OptimizeCalls:
    """What `ModelServicer` hands the call to."""

    def __init__(self, uses: OptimizeVersion, pool: Executor) -> None:
        self._uses = uses
        self._pool = pool

    async def optimize(
        self, requests: AsyncIterator[pb.OptimizeVersionRequest]
    ) -> pb.OptimizeVersionResponse:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("kind") != "open":
            raise InvalidInput("The first message must say what to optimise", fix="Send `open` first.")
        message = first.open
        caller = caller_from_proto(message.caller, principal())
        loop = asyncio.get_running_loop()
        plan = await loop.run_in_executor(
            self._pool,
            lambda: self._uses.open(
                caller, message.model, message.target, dict(message.thresholds), dry_run=message.dry_run
            ),
        )
        columns = tuple(message.columns)
        if columns:
            check_header(columns)
        reader = SliceReader(columns, plan.fields, plan.manifest.number_fields) if columns else None
        slices = received = 0
        async for request in requests:
            kind = request.WhichOneof("kind")
            if kind == "end" and request.end.slices == slices:
                return _to_proto(await loop.run_in_executor(self._pool, plan.run))
            if kind != "rows":
                break
            if reader is None:
                raise InvalidInput("Rows came without their columns", fix="Name them in `open`.")
            slices += 1
            received += len(request.rows)
            if received > MAX_BYTES:
                raise Overloaded(
                    f"The rows are larger than {MAX_BYTES // 2**20} MB",
                    fix="A few thousand rows are enough: send a sample of them.",
                )
            rows, read = request.rows, reader
            await loop.run_in_executor(self._pool, lambda rows=rows, read=read: plan.add(read.read(rows)))
        raise Cancelled(
            f"The rows ended after {slices:,} slices without saying that they were complete",
            fix="Send them again; nothing was kept.",
        )


def _to_proto(done: Optimized) -> pb.OptimizeVersionResponse:
    best = done.chosen
    return pb.OptimizeVersionResponse(
        version=None if done.version is None else version_to_proto(done.version),
        method=best.method,
        agreement=best.agreement,
        report=table_to_proto(done.optimization.table()),
        thresholds=[
            pb.RefitThreshold(
                output=item.output, before=item.before, after=item.after, agreement=item.agreement
            )
            for item in best.thresholds
        ],
        calibrated_on=done.optimization.calibrated_on,
        notices=[notice_to_proto(notice) for notice in done.notices],
    )
