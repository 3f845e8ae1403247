"""The streams of one search: rows up and new columns back, rows up into a training, predictions read back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from grpclib.client import StreamStreamMethod, StreamUnaryMethod, UnaryStreamMethod
from grpclib.exceptions import GRPCError, StreamTerminatedError

from kepler.v1 import jobs_pb2, prediction_pb2, training_pb2
from kepler_app.client import CALL_TIMEOUT_S, CONNECT_TIMEOUT_S, Client
from kepler_app.errors import SearchError
from kepler_app.rows import Appender, Slice, fragments

T = TypeVar("T")
IN_FLIGHT = 4  # slices sent and not answered: enough to keep both sides busy, some 6 MB
CHUNK_TIMEOUT_S = 600.0
OPEN_TIMEOUT_S = 60.0
QUEUED_SLICES = 8
_ABANDON_TIMEOUT_S = 2.0


class _Stream(Generic[T]):
    """A gRPC stream that is opened in one blocking call and used in others."""

    def __init__(self, client: Client, method: Any) -> None:
        self.client = client
        self._method = method
        self._stream: Any = None
        self._open = False

    def _opened(self, work: Callable[[], Any], timeout_s: float) -> Any:
        """Run ``work``, which opens the stream; on another one when the service did nothing with the first."""

        def attempt() -> Any:
            self._open = False
            self._stream = self._method.open(metadata=self.client.bearer.metadata())
            return self.client.run(self._guarded(work()), timeout_s)

        return self.client.insist(attempt)

    async def _start(self) -> None:
        await asyncio.wait_for(self.client.channel.__connect__(), CONNECT_TIMEOUT_S)
        await self._stream.__aenter__()
        self._open = True
        await self._stream.send_request()

    async def _fail(self, error: BaseException) -> BaseException:
        """The status behind ``error``, if the service sent one before it closed the stream."""
        if not self._open:
            return error
        self._open = False
        ended = StreamTerminatedError("ended early")
        try:
            await self._stream.__aexit__(StreamTerminatedError, ended, None)
        except Exception as status:
            return status
        return error

    async def _guarded(self, work: Any) -> Any:
        try:
            return await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise await self._fail(error) from error

    async def _receive(self) -> T:
        """Next message; an end before it is the service's error, or a broken promise."""
        message = await self._stream.recv_message()
        if message is None:
            raise StreamTerminatedError("ended early")
        return message  # type: ignore[no-any-return]

    async def _finish(self) -> None:
        """Wait for the service's final status; raises what it says."""
        if self._open:
            self._open = False
            await self._stream.__aexit__(None, None, None)


class Chunk:
    """The slices of one chunk. What was answered stays so when the rest has to go over another stream.

    Parameters
    ----------
    slices
        In order; taken one by one.
    appender
        Joins the new columns to their records.
    """

    def __init__(self, slices: Iterable[Slice], appender: Appender) -> None:
        self._slices = iter(slices)
        self._appender = appender
        self._unanswered: deque[Slice] = deque()
        self.parts: list[bytes] = []  # records with the new columns, one part per slice
        self.rows = 0  # in them

    def unsent(self) -> Iterator[Slice]:
        """Slices for a new stream: those that an earlier one did not answer, then the others."""
        yield from tuple(self._unanswered)
        for slice_ in self._slices:
            self._unanswered.append(slice_)
            yield slice_

    def answer(self, scored: prediction_pb2.Scored) -> None:
        """Join the answer to the oldest slice that waits for one."""
        slice_ = self._unanswered[0]
        if scored.rows != len(slice_.records):
            raise SearchError(
                f"The service read {scored.rows:,} rows where {len(slice_.records):,} were sent; "
                "a row holds a stray quote or carriage return.",
                "InternalError",
            )
        new = fragments(scored.values, len(slice_.records), scored.one_line_per_row)
        self.parts.append(self._appender.append(slice_, new))
        self.rows += scored.rows
        self._unanswered.popleft()


def ended_idle(error: SearchError) -> bool:
    """Whether the service, and no clock of ours, ended a stream on which nothing came for too long."""
    return error.code == "TimedOut" and isinstance(error.__cause__, GRPCError)


