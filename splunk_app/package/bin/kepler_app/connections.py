"""HTTP/2 connections that a service may send away without ending what runs on them.

A server that stops, or finds a connection too old, says GOAWAY with NO_ERROR: "open no more streams here; those
that are open go on" (RFC 9113, 6.8). h2 4.x and grpclib 0.4.8 close the socket at once instead, which would end
a search in mid-stream. Here such a connection drains: it takes no new streams, so the channel makes a new one for
the next call, and it closes when its last stream has ended. Every other GOAWAY is left to grpclib. A stream that the service ends is read to its end, too.

What is reached into, and tested against the pinned releases: h2's ``_frame_dispatch_table`` and grpclib's
``H2Protocol.processor``, ``EventsProcessor.register``, ``process_stream_reset`` and ``Handler.connection_lost``.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from grpclib.client import Channel, Handler
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import EventsProcessor, H2Protocol
from h2.errors import ErrorCodes
from h2.events import StreamReset
from hyperframe.frame import GoAwayFrame

_LAST_WORDS_S = 0.05  # ample: what has arrived is read in one turn of the loop


class Unprocessed(StreamTerminatedError):
    """The service has not looked at the call and never will: it may be made again on another connection."""


class NoWelcome(StreamTerminatedError):
    """The service closed the connection after the TLS handshake, without a word.

    Under TLS 1.3 the client's side of the handshake ends before the server has looked at its certificate, and
    gRPC servers send no alert when they miss or refuse one.
    """


class _Processor(EventsProcessor):
    """Events of one connection, which may drain."""

    last_stream_id: int | None = None  # of those the service goes on with; None while all is well

    def register(self, stream: Any) -> Any:
        if self.last_stream_id is not None and stream.id > self.last_stream_id:
            # It waited for room to write while the connection was sent away.
            raise Unprocessed("the connection takes no new streams")
        release = super().register(stream)

        def released() -> None:
            release()
            self.close_when_drained()

        return released

    def drain(self, last_stream_id: int) -> None:
        """Take no new streams. A server may say so twice: its first word names the highest number there is."""
        self.last_stream_id = last_stream_id
        self.handler.close()  # only marks the connection, so that the channel makes another
        for number, stream in self.streams.items():
            if number > last_stream_id:
                _end(stream, Unprocessed("the service did not take the call"))

    def process_stream_reset(self, event: StreamReset) -> None:
        """A server that ends a stream before we do sends its status and then resets the stream.

        grpclib would wake the readers at once with an error, and what came before the status would be lost.
        """
        stream = self.streams.get(event.stream_id)
        if stream is not None and event.remote_reset and stream.trailers is not None:
            asyncio.get_running_loop().call_later(_LAST_WORDS_S, super().process_stream_reset, event)
        else:
            super().process_stream_reset(event)

    def close_when_drained(self) -> None:
        if self.last_stream_id is not None and not self.streams:
            self.close("Connection drained")

    def lose(self, error: Exception) -> None:
        """End all streams with ``error``, which says more than that the connection is lost."""
        for stream in self.streams.values():
            _end(stream, error)


def _end(stream: Any, error: Exception) -> None:
    """Raise ``error`` in what waits on ``stream``; what happens to the connection next must not replace it."""
    if stream.wrapper is not None:
        stream.wrapper.cancel(error)
        stream.wrapper = None


class DrainingProtocol(H2Protocol):
    """`H2Protocol` that tells a drain from an end."""

    transport: Any = None
    heard = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.processor: _Processor = _Processor(self.handler, self.connection)
        self.transport = transport
        frames = self.connection._connection._frame_dispatch_table
        abrupt = frames[GoAwayFrame]

        def going_away(frame: GoAwayFrame) -> Any:
            if frame.error_code != ErrorCodes.NO_ERROR:
                return abrupt(frame)
            self.processor.drain(frame.last_stream_id)
            return [], []  # h2 hears nothing of it: its state machine knows no drain

        frames[GoAwayFrame] = going_away

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if isinstance(exc, ssl.SSLError):
            self.processor.lose(exc)
        elif not self.heard and self.transport.get_extra_info("ssl_object") is not None:
            self.processor.lose(NoWelcome("closed after the TLS handshake"))
        super().connection_lost(exc)


class DrainingChannel(Channel):
    """`Channel` that knows all of its connections which may still carry streams."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._made: list[DrainingProtocol] = []

    def _protocol_factory(self) -> H2Protocol:
        protocol = DrainingProtocol(Handler(), self._config, self._h2_config)
        self._made = [*self.protocols, protocol]
        return protocol

    @property
    def protocols(self) -> list[DrainingProtocol]:
        """Connections that are open, the oldest first."""
        return [
            made for made in self._made if made.transport is not None and not made.connection.is_closing()
        ]

    def close_all(self) -> list[Any]:
        """Close the channel and what drains beside it; gives the transports, which may still say goodbye."""
        left = self.protocols
        self.close()
        for protocol in left:
            protocol.processor.close()
        return [protocol.transport for protocol in left]
