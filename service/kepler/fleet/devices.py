"""Devices of a fleet, and what chooses some of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

from kepler.core.errors import InvalidInput

DEVICE_ID = re.compile(r"[a-z0-9-]{1,64}")
_LABEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VALUE = re.compile(r"[A-Za-z0-9_./:-]{0,128}")
_PATTERN = re.compile(r"[A-Za-z0-9_./:*?-]{1,128}")
MAX_LABELS = 50
MAX_TERMS = 20
DEVICE = "device"
HOST = "host"  # the service's own place among the topics


class DeviceState(StrEnum):
    ENROLLED = "enrolled"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in a device's memory, as its birth tells it."""

    name: str
    version: int
    state: str


@dataclass(frozen=True, slots=True)
class Device:
    """One gateway as the service knows it. Times are seconds since the epoch, 0 when it never happened.

    ``bd`` is the number of its latest connection: a death with another one is a late one and is ignored.
    ``rev`` is the newest revision of its desired state; ``rev_seen`` and ``rev_applied`` are what it reports.
    """

    id: str
    state: DeviceState = DeviceState.ENROLLED
    labels: dict[str, str] = field(default_factory=dict[str, str])
    enrolled_at: float = 0.0
    online: bool = False
    bd: int = -1
    seen_at: float = 0.0
    agent: str = ""
    epoch: str = ""
    caps: tuple[str, ...] = ()
    models: tuple[LoadedModel, ...] = ()
    rev: int = 0
    rev_seen: int = 0
    rev_applied: int = 0
    status: str = ""
    error: str = ""

    @property
    def in_step(self) -> bool:
        """Whether it is what it should be."""
        return self.rev_applied >= self.rev and self.status in ("", "in-step")


def check_device_id(text: str) -> str:
    """``text`` when it is a legal name of a device, else `InvalidInput`."""
    if not DEVICE_ID.fullmatch(text) or text == HOST:
        raise InvalidInput(
            f"{text[:80]!r} is not a legal device name",
            fix="Use 1 to 64 lower-case letters, digits or '-'; 'host' is taken.",
        )
    return text


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """``labels`` when all names and values are legal, else `InvalidInput`.

    >>> check_labels({"site": "plant7"})
    {'site': 'plant7'}
    """
    if len(labels) > MAX_LABELS:
        raise InvalidInput(f"A device bears at most {MAX_LABELS} labels")
    for name, value in labels.items():
        if not _LABEL.fullmatch(name) or name == DEVICE:
            raise InvalidInput(
                f"{name[:80]!r} is not a legal label",
                fix=f"Use 1 to 64 letters, digits, '_', '.' or '-'; {DEVICE!r} is taken.",
            )
        if not _VALUE.fullmatch(value):
            raise InvalidInput(
                f"Label {name} has the value {value[:80]!r}, which is not legal",
                fix="Use at most 128 letters, digits, '_', '.', '/', ':' or '-'.",
            )
    return labels


@dataclass(frozen=True, slots=True)
class _Term:
    name: str
    patterns: tuple[str, ...]
    negated: bool = False

    def holds(self, device: Device) -> bool:
        value = device.id if self.name == DEVICE else device.labels.get(self.name)
        found = value is not None and any(fnmatchcase(value, pattern) for pattern in self.patterns)
        return found != self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """Chooses devices by labels: all terms must hold.

    >>> selector = Selector.parse("site=plant7,line!=3|4")
    >>> selector.matches(Device("gw-1", labels={"site": "plant7", "line": "1"}))
    True
    >>> selector.matches(Device("gw-2", labels={"site": "plant7", "line": "3"}))
    False
    """

    text: str
    terms: tuple[_Term, ...]

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read ``site=plant7,line!=3|4``; ``*`` means all, ``device=gw-0*`` goes by names. Raises `InvalidInput`."""
        stripped = text.strip()
        if stripped == "*":
            return cls("*", ())
        parts = [part.strip() for part in stripped.split(",") if part.strip()]
        if not parts:
            raise InvalidInput(
                "No devices are chosen", fix="Write site=plant7, device=gw-01, several with commas, or '*'."
            )
        if len(parts) > MAX_TERMS:
            raise InvalidInput(f"A selector has at most {MAX_TERMS} terms")
        return cls(stripped, tuple(_term(part) for part in parts))

    def matches(self, device: Device) -> bool:
        """Whether ``device`` is chosen; one that was revoked never is."""
        return device.state is DeviceState.ENROLLED and all(term.holds(device) for term in self.terms)


def _term(text: str) -> _Term:
    name, equals, values = text.partition("=")
    negated = name.endswith("!")
    name = name.removesuffix("!").strip()
    patterns = tuple(value.strip() for value in values.split("|"))
    if not equals or not _LABEL.fullmatch(name) or not all(_PATTERN.fullmatch(item) for item in patterns):
        raise InvalidInput(
            f"{text[:80]!r} chooses no devices",
            fix="Write LABEL=VALUE or LABEL!=VALUE, with '|' between values; '*' in a value stands for anything.",
        )
    return _Term(name, patterns, negated)