class PredictStream(_Stream[prediction_pb2.PredictResponse]):
    """Slices up, new columns back, in order."""

    def __init__(self, client: Client) -> None:
        method: Any = StreamStreamMethod(
            client.channel,
            "/kepler.v1.PredictionService/Predict",
            prediction_pb2.PredictRequest,
            prediction_pb2.PredictResponse,
        )
        super().__init__(client, method)
        self.notices: list[Any] = []

    def open(self, request: prediction_pb2.PredictOpen) -> prediction_pb2.PredictOpened:
        """Name model and columns; gives what the service resolved."""

        async def work() -> prediction_pb2.PredictOpened:
            await self._start()
            await self._stream.send_message(prediction_pb2.PredictRequest(open=request))
            return (await self._receive()).opened

        opened: prediction_pb2.PredictOpened = self._opened(work, OPEN_TIMEOUT_S)
        self.notices.extend(opened.notices)
        return opened

    def score(self, chunk: Chunk) -> None:
        """Score what is unanswered of ``chunk``; slices are sent while others return."""
        self.client.run(self._guarded(self._score(chunk)), CHUNK_TIMEOUT_S)

    async def _score(self, chunk: Chunk) -> None:
        sent: asyncio.Queue[Slice | None] = asyncio.Queue()
        room = asyncio.Semaphore(IN_FLIGHT)

        async def send() -> None:
            try:
                for slice_ in chunk.unsent():
                    await room.acquire()
                    sent.put_nowait(slice_)
                    await self._stream.send_message(prediction_pb2.PredictRequest(rows=slice_.raw))
            finally:
                sent.put_nowait(None)

        sender = asyncio.ensure_future(send())
        try:
            while True:
                slice_ = await sent.get()
                if slice_ is None:
                    break
                scored = (await self._receive()).scored
                room.release()
                chunk.answer(scored)
                self.notices.extend(scored.notices)
            await sender
        finally:
            sender.cancel()

    def finish(self) -> None:
        """End the stream in good order."""

        async def work() -> None:
            await self._stream.end()
            await self._finish()

        if self._open:
            self.client.run(self._guarded(work()))


class TrainUpload(_Stream[training_pb2.TrainResponse]):
    """Rows of a training, sent in the background while Splunk prepares the next chunk."""

    def __init__(self, client: Client) -> None:
        method: Any = StreamStreamMethod(
            client.channel,
            "/kepler.v1.TrainingService/Train",
            training_pb2.TrainRequest,
            training_pb2.TrainResponse,
        )
        super().__init__(client, method)
        self._queue: asyncio.Queue[bytes | None] | None = None
        self._sender: asyncio.Future[None] | None = None
        self._sent = 0

    def open(self, request: training_pb2.TrainOpen) -> training_pb2.TrainAccepted:
        """Have the request checked; rows may follow."""

        async def work() -> training_pb2.TrainAccepted:
            await self._start()
            # A dry run has no rows: the service ends it with its first answer.
            only = request.options.dry_run
            await self._stream.send_message(training_pb2.TrainRequest(open=request), end=only)
            accepted = (await self._receive()).accepted
            self._queue = asyncio.Queue(QUEUED_SLICES)
            self._sender = asyncio.ensure_future(self._send())
            return accepted

        return self._opened(work, OPEN_TIMEOUT_S)  # type: ignore[no-any-return]

    async def _send(self) -> None:
        assert self._queue is not None
        while True:
            raw = await self._queue.get()
            if raw is None:
                return
            await self._stream.send_message(training_pb2.TrainRequest(rows=raw))
            self._sent += 1

    async def _put(self, raw: bytes | None) -> None:
        """Queue ``raw``, or raise what ended the sender."""
        assert self._queue is not None
        assert self._sender is not None
        put = asyncio.ensure_future(self._queue.put(raw))
        await asyncio.wait({put, self._sender}, return_when=asyncio.FIRST_COMPLETED)
        # A full queue nobody empties any more would hold even the mark of its end for ever.
        if self._sender.done() and (raw is not None or not put.done()):
            put.cancel()
            self._sender.result()
        await put

    def send(self, raw: bytes) -> None:
        """Queue one slice; blocks while too many wait."""
        self.client.run(self._guarded(self._put(raw)), CHUNK_TIMEOUT_S)

    def abandon(self) -> None:
        """Have the service throw the rows away: without `end` it trains on nothing."""

        async def work() -> None:
            if self._sender is not None:
                self._sender.cancel()
            await self._stream.end()
            await self._receive()

        if self._open:
            self.client.run(self._guarded(work()), _ABANDON_TIMEOUT_S)

    def finish(self) -> training_pb2.TrainQueued:
        """Close our side; gives the job once rows and job are on the service's disk."""

        async def work() -> training_pb2.TrainQueued:
            assert self._sender is not None
            await self._put(None)
            await self._sender
            ended = training_pb2.TrainEnd(slices=self._sent)
            await self._stream.send_message(training_pb2.TrainRequest(end=ended), end=True)
            queued = (await self._receive()).queued
            await self._finish()
            return queued

        return self.client.run(self._guarded(work()), CHUNK_TIMEOUT_S)  # type: ignore[no-any-return]


