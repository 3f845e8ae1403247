"""What devices say, checked: pydantic models of proto/kepler/mqtt/v1, and the plain values made of them."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kepler.adapters.mqtt.frames import BadFrame, parse
from kepler.fleet.batches import BatchClock, EdgeBatch
from kepler.fleet.ledger import BatchRange, StreamName

MAX_INTEGER = 2**53 - 1
Number = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
Bound = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
DeviceId = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{16,32}$")]
Stream = Literal["p0", "p1", "p2", "p3"]
Text = Annotated[str, Field(max_length=500)]
Scalar = str | int | float | bool | None
Positive = Annotated[float, Field(ge=0)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Record(_Message):
    q: Number
    ts: float
    mono: Positive


class Prediction(_Record):
    kind: Literal["prediction"]
    model: Annotated[str, Field(max_length=220, pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$")]
    version: Number
    out: Annotated[dict[str, Scalar], Field(max_length=200)]
    sha8: Annotated[str, Field(max_length=8)] = ""
    source: Text = ""
    alert: bool = False
    shadow: bool = False
    lat_us: Positive = 0.0


class Telemetry(_Record):
    kind: Literal["telemetry"]
    tag: Text
    value: Scalar
    source: Text = ""


class Log(_Record):
    kind: Literal["log"]
    level: Literal["debug", "info", "warning", "error"]
    event: Annotated[str, Field(max_length=200)]
    keys: Annotated[dict[str, Scalar], Field(max_length=50)] = {}


class Tombstone(_Record):
    kind: Literal["tombstone"]
    low: Annotated[Number, Field(alias="from")]
    to: Number
    count: Number
    stream: Stream
    reason: Literal["full", "ttl", "corrupt", "quota"]


Record = Annotated[Prediction | Telemetry | Log | Tombstone, Field(discriminator="kind")]


class Clock(_Message):
    sync: bool
    err_ms: Positive
    boot: Hex
    mono: Positive
    ts: float


class Batch(_Message):
    v: Annotated[int, Field(ge=1, le=1)]  # a Literal would take 1.0 and true as well
    device: DeviceId
    epoch: Hex
    stream: Stream
    hist: bool
    base: Bound
    after: Bound
    first: Number
    last: Number
    clock: Clock
    records: Annotated[list[Record], Field(min_length=1, max_length=500)]


def batch_from(body: bytes, tenant: str, device: str, topic_stream: str, received_at: float) -> EdgeBatch:
    """The batch in a verified frame's body.

    Raises `BadFrame` where it is not what the contract describes, or speaks of another device or class than its
    topic does.
    """
    raw: dict[str, Any] = parse(body)
    try:
        found = Batch.model_validate(raw)
    except (ValidationError, RecursionError) as error:
        raise BadFrame("schema") from error
    numbers = [record.q for record in found.records]
    ordered = all(a < b for a, b in pairwise(numbers))
    # `base` may have passed the others meanwhile: what was sent can be given up before it arrives.
    if not (ordered and numbers and found.after < found.first == numbers[0] and numbers[-1] == found.last):
        raise BadFrame("numbers")
    if found.device != device or topic_stream not in (found.stream, "hist"):
        raise BadFrame("topic")
    return EdgeBatch(
        tenant=tenant,
        name=StreamName(found.device, found.epoch, found.stream),
        range=BatchRange(found.first, found.last, found.after, found.base),
        hist=found.hist,
        clock=BatchClock(
            found.clock.boot, found.clock.sync, found.clock.err_ms / 1000, found.clock.mono, found.clock.ts
        ),
        records=raw["records"],
        sha256=hashlib.sha256(body).hexdigest(),
        received_at=received_at,
    )
