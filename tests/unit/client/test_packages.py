"""A package on the client's side: whole at its place, or not there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from kepler.client.packages import save_package, send_package
from kepler.core.errors import Conflict, InternalError, InvalidInput, NotFound
from kepler.v1 import common_pb2
from kepler.v1 import models_pb2 as pb


class Call:
    """What gRPC gives for a stream of responses."""

    def __init__(self, *responses: pb.ExportVersionResponse) -> None:
        self._responses = iter(responses)
        self.cancelled = False

    def __iter__(self) -> Iterator[pb.ExportVersionResponse]:
        return self

    def __next__(self) -> pb.ExportVersionResponse:
        return next(self._responses)

    def cancel(self) -> None:
        self.cancelled = True


def sent(content: bytes, said: bytes) -> Call:
    opened = pb.ExportOpened(
        version=pb.ModelVersion(name="app.search/m", version=3),
        size_bytes=len(said),
        sha256=hashlib.sha256(said).hexdigest(),
        key_id="k",
    )
    chunks = [pb.ExportVersionResponse(chunk=content[at : at + 2]) for at in range(0, len(content), 2)]
    return Call(pb.ExportVersionResponse(opened=opened), *chunks)


def test_a_whole_package_is_moved_to_its_place(tmp_path: Path) -> None:
    call = sent(b"abcde", b"abcde")
    moved = save_package(call, tmp_path / "m.kepler", "here")
    assert (tmp_path / "m.kepler").read_bytes() == b"abcde"
    assert (moved.version.full_name, moved.origin, moved.key_id, moved.size_bytes) == (
        "app.search/m@3", "app.search/m@3", "k", 5,
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["m.kepler"]
    assert call.cancelled
    with pytest.raises(Conflict, match="exists already"):
        save_package(sent(b"x", b"x"), tmp_path / "m.kepler", "here")


@pytest.mark.parametrize("call", [sent(b"abc", b"abcd"), sent(b"abcx", b"abcd"), Call()])
def test_what_did_not_come_whole_is_not_there(tmp_path: Path, call: Call) -> None:
    with pytest.raises(InternalError):
        save_package(call, tmp_path / "m.kepler", "here")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot be written"):
        save_package(sent(b"x", b"x"), tmp_path / "no" / "m.kepler", "here")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="cannot be written"):
        save_package(sent(b"x", b"x"), tmp_path / "file" / "m.kepler", "here")
    with pytest.raises(NotFound, match="no file"):
        send_package(lambda requests: None, tmp_path, "", common_pb2.Caller(), "here")


def test_a_file_that_fails_while_it_is_read_is_the_error(tmp_path: Path) -> None:
    path = tmp_path / "m.kepler"
    path.touch()

    class Upload:
        """Takes the requests when the result is asked for, as gRPC's thread does meanwhile."""

        def __init__(self, requests: Iterator[pb.ImportVersionRequest]) -> None:
            self._requests = requests
            self.cancelled = False

        def result(self) -> Any:
            path.unlink()
            list(self._requests)
            if self.cancelled:
                raise grpc.FutureCancelledError
            raise AssertionError("the upload was not cancelled")

        def cancel(self) -> None:
            self.cancelled = True

    with pytest.raises(NotFound, match="cannot be read"):
        send_package(Upload, path, "", common_pb2.Caller(), "here")
