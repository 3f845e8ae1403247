"""Only a caller's own word ends an upload: a connection that closes early trains on nothing."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from kepler.v1 import training_pb2, training_pb2_grpc

OPEN = training_pb2.TrainRequest(
    open=training_pb2.TrainOpen(algorithm="LinearRegression", target="y", features=["x"], columns=["x", "y"])
)
ROWS = training_pb2.TrainRequest(rows=b"1,2\n2,4\n3,6\n")


def end(slices: int) -> training_pb2.TrainRequest:
    return training_pb2.TrainRequest(end=training_pb2.TrainEnd(slices=slices))


def upload(address: str, *requests: training_pb2.TrainRequest) -> list[training_pb2.TrainResponse]:
    def sent() -> Iterator[training_pb2.TrainRequest]:
        yield from requests

    with grpc.insecure_channel(address) as channel:
        return list(training_pb2_grpc.TrainingServiceStub(channel).Train(sent(), timeout=30))


def test_a_whole_upload_is_queued(service):
    accepted, queued = upload(service.grpc, OPEN, ROWS, ROWS, end(2))
    assert accepted.accepted.algorithm == "LinearRegression"
    assert queued.queued.rows == 6


@pytest.mark.parametrize(
    ("requests", "status"),
    [
        ((OPEN, ROWS), grpc.StatusCode.CANCELLED),
        ((OPEN, ROWS, end(2)), grpc.StatusCode.CANCELLED),
        ((OPEN, ROWS, end(1), ROWS), grpc.StatusCode.INVALID_ARGUMENT),
        ((OPEN, ROWS, training_pb2.TrainRequest()), grpc.StatusCode.INVALID_ARGUMENT),
        ((OPEN, OPEN), grpc.StatusCode.INVALID_ARGUMENT),
        ((ROWS,), grpc.StatusCode.INVALID_ARGUMENT),
        ((OPEN, end(0)), grpc.StatusCode.INVALID_ARGUMENT),
        ((), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_anything_else_leaves_no_job_and_no_folder(service, requests, status):
    before = sorted((service.home / "jobs").glob("*-*"))
    with pytest.raises(grpc.RpcError) as refused:
        upload(service.grpc, *requests)
    assert refused.value.code() is status
    assert sorted((service.home / "jobs").glob("*-*")) == before
