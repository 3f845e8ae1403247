"""Streams that send slices: a feed for gRPC's sending thread, and what comes back, read by the caller.

The opening goes first; slices follow only when the service has accepted it. A source that fails cancels
the call instead of closing it, so that the service never takes half the rows for all of them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from kepler.client.convert import opened_from_proto, scored_from_proto
from kepler.client.errors import error_from_rpc
from kepler.client.records import Opened, ScoredSlice
from kepler.core.errors import InternalError
from kepler.v1 import prediction_pb2

R = TypeVar("R")

WINDOW = 4
"""Slices sent and not yet answered: enough to keep the service busy, a bound on memory here."""


class Feed(Generic[R]):
    """Requests of one stream, consumed by gRPC's own thread."""

    def __init__(
        self,
        first: R,
        slices: Iterable[bytes],
        wrap: Callable[[bytes], R],
        *,
        last: Callable[[int], R] | None = None,
        window: int | None = None,
    ) -> None:
        self._first, self._slices, self._wrap, self._last = first, slices, wrap, last
        self._go, self._stopped = threading.Event(), False
        self._window = threading.Semaphore(window) if window else None
        self.sent: deque[bytes] = deque()
        self.failure: BaseException | None = None
        self.call: Any = None

    def __iter__(self) -> Iterator[R]:
        yield self._first
        self._go.wait()
        count = 0
        try:
            for text in self._slices:
                if self._window:
                    self._window.acquire()
                    self.sent.append(text)
                if self._stopped:
                    return
                yield self._wrap(text)
                count += 1
            if self._last is not None and not self._stopped:
                yield self._last(count)
        except Exception as error:  # belongs to the caller's thread, which raises it again
            self.failure = error
            self.call.cancel()

    def start(self) -> None:
        """The service accepted the opening: send the rows."""
        self._go.set()

    def answered(self) -> bytes:
        """Take the oldest slice that waits for its answer."""
        text = self.sent.popleft()
        if self._window:
            self._window.release()
        return text

    def stop(self) -> None:
        """Send nothing more and let the sending thread end."""
        self._stopped = True
        self._go.set()
        if self._window:
            self._window.release()


def failure_of(feed: Feed[Any] | None, error: grpc.RpcError, address: str) -> BaseException:
    """What to raise for ``error``: the source's own failure when it caused the call to end."""
    if feed is not None and feed.failure is not None:
        return feed.failure
    return error_from_rpc(error, address=address)


class ScoredStream:
    """Scored slices, in order, with the slices they answer.

    Iterate once: pairs of the sent slice (empty when none was sent) and a `ScoredSlice`. Leaving the
    ``with`` block early cancels the call.
    """

    def __init__(self, call: Any, feed: Feed[Any] | None, address: str) -> None:
        self._call, self._feed, self._address = call, feed, address
        try:
            first: prediction_pb2.PredictResponse = next(self._call)
        except StopIteration as error:
            self.close()
            raise InternalError("The service ended the stream without an answer") from error
        except grpc.RpcError as error:
            self.close()
            raise failure_of(feed, error, address) from error
        except BaseException:
            self.close()
            raise
        self.opened: Opened = opened_from_proto(first.opened)
        if feed:
            feed.start()

    def __iter__(self) -> Iterator[tuple[bytes, ScoredSlice]]:
        try:
            for response in self._call:
                slice_ = self._feed.answered() if self._feed else b""
                yield slice_, scored_from_proto(response.scored)
        except grpc.RpcError as error:
            raise failure_of(self._feed, error, self._address) from error
        finally:
            self.close()
        if self._feed and self._feed.sent:
            raise InternalError("The service ended the stream before it had answered every slice")

    def close(self) -> None:
        """End the call; nothing happens when it has ended."""
        if self._feed:
            self._feed.stop()
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
