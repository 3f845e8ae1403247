"""What devices tell of themselves, checked: pydantic models of proto/kepler/mqtt/v1 and the plain values made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kepler.adapters.mqtt.frames import BadFrame, parse
from kepler.adapters.mqtt.messages import Bound, Clock, DeviceId, Hex, Number, Scalar
from kepler.fleet.devices import LoadedModel
from kepler.ports.fleet import Birth, Reported, ReportedRelease, Step
from kepler.usecases.command_devices import DeviceAnswer

M = TypeVar("M", bound="_Message")
ModelPath = Annotated[str, Field(max_length=220, pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$")]
Reason = Annotated[str, Field(max_length=1000)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Loaded(_Message):
    name: ModelPath
    version: Number
    slot: Literal["a", "b", "factory"]
    state: Literal["serving", "shadow", "probation"]
    sha8: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]


class _State(_Message):
    v: Literal[1]
    online: bool
    bd: Bound
    epoch: Hex | None = None
    agent: Annotated[str, Field(max_length=40)] = ""
    caps: Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=50)] = []
    models: Annotated[list[_Loaded], Field(max_length=100)] = []
    clock: Clock | None = None


class _ReportedRelease(_Message):
    id: DeviceId
    model: ModelPath
    version: Bound
    state: Literal[
        "offered", "preflight", "downloading", "verifying", "staged", "selftest", "shadow", "probation",
        "committed", "rolled-back", "refused",
    ]  # fmt: skip
    reason: Reason = ""


class _Reported(_Message):
    v: Literal[1]
    rev_seen: Bound
    rev_applied: Bound
    status: Literal["in-step", "applying", "failed", "paused"]
    releases: Annotated[list[_ReportedRelease], Field(max_length=50)]
    error: Reason


class _Install(_Message):
    v: Literal[1]
    device: DeviceId
    release: DeviceId
    model: ModelPath
    version: Number
    n: Number
    from_: Annotated[str, Field(alias="from", max_length=20)]
    to: Annotated[str, Field(max_length=20)]
    reason: Reason = ""
    data: Annotated[dict[str, Scalar], Field(max_length=50)] = {}
    ts: float


class _Reply(_Message):
    v: Literal[1]
    id: Hex
    stage: Literal["ack", "progress", "done", "failed"]
    text: Annotated[str, Field(max_length=2000)] = ""
    data: Annotated[dict[str, Any], Field(max_length=200)] = {}
    part: Bound = 0
    parts: Number = 1


class ChunkGet(_Message):
    v: Literal[1]
    release: DeviceId
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    off: Bound
    len: Annotated[int, Field(ge=1, le=131_072)]


def _read(kind: type[M], body: bytes) -> M:
    try:
        return kind.model_validate(parse(body))
    except (ValidationError, RecursionError) as error:
        raise BadFrame("schema") from error


def state_from(body: bytes) -> Birth | int:
    """A birth, or the number of the connection whose death it is. Raises `BadFrame`."""
    found = _read(_State, body)
    if not found.online:
        return found.bd
    if found.epoch is None or found.clock is None:
        raise BadFrame("schema")
    models = tuple(LoadedModel(item.name, item.version, item.state) for item in found.models)
    return Birth(found.bd, found.epoch, found.agent, tuple(found.caps), models)


def reported_from(body: bytes) -> Reported:
    """Raises `BadFrame`."""
    found = _read(_Reported, body)
    releases = tuple(ReportedRelease(item.id, item.state, item.reason) for item in found.releases)
    return Reported(found.rev_seen, found.rev_applied, found.status, found.error, releases)


def step_from(body: bytes, device: str, received_at: float) -> Step:
    """Raises `BadFrame`, also for a step of another device than the topic's."""
    found = _read(_Install, body)
    if found.device != device:
        raise BadFrame("topic")
    return Step(
        device, found.release, found.model, found.version, found.n, found.from_, found.to, found.reason,
        dict(found.data), found.ts, received_at,
    )  # fmt: skip


def answer_from(body: bytes) -> tuple[str, DeviceAnswer]:
    """Id of the command and the answer. Raises `BadFrame`."""
    found = _read(_Reply, body)
    return found.id, DeviceAnswer(found.stage, found.text, found.data, found.part, found.parts)


def chunk_get_from(body: bytes) -> ChunkGet:
    """Raises `BadFrame`."""
    return _read(ChunkGet, body)
