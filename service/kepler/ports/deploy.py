"""Where models are deployed to: one port for edge fleets, containers and clouds.

A target is one class with `target` above it, in ``kepler/targets/`` or behind an entry point of the group
``kepler.targets``. Whatever it changes it must be able to tell before (``dry_run``), and to do twice without harm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from kepler.core.errors import NotFound
from kepler.core.jobs import Notice
from kepler.core.manifest import FileEntry, Manifest
from kepler.ports.clock import Clock
from kepler.ports.fleet import DeviceStore, RolloutStore
from kepler.ports.jobs import WorkRun

C = TypeVar("C", bound=type)
_DECLARED = "__kepler_targets__"


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """What to bring where. ``id`` names the deployment; it is the job's id too.

    ``to`` chooses within the target (devices of a fleet, a region), in the target's own words. ``options`` are texts
    that the target checks.
    """

    id: str
    target: str
    model: str  # full name without version
    version: int
    to: str = ""
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    owner: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step of a deployment: its name in the job's progress, and what it does, in one sentence."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was changed, or would be in a dry run: ``gw-1``, ``app.search/m 2 -> 3``."""

    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What it costs. ``per_month`` is None where the target cannot know."""

    text: str
    per_month: float | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class DeployPlan:
    """What a deployment would do."""

    steps: tuple[PlannedStep, ...]
    changes: tuple[Change, ...]
    notices: tuple[Notice, ...] = ()


class DeployState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a deployment has come to: a device, a revision, an endpoint."""

    name: str
    state: str
    detail: str = ""
    updated_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeployStatus:
    """How a deployment stands. ``figures`` are counts and shares for dashboards."""

    state: DeployState
    reason: str = ""
    places: tuple[Place, ...] = ()
    figures: tuple[tuple[str, float], ...] = ()
    url: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of what happened, oldest first in lists."""

    ts: float
    where: str
    text: str


class DeployTarget(Protocol):
    """One kind of place. Raises `InvalidInput` for options it does not know and requests it cannot serve."""

    def plan(self, request: DeployRequest) -> DeployPlan:
        """What `deploy` would do; changes nothing. Raises what `deploy` would raise."""
        ...

    def deploy(self, request: DeployRequest, run: WorkRun) -> DeployStatus:
        """Bring the model there and wait until it serves.

        Runs as a durable job: it may begin again at any point, and what it did in steps is not done again. Raises
        when the model does not serve in the end.
        """
        ...

    def status(self, request: DeployRequest) -> DeployStatus:
        """How it stands. Raises `NotFound` for one that was never begun."""
        ...

    def logs(self, request: DeployRequest, *, place: str = "", limit: int = 100) -> tuple[LogLine, ...]:
        """The newest lines, oldest first."""
        ...

    def traffic(
        self, request: DeployRequest, shares: Mapping[int, float], *, dry_run: bool = False
    ) -> tuple[Change, ...]:
        """Split requests among versions, shares in percent. `InvalidInput` where a target has no such thing."""
        ...

    def rollback(self, request: DeployRequest, *, dry_run: bool = False) -> tuple[Change, ...]:
        """Put back what served before; can be repeated."""
        ...

    def delete(self, request: DeployRequest, *, dry_run: bool = False) -> tuple[Change, ...]:
        """Remove the deployment and what it made; can be repeated."""
        ...

    def cost(self, request: DeployRequest) -> Cost: ...


@dataclass(frozen=True, slots=True)
class ReadyVersion:
    """A registered version whose signature and hashes hold. ``files`` has manifest and signature too."""

    folder: Path
    manifest: Manifest
    files: Mapping[str, FileEntry]


class ReadyVersions(Protocol):
    """Versions as deployments read them."""

    def ready(self, model: str, version: int) -> ReadyVersion:
        """Raises `NotFound`, or `Conflict` for a folder that is not as it was signed."""
        ...


class FileLinks(Protocol):
    """Addresses that let one device fetch one version's files over HTTPS."""

    def folder_url(self, device: str, model: str, version: int, expires: float) -> str:
        """Empty where the service has no address that devices reach."""
        ...


def no_secret(name: str) -> str:
    """What a service without a secret store answers."""
    raise NotFound(f"There is no secret {name[:100]!r}", fix="Set it with `kepler secret set`.")


@dataclass(frozen=True, slots=True)
class TargetContext:
    """What the service gives a target.

    ``settings`` are those of the section ``edge``, with a target's own section by its name (``barbara``), as it is.
    ``secret`` gives the value of a secret by name and raises `NotFound`. ``home`` is the service's folder.
    """

    versions: ReadyVersions
    devices: DeviceStore
    rollouts: RolloutStore
    links: FileLinks
    clock: Clock
    wake_fleet: Callable[[], None] = lambda: None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    secret: Callable[[str], str] = no_secret
    home: Path = Path()


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """A registered target. ``factory`` is called with a `TargetContext` when it is first needed."""

    name: str
    factory: type[Any]
    aliases: tuple[str, ...] = ()
    extra: str = ""
    doc: str = ""
    origin: str = ""


def target(name: str, *, aliases: tuple[str, ...] = (), extra: str = "") -> Callable[[C], C]:
    """Register the class as the deploy target ``name``."""

    def declare(cls: C) -> C:
        doc = (cls.__doc__ or "").strip()
        setattr(cls, _DECLARED, (TargetInfo(name, cls, aliases, extra, doc, cls.__module__),))
        return cls

    return declare


def declared_targets(cls: type) -> tuple[TargetInfo, ...]:
    """What `target` registered on this very class."""
    return tuple(vars(cls).get(_DECLARED, ()))


class DeploymentStore(Protocol):
    """Deployments that were asked for."""

    def add(self, request: DeployRequest, created_at: float) -> DeployRequest:
        """Idempotent by id; `Conflict` when the id stands for something else."""
        ...

    def get(self, deployment_id: str) -> tuple[DeployRequest, float, bool]:
        """The request, when it was made, and whether it was deleted. Raises `NotFound`."""
        ...

    def list(
        self, *, target: str = "", limit: int = 100, offset: int = 0
    ) -> list[tuple[DeployRequest, float]]:
        """Newest first, without deleted ones."""
        ...

    def mark_deleted(self, deployment_id: str) -> None: ...
