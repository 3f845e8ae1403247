"""Whether the service can do its work, as probes and `keplerhealth` ask it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol


class ServiceState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class Check(NamedTuple):
    """One part that was asked: ``jobs``, ``registry``, ``disk``. ``detail`` is for people."""

    name: str
    ok: bool
    detail: str = ""


class ServiceHealth(Protocol):
    """The running service as seen from outside. Safe to call from several threads."""

    @property
    def state(self) -> ServiceState: ...

    def checks(self) -> list[Check]:
        """Ask each part now; takes at most a few seconds and raises nothing for a part that fails."""
        ...
