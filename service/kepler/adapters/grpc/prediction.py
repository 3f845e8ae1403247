"""PredictionService: rows in, new columns out."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from kepler.adapters.grpc.calls import principal
from kepler.adapters.grpc.convert import (
    caller_from_proto,
    notice_to_proto,
    options_from_proto,
    table_to_proto,
)
from kepler.adapters.storage.arrow_rows import render_outputs
from kepler.adapters.storage.csv_slices import SliceReader
from kepler.core.errors import InvalidInput, Overloaded
from kepler.core.records import RecordBatch
from kepler.ports.security import Principal
from kepler.ports.serving import LoadedModel
from kepler.usecases.predict import Prediction, PredictRows
from kepler.usecases.score import ScoreOrder, ScoreRows
from kepler.v1 import prediction_pb2 as pb

_SCORINGS = 2  # at once; each holds its rows in memory until they are compared
# A slice so small, for a model whose last one took so little of a processor, is scored where it is: the way
# to another thread and back costs more than the work. A model that then held up the others goes back.
_INLINE_BYTES = 4096
_INLINE_FIELDS = 256  # of the model; an `open` for more is handled in a thread even where all is at hand
_INLINE_BUSY_S = 0.001
_INLINE_HELD_S = 0.01
# Large slices of one stream are scored side by side: a single search uses both cores, in order and bounded.
_AHEAD_BYTES = 128 * 1024
_AHEAD = 2


class PredictMetrics(Protocol):
    """Where scored rows and open streams are counted (adapters.telemetry)."""

    def rows_scored(self, model: str, rows: int, seconds: float) -> None: ...

    def stream_opened(self) -> None: ...

    def stream_closed(self) -> None: ...


@dataclass(slots=True)
class _Stream:
    prediction: Prediction
    reader: SliceReader

    def timed(self, rows: bytes) -> tuple[pb.Scored, float]:
        """`score` and its processor seconds: waiting for other threads is no sign of a slow model."""
        started = time.thread_time()
        return self.score(rows), time.thread_time() - started

    def score(self, rows: bytes) -> pb.Scored:
        """CPU work of one slice. In the pool Arrow and ONNX Runtime release the GIL."""
        batch = self.reader.read(rows)
        scoring = self.prediction.score(batch)
        values, one_line = render_outputs(scoring, batch.n_rows)
        return pb.Scored(
            rows=batch.n_rows,
            values=values,
            one_line_per_row=one_line,
            notices=[notice_to_proto(notice) for notice in scoring.notices],
        )


class PredictionServicer:
    """Scores in a bounded pool; a stream has at most `_AHEAD` slices in work, so a slow reader holds no memory."""

    def __init__(
        self,
        predict: PredictRows,
        score: ScoreRows,
        pool: Executor,
        *,
        max_streams: int,
        loading: Executor | None = None,
        score_bytes: int = 256 * 2**20,
        metrics: PredictMetrics | None = None,
    ) -> None:
        self._predict = predict
        self._score = score
        self._pool = pool
        self._max_streams = max_streams
        self._streams = 0
        self._scorings = 0
        # Reading a model from disk takes as long as it takes: not in the threads that score for others.
        self._loading = loading or pool
        self._score_bytes = score_bytes
        self._metrics = metrics
        self._quick: weakref.WeakSet[LoadedModel] = weakref.WeakSet()

    async def Predict(
        self, requests: AsyncIterator[pb.PredictRequest]
    ) -> AsyncGenerator[pb.PredictResponse, None]:
        if self._streams >= self._max_streams:
            raise Overloaded(
                f"The service serves {self._max_streams} prediction streams already",
                fix="Run the search again in a moment, or raise KEPLER_PREDICT__MAX_STREAMS.",
                retry_after_s=1,
            )
        self._streams += 1
        if self._metrics:
            self._metrics.stream_opened()
        try:
            first = await anext(requests, None)
            if first is None or first.WhichOneof("kind") != "open":
                raise InvalidInput(
                    "The first message of a prediction must say which model", fix="Send `open` first."
                )
            loop = asyncio.get_running_loop()
            stream, opened = await self._opened(first.open, principal())
            model = stream.prediction.model
            yield pb.PredictResponse(opened=opened)
            if opened.signature_changed:
                return
            async for request in requests:
                if request.WhichOneof("kind") != "rows":
                    raise InvalidInput("A prediction stream holds one `open` and then rows", fix="Send rows.")
                if len(request.rows) >= _AHEAD_BYTES:
                    async with contextlib.aclosing(self._score_ahead(stream, request, requests)) as responses:
                        async for response in responses:
                            yield response
                    return
                started = loop.time()
                scored = self._score_here(stream, request.rows)
                if scored is None:
                    scored = await self._score_there(stream, request.rows)
                if self._metrics:
                    self._metrics.rows_scored(model.full_name, scored.rows, loop.time() - started)
                yield pb.PredictResponse(scored=scored)
        finally:
            self._streams -= 1
            if self._metrics:
                self._metrics.stream_closed()

    def _score_here(self, stream: _Stream, rows: bytes) -> pb.Scored | None:
        """Score a small slice of a quick model in the event loop; None for any other."""
        if len(rows) > _INLINE_BYTES or stream.prediction.model not in self._quick:
            return None
        started = time.perf_counter()
        scored = stream.score(rows)
        if time.perf_counter() - started > _INLINE_HELD_S:
            self._quick.discard(stream.prediction.model)
        return scored

    async def _score_there(self, stream: _Stream, rows: bytes) -> pb.Scored:
        """Score a slice in the pool, and learn whether the model is quick."""
        scored, busy_s = await asyncio.get_running_loop().run_in_executor(self._pool, stream.timed, rows)
        if busy_s <= _INLINE_BUSY_S:
            self._quick.add(stream.prediction.model)
        return scored

    async def _score_ahead(
        self, stream: _Stream, request: pb.PredictRequest, rest: AsyncIterator[pb.PredictRequest]
    ) -> AsyncGenerator[pb.PredictResponse, None]:
        """Score ``request`` and what follows, the next slice while the last one is still in work."""
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(_AHEAD)
        work: asyncio.Queue[asyncio.Future[tuple[pb.Scored, float]] | Exception | None] = asyncio.Queue()

        async def submit(request: pb.PredictRequest) -> None:
            if request.WhichOneof("kind") != "rows":
                raise InvalidInput("A prediction stream holds one `open` and then rows", fix="Send rows.")
            await room.acquire()
            work.put_nowait(loop.run_in_executor(self._pool, stream.timed, request.rows))

        async def read() -> None:
            try:
                await submit(request)
                async for following in rest:
                    await submit(following)
            except Exception as error:  # raised again in order, after the slices before it
                work.put_nowait(error)
            else:
                work.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            while (item := await work.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                scored, busy_s = await item
                room.release()
                if self._metrics:
                    self._metrics.rows_scored(stream.prediction.model.full_name, scored.rows, busy_s)
                yield pb.PredictResponse(scored=scored)
        finally:
            reader.cancel()
            left = [work.get_nowait() for _ in range(work.qsize())]
            await asyncio.gather(
                reader, *(item for item in left if isinstance(item, asyncio.Future)), return_exceptions=True
            )

    async def PredictRows(self, request: pb.PredictRowsRequest) -> pb.PredictRowsResponse:
        opening = pb.PredictOpen(
            caller=request.caller, model=request.model, columns=request.columns, options=request.options
        )
        stream, opened = await self._opened(opening, principal())
        scored = self._score_here(stream, request.rows)
        if scored is None:
            scored = await self._score_there(stream, request.rows)
        return pb.PredictRowsResponse(opened=opened, scored=scored)

    async def Score(self, requests: AsyncIterator[pb.ScoreRequest]) -> pb.ScoreResponse:
        if self._scorings >= _SCORINGS:
            raise Overloaded(
                f"The service runs {_SCORINGS} scorings already",
                fix="Run the search again in a moment.",
                retry_after_s=5,
            )
        self._scorings += 1
        try:
            return await self._score_stream(requests)
        finally:
            self._scorings -= 1

    async def _score_stream(self, requests: AsyncIterator[pb.ScoreRequest]) -> pb.ScoreResponse:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("kind") != "open":
            raise InvalidInput(
                "The first message of a scoring must say which fields", fix="Send `open` first."
            )
        message = first.open
        order = ScoreOrder(
            columns=tuple(message.columns),
            methods=tuple(message.methods),
            actual=tuple(message.actual),
            predicted=tuple(message.predicted),
            by=tuple(message.by),
            params=dict(message.params),
        )
        loop = asyncio.get_running_loop()
        plan = await loop.run_in_executor(self._loading, self._score.open, order)
        reader = SliceReader(order.columns, plan.fields, frozenset())
        batches: list[RecordBatch] = []
        received = 0
        async for request in requests:
            received += len(request.rows)
            if received > self._score_bytes:
                raise Overloaded(
                    f"The rows to score are larger than {self._score_bytes // 2**20} MB",
                    fix="Keep only the compared fields with `fields`, or raise KEPLER_PREDICT__SCORE_MB.",
                )
            batches.append(await loop.run_in_executor(self._pool, reader.read, request.rows))
        result = await loop.run_in_executor(self._pool, plan.run, batches)
        return pb.ScoreResponse(
            table=table_to_proto(result.table), notices=[notice_to_proto(notice) for notice in result.notices]
        )

    async def _opened(self, message: pb.PredictOpen, who: Principal) -> tuple[_Stream, pb.PredictOpened]:
        """What `_open` gives: at once where the model is known and warm, else from the threads that load."""
        found = None
        if message.ByteSize() <= _INLINE_BYTES:
            found = self._open(message, who, at_hand=True)
        if found is None:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._loading, self._open, message, who)
        assert found is not None
        return found

    def _open(
        self, message: pb.PredictOpen, who: Principal, at_hand: bool = False
    ) -> tuple[_Stream, pb.PredictOpened] | None:
        """The stream that ``message`` asks for; None if only what is ``at_hand`` counts and it is not there."""
        caller = caller_from_proto(message.caller, who)
        options = options_from_proto(message.options)
        columns = tuple(message.columns)
        find = self._predict.recall if at_hand else self._predict.open
        prediction = find(caller, message.model, columns, options, message.signature)
        if prediction is None or (at_hand and len(prediction.model.required_fields) > _INLINE_FIELDS):
            return None
        model = prediction.model
        opened = pb.PredictOpened(
            model=model.full_name,
            signature=model.signature,
            required_fields=model.required_fields,
            output_columns=prediction.output_columns,
            signature_changed=prediction.signature_changed,
        )
        return _Stream(prediction, SliceReader(columns, model.required_fields, model.number_fields)), opened
