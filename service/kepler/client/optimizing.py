"""Optimising a version: calibration rows up, what was made of it back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from kepler.client import convert
from kepler.client.errors import error_from_rpc
from kepler.client.records import ModelVersion, Table
from kepler.client.streams import Feed, failure_of
from kepler.core.jobs import Notice
from kepler.v1 import common_pb2, models_pb2


@dataclass(frozen=True, slots=True)
class RefitThreshold:
    """A threshold before and after; ``agreement`` is the share of held-out rows with the same alert.

    ``output`` is ``decision`` for the boundary inside the model.
    """

    output: str
    before: float
    after: float
    agreement: float


@dataclass(frozen=True, slots=True)
class OptimizedVersion:
    """What an optimisation gave. ``version`` is None in a dry run; ``report`` has a row per form that was tried."""

    version: ModelVersion | None
    method: str
    agreement: float
    report: Table
    thresholds: tuple[RefitThreshold, ...]
    calibrated_on: str
    notices: tuple[Notice, ...] = ()


def optimize(
    start: Callable[[Iterator[models_pb2.OptimizeVersionRequest]], Any],
    opening: models_pb2.OptimizeOpen,
    slices: Iterable[bytes],
    address: str,
) -> OptimizedVersion:
    """Send ``slices`` through the call that ``start`` begins with the requests."""
    feed = Feed(
        models_pb2.OptimizeVersionRequest(open=opening),
        slices,
        lambda rows: models_pb2.OptimizeVersionRequest(rows=rows),
        last=lambda count: models_pb2.OptimizeVersionRequest(end=models_pb2.OptimizeEnd(slices=count)),
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
    return OptimizedVersion(
        convert.version_from_proto(reply.version) if reply.HasField("version") else None,
        reply.method,
        reply.agreement,
        convert.table_from_proto(reply.report),
        tuple(
            RefitThreshold(item.output, item.before, item.after, item.agreement) for item in reply.thresholds
        ),
        reply.calibrated_on,
        convert.notices_from_proto(reply.notices),
    )


def opening(
    caller: common_pb2.Caller,
    model: str,
    target: str,
    columns: Iterable[str],
    thresholds: Mapping[str, float],
    dry_run: bool,
) -> models_pb2.OptimizeOpen:
    """The first message."""
    return models_pb2.OptimizeOpen(
        caller=caller, model=model, target=target, columns=columns, thresholds=thresholds, dry_run=dry_run
    )