class _Replies(_Stream[T]):
    """What the service sends in answer to one request."""

    def __init__(self, client: Client, path: str, request: Any, reply_type: type) -> None:
        method: Any = UnaryStreamMethod(client.channel, path, type(request), reply_type)
        super().__init__(client, method)
        self._request = request

    async def _next(self) -> T | None:
        message = await self._stream.recv_message()
        if message is None:
            await self._finish()
        return message  # type: ignore[no-any-return]

    async def _first(self) -> T | None:
        await asyncio.wait_for(self.client.channel.__connect__(), CONNECT_TIMEOUT_S)
        await self._stream.__aenter__()
        self._open = True
        await self._stream.send_message(self._request, end=True)
        return await self._next()

    def next(self, timeout_s: float) -> T | None:
        """Next reply; None at the end."""
        if not self._open:
            return self._opened(self._first, timeout_s)  # type: ignore[no-any-return]
        return self.client.run(self._guarded(self._next()), timeout_s)  # type: ignore[no-any-return]

    def cancel(self) -> None:
        """Tell the service that nobody listens any more."""

        async def work() -> None:
            await self._fail(StreamTerminatedError("no longer needed"))  # resets what is still open

        self.client.run(work(), 5)


def predictions(client: Client, request: jobs_pb2.GetJobRequest) -> Iterator[prediction_pb2.PredictResponse]:
    """What a finished job computed for its own rows: `opened`, then `scored` slices."""
    replies: _Replies[prediction_pb2.PredictResponse] = _Replies(
        client, "/kepler.v1.TrainingService/ReadPredictions", request, prediction_pb2.PredictResponse
    )
    while True:
        reply = replies.next(CHUNK_TIMEOUT_S)
        if reply is None:
            return
        yield reply


def watch(client: Client, request: jobs_pb2.GetJobRequest) -> _Replies[jobs_pb2.Job]:
    """The job whenever it changes, until its final state."""
    return _Replies(client, "/kepler.v1.JobService/WatchJob", request, jobs_pb2.Job)


class ScoreUpload(_Stream[prediction_pb2.ScoreResponse]):
    """Rows up, one table back."""

    def __init__(self, client: Client) -> None:
        method: Any = StreamUnaryMethod(
            client.channel,
            "/kepler.v1.PredictionService/Score",
            prediction_pb2.ScoreRequest,
            prediction_pb2.ScoreResponse,
        )
        super().__init__(client, method)

    def open(self, request: prediction_pb2.ScoreOpen) -> None:
        async def work() -> None:
            await self._start()
            await self._stream.send_message(prediction_pb2.ScoreRequest(open=request))

        self._opened(work, OPEN_TIMEOUT_S)

    def send(self, raw: bytes) -> None:
        work = self._stream.send_message(prediction_pb2.ScoreRequest(rows=raw))
        self.client.run(self._guarded(work), CHUNK_TIMEOUT_S)

    def finish(self) -> prediction_pb2.ScoreResponse:
        async def work() -> prediction_pb2.ScoreResponse:
            await self._stream.end()
            reply = await self._receive()
            await self._finish()
            return reply

        return self.client.run(self._guarded(work()), CALL_TIMEOUT_S * 4)  # type: ignore[no-any-return]
