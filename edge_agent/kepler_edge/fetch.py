"""Where the files of releases come from: HTTPS by ranges, or pieces over MQTT where HTTPS does not reach.

Either is a function from a file and an offset to some of its bytes, so a download goes on where it ended whichever
way the bytes come.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from kepler_edge.errors import Refused, Unavailable
from kepler_edge.release_doc import ReleaseFile
from kepler_edge.slots import Fetch

PIECE_BYTES = 1 << 20
CHUNK_BYTES = 64 << 10
MAX_CHUNK_BYTES = 128 << 10
MAX_HEADER_BYTES = 1024
OUTSTANDING = 4
TIMEOUT_S = 30.0
HTTPS_REST_S = 300.0  # before HTTPS is tried again where it did not reach
_WORTH_AGAIN = frozenset({401, 403, 408, 425, 429})  # a certificate may be renewed, a service may be busy


def pinned(ca: Path, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer that believes ``ca`` alone, with the device's own certificate where there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=str(ca))
    if certificate is not None:
        context.load_cert_chain(str(certificate), None if key is None else str(key))
    return context


class HttpsFetch:
    """Ranges over HTTPS, on one connection that is kept. Redirects are not followed.

    Parameters
    ----------
    context
        Gives the TLS settings, anew for each connection: a certificate that was renewed holds at once.
    timeout_s
        For connecting, and for a piece as a whole.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        *,
        timeout_s: float = TIMEOUT_S,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._context = context
        self._timeout_s = timeout_s
        self._piece_bytes = piece_bytes
        self._connection: http.client.HTTPSConnection | None = None
        self._host = ""

    def __call__(self, file: ReleaseFile, offset: int) -> bytes:
        url = urlsplit(file.url)
        if url.scheme != "https" or not url.hostname:
            raise Unavailable(f"{file.path!r} has no HTTPS address")
        most = min(self._piece_bytes, file.size - offset)
        try:
            piece = self._get(url.netloc, f"{url.path.rstrip('/')}/{quote(file.path)}", offset, most)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unavailable(
                f"{file.path!r} cannot be fetched from {url.netloc}",
                cause=f"{type(error).__name__}: {error}"[:300],
            ) from error
        except BaseException:
            self.close()  # what is left of the answer must not become the next one's
            raise
        if not piece:
            raise Unavailable(f"{url.netloc} sent nothing of {file.path!r}")
        return piece

    def close(self) -> None:
        """Hang up; can be repeated."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def _get(self, host: str, path: str, offset: int, most: int) -> bytes:
        until = time.monotonic() + self._timeout_s
        if self._connection is None or host != self._host:
            self.close()
            self._host = host
            self._connection = http.client.HTTPSConnection(
                host, timeout=self._timeout_s, context=self._context()
            )
        self._connection.request(
            "GET",
            path,
            headers={"Range": f"bytes={offset}-{offset + most - 1}", "Accept-Encoding": "identity"},
        )
        answer = self._connection.getresponse()
        if answer.status == 206:
            if not (answer.getheader("Content-Range") or "").startswith(f"bytes {offset}-"):
                raise Refused(f"{host} answered with another range than was asked for")
        elif answer.status != 200 or offset:
            if answer.status >= 500 or answer.status in _WORTH_AGAIN or answer.status == 200:
                raise Unavailable(f"{host} answered {answer.status}")
            raise Refused(f"{host} answered {answer.status} for {path[:200]!r}")
        parts: list[bytes] = []
        left = most
        while left and (part := answer.read1(min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
            if time.monotonic() > until:  # a line that trickles: what came is kept
                break
        if answer.status == 200 or not answer.isclosed():
            self.close()
        return b"".join(parts)


class ChunkFetch:
    """Pieces over MQTT: asks on ``model/get``, is handed what comes on ``model/chunk``.

    Parameters
    ----------
    ask
        Publishes a request (the contract's `chunk-get`). `Unavailable` or `OSError` where the line is down.
    timeout_s
        How long to wait for a piece.
    """

    def __init__(
        self,
        ask: Callable[[dict[str, object]], None],
        *,
        timeout_s: float = TIMEOUT_S,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self._ask = ask
        self._timeout_s = timeout_s
        self._chunk_bytes = min(chunk_bytes, MAX_CHUNK_BYTES)
        self._came = threading.Condition()
        # By (sha256, offset): length that was asked for, and what came. Never more than OUTSTANDING.
        self._asked: OrderedDict[tuple[str, int], tuple[int, bytes | None]] = OrderedDict()
        self.dropped = 0

    def __call__(self, file: ReleaseFile, offset: int) -> bytes:
        with self._came:
            for key in [key for key in self._asked if key[0] != file.sha256 or key[1] < offset]:
                del self._asked[key]
        for place in range(OUTSTANDING):
            self._request(file, offset + place * self._chunk_bytes)
        until = time.monotonic() + self._timeout_s
        key = (file.sha256, offset)
        with self._came:
            while True:
                _, piece = self._asked.get(key, (0, None))
                if piece is not None:
                    del self._asked[key]
                    return piece
                left_s = until - time.monotonic()
                if left_s <= 0 or not self._came.wait(left_s):
                    self._asked.clear()  # all are asked for again
                    raise Unavailable(f"No piece of {file.path!r} came within {self._timeout_s:g} s")

    def _request(self, file: ReleaseFile, offset: int) -> None:
        length = min(self._chunk_bytes, file.size - offset)
        with self._came:
            if length <= 0 or (file.sha256, offset) in self._asked or len(self._asked) >= OUTSTANDING:
                return
            self._asked[file.sha256, offset] = (length, None)
        try:
            self._ask({"v": 1, "release": file.release, "sha256": file.sha256, "off": offset, "len": length})
        except BaseException:
            with self._came:
                self._asked.pop((file.sha256, offset), None)
            raise

    def deliver(self, body: bytes) -> bool:
        """Take the body of a frame from ``model/chunk``; False when it is not one that was asked for."""
        found = _open_chunk(body)
        with self._came:
            asked = None if found is None else self._asked.get(found[0])
            if found is None or asked is None or not 0 < len(found[1]) <= asked[0]:
                self.dropped += 1
                return False
            self._asked[found[0]] = (asked[0], found[1])
            self._came.notify_all()
        return True


def _open_chunk(body: bytes) -> tuple[tuple[str, int], bytes] | None:
    """(sha256, offset) and bytes of a chunk; None unless it is whole."""
    size = int.from_bytes(body[:4], "big")
    if len(body) < 4 or not 0 < size <= MAX_HEADER_BYTES or len(body) > 4 + size + MAX_CHUNK_BYTES:
        return None
    try:
        header: Any = json.loads(body[4 : 4 + size])
        key, crc32 = (str(header["sha256"]), int(header["off"])), int(header["crc32"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    data = body[4 + size :]
    return (key, data) if zlib.crc32(data) == crc32 else None


class EitherFetch:
    """HTTPS where a release names an address and it can be reached, MQTT else."""

    def __init__(self, https: Fetch | None, chunks: Fetch | None) -> None:
        self._https = https
        self._chunks = chunks
        self._rests_until = 0.0

    def __call__(self, file: ReleaseFile, offset: int) -> bytes:
        if self._https is not None and file.url and time.monotonic() >= self._rests_until:
            try:
                return self._https(file, offset)
            except Unavailable:
                if self._chunks is None:
                    raise
                self._rests_until = time.monotonic() + HTTPS_REST_S
        if self._chunks is None:
            raise Unavailable(f"There is no way to fetch {file.path!r}")
        return self._chunks(file, offset)
