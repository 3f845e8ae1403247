"""Packages between the service and files: written beside their place first, checked, then moved there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from kepler.client import convert
from kepler.client.errors import error_from_rpc
from kepler.client.records import ModelVersion
from kepler.client.streams import Feed, failure_of
from kepler.core.errors import Conflict, InternalError, InvalidInput, KeplerError, NotFound
from kepler.core.packages import CHUNK_BYTES
from kepler.v1 import common_pb2, models_pb2


@dataclass(frozen=True, slots=True)
class MovedVersion:
    """A version that was exported or imported.

    ``origin`` is what it was called where it was made, ``key_id`` the key that signed it there and ``sha256``
    the package's digest.
    """

    version: ModelVersion
    origin: str
    key_id: str
    size_bytes: int
    sha256: str


def save_package(responses: Any, path: Path, address: str) -> MovedVersion:
    """Write what ``responses`` send to ``path``, which must not exist yet."""
    if path.exists():
        raise Conflict(f"{path} exists already", fix="Name another file, or remove it first.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.partial")
    digest, size = hashlib.sha256(), 0
    try:
        opened = next(responses).opened
        with draft.open("xb") as file:
            for response in responses:
                file.write(response.chunk)
                digest.update(response.chunk)
                size += len(response.chunk)
            file.flush()
            os.fsync(file.fileno())
        if (size, digest.hexdigest()) != (opened.size_bytes, opened.sha256):
            raise InternalError("The package did not come as it was sent", fix="Export it again.")
        draft.replace(path)
    except grpc.RpcError as error:
        raise error_from_rpc(error, address=address) from error
    except StopIteration as error:
        raise InternalError("The service ended the export without an answer") from error
    except OSError as error:
        raise _file_error(path, error, "written") from error
    finally:
        responses.cancel()
        with contextlib.suppress(OSError):
            draft.unlink()
    version = convert.version_from_proto(opened.version)
    return MovedVersion(version, version.full_name, opened.key_id, size, opened.sha256)


class _Chunks:
    """The bytes of a file in chunks, and what `ImportEnd` says of them once all are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    self._digest.update(chunk)
                    self.size += len(chunk)
                    yield chunk
        except OSError as error:
            raise _file_error(self.path, error, "read") from error

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def send_package(
    start: Callable[[Iterator[models_pb2.ImportVersionRequest]], Any],
    path: Path,
    into: str,
    caller: common_pb2.Caller,
    address: str,
) -> MovedVersion:
    """Send the package at ``path`` through the call that ``start`` begins with the requests."""
    if not path.is_file():
        raise NotFound(f"There is no file {path}", fix="Name a .kepler package.")
    chunks = _Chunks(path)
    feed = Feed(
        models_pb2.ImportVersionRequest(open=models_pb2.ImportOpen(caller=caller, into=into)),
        chunks,
        lambda chunk: models_pb2.ImportVersionRequest(chunk=chunk),
        last=lambda _count: models_pb2.ImportVersionRequest(
            end=models_pb2.ImportEnd(size_bytes=chunks.size, sha256=chunks.sha256)
        ),
    )
    call = start(iter(feed))
    feed.call = call
    feed.start()
    try:
        reply = call.result()
    except grpc.FutureCancelledError as error:
        raise feed.failure or error_from_rpc(call, address=address) from error
    except grpc.RpcError as error:
        raise failure_of(feed, error, address) from error
    finally:
        feed.stop()
        call.cancel()
    version = convert.version_from_proto(reply.version)
    return MovedVersion(version, reply.origin, reply.key_id, chunks.size, chunks.sha256)


def _file_error(path: Path, error: OSError, what: str) -> KeplerError:
    kind = NotFound if isinstance(error, FileNotFoundError) else InvalidInput
    return kind(f"{path} cannot be {what}", cause=error.strerror or str(error), fix="Name another file.")
