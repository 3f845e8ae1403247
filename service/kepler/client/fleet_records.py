"""What the client hands out about deployments and devices: plain data, no protobuf."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kepler.core.jobs import JobRecord, Notice


@dataclass(frozen=True, slots=True)
class TargetDescription:
    """A kind of place one can deploy to."""

    name: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    extra: str = ""


@dataclass(frozen=True, slots=True)
class NamedText:
    """A step that is planned, or a thing that changes: its name, and what happens."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """What a deployment would do. ``cost_per_month`` is None where nobody can know."""

    model: str
    target: str
    steps: tuple[NamedText, ...]
    changes: tuple[NamedText, ...]
    notices: tuple[Notice, ...] = ()
    cost: str = ""
    cost_per_month: float | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentPlace:
    """Where a deployment has come to: a device, a revision, an endpoint."""

    name: str
    state: str
    detail: str = ""
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """How a deployment stands. ``job`` is None once its record is gone."""

    id: str
    target: str
    model: str
    to: str
    owner: str
    created_at: float
    state: str
    reason: str = ""
    url: str = ""
    places: tuple[DeploymentPlace, ...] = ()
    figures: dict[str, float] = field(default_factory=dict[str, float])
    options: dict[str, str] = field(default_factory=dict[str, str])
    job: JobRecord | None = None


@dataclass(frozen=True, slots=True)
class DeploymentLine:
    """One line of what happened."""

    ts: float
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class EdgeDevice:
    """A gateway as the service knows it. ``models`` are full names with version and state."""

    id: str
    state: str
    labels: dict[str, str]
    online: bool
    seen_at: float
    enrolled_at: float
    agent: str = ""
    caps: tuple[str, ...] = ()
    models: tuple[NamedText, ...] = ()
    rev: int = 0
    rev_seen: int = 0
    rev_applied: int = 0
    status: str = ""
    error: str = ""
    epoch: str = ""
    certificate_expires_at: float = 0.0


@dataclass(frozen=True, slots=True)
class EdgeToken:
    """A one-time token. ``text`` is its secret, empty but when it is made."""

    id: str
    device: str
    labels: dict[str, str]
    created_by: str
    created_at: float
    expires_at: float
    used_by: str = ""
    used_at: float = 0.0
    text: str = ""


@dataclass(frozen=True, slots=True)
class RolloutDevice:
    """One device in a rollout."""

    device: str
    stage: int
    part: str
    step: str = ""
    reason: str = ""
    offered_at: float = 0.0
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class EdgeRollout:
    """A release on its way. Counts and ``parts`` are empty in lists."""

    id: str
    model: str
    version: int
    selector: str
    owner: str
    state: str
    reason: str
    stage: int
    stages: tuple[float, ...]
    created_at: float
    ended_at: float = 0.0
    devices: int = 0
    committed: int = 0
    underway: int = 0
    failed: int = 0
    waiting: int = 0
    plan: dict[str, Any] = field(default_factory=dict[str, Any])
    parts: tuple[RolloutDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class EdgeStep:
    """One step of an installation, as its device told it."""

    device: str
    received_at: float
    ts: float
    from_state: str
    to_state: str
    reason: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class EdgeAnswer:
    """An answer to a command. ``stage`` is ``ack``, ``progress``, ``done`` or ``failed``."""

    stage: str
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    part: int = 0
    parts: int = 1
