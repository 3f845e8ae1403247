"""A rollout: one release on its way to some devices, in stages, with an end.

All functions are pure: they take what is and give what shall be. Nothing waits for ever: a device that was
offered a release and does not commit it in time has failed, and a rollout that nobody ends ends by itself.

The states of a rollout::

    running <-> paused
    running, paused -> succeeded | stopped | rolling-back -> rolled-back
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from kepler.core.errors import Conflict, InvalidInput

MAX_STAGES = 20
DAY_S = 86_400.0


class RolloutState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    ROLLING_BACK = "rolling-back"
    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    ROLLED_BACK = "rolled-back"

    @property
    def final(self) -> bool:
        return self in (RolloutState.SUCCEEDED, RolloutState.STOPPED, RolloutState.ROLLED_BACK)


class Part(StrEnum):
    """Where one device is in a rollout."""

    WAITING = "waiting"  # its stage has not begun
    CHOSEN = "chosen"  # its stage has begun, its desired state is not written yet
    OFFERED = "offered"  # its desired state names the release
    INSTALLING = "installing"  # it told a step
    COMMITTED = "committed"
    FAILED = "failed"  # it refused the release or rolled it back
    OVERDUE = "overdue"  # it was not done in time
    WITHDRAWN = "withdrawn"  # its desired state names what it had before
    SKIPPED = "skipped"  # the rollout ended before its turn, or the device is gone

    @property
    def underway(self) -> bool:
        return self in (Part.CHOSEN, Part.OFFERED, Part.INSTALLING)

    @property
    def bad(self) -> bool:
        return self in (Part.FAILED, Part.OVERDUE)


class OnError(StrEnum):
    """What happens when too many devices fail."""

    PAUSE = "pause"
    STOP = "stop"
    ROLLBACK = "rollback"


INSTALL_STEPS = (
    "offered", "preflight", "downloading", "verifying", "staged", "selftest", "shadow", "probation",
)  # fmt: skip
COMMITTED, REFUSED, ROLLED_BACK = "committed", "refused", "rolled-back"


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How carefully a release goes out.

    Parameters
    ----------
    stages
        Share of all devices that have had their turn when each stage begins, rising to 1.
    success_share
        Share of the devices begun so far that must have committed before the next stage begins.
    error_share
        Share of the devices begun so far that may fail; above it ``on_error`` happens.
    device_s
        Seconds a device has from its offer to its commit. Offline devices count too: theirs is failed when the
        time is over, and the release stays their desired state, so that they take it when they come back.
    soak_s
        Seconds a stage rests after its last commit before the next begins.
    total_s
        Seconds after which a rollout that is still going on stops.
    """

    stages: tuple[float, ...] = (0.1, 0.5, 1.0)
    success_share: float = 0.9
    error_share: float = 0.1
    on_error: OnError = OnError.ROLLBACK
    device_s: float = DAY_S
    soak_s: float = 0.0
    total_s: float = 14 * DAY_S

    def check(self) -> None:
        """Raise `InvalidInput` when it cannot be followed."""
        rising = all(low < high for low, high in zip((0.0, *self.stages), self.stages, strict=False))
        if not self.stages or len(self.stages) > MAX_STAGES or not rising or self.stages[-1] != 1.0:
            raise InvalidInput(
                f"{', '.join(f'{share:g}' for share in self.stages)[:100]!r} are not the stages of a rollout",
                fix=f"Name at most {MAX_STAGES} rising shares up to 1, such as 0.1,0.5,1.",
            )
        if not 0 < self.success_share <= 1 or not 0 <= self.error_share < 1:
            raise InvalidInput(
                "The success share lies above 0 up to 1, the error share from 0 to below 1",
                fix="Use shares such as 0.9 and 0.1.",
            )
        times = (self.device_s, self.soak_s, self.total_s)
        if not all(math.isfinite(item) for item in times) or self.device_s <= 0 or self.soak_s < 0:
            raise InvalidInput("The times of a rollout are finite, and a device's is above 0")
        if self.total_s < self.device_s:
            raise InvalidInput(
                "A rollout cannot end before its first device has to",
                fix="Raise the whole time of the rollout.",
            )


@dataclass(frozen=True, slots=True)
class DevicePart:
    """One device in a rollout. ``step`` is the last step it told, ``n`` that step's number at the device."""

    device: str
    stage: int
    part: Part = Part.WAITING
    step: str = ""
    reason: str = ""
    offered_at: float = 0.0
    ended_at: float = 0.0
    n: int = 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """The rollout without its devices.

    ``n`` rises with every change, so that two writers notice each other. ``accepted`` is the number of failures
    that somebody saw and went on from.
    """

    id: str
    release: str
    model: str
    version: int
    selector: str
    plan: RolloutPlan
    owner: str
    created_at: float
    state: RolloutState = RolloutState.RUNNING
    stage: int = 0
    reason: str = ""
    stage_at: float = 0.0
    ended_at: float = 0.0
    accepted: int = 0
    n: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many devices are where."""

    total: int = 0
    waiting: int = 0
    underway: int = 0
    committed: int = 0
    failed: int = 0
    withdrawn: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, parts: Sequence[DevicePart]) -> Counts:
        return cls(
            total=len(parts),
            waiting=sum(item.part is Part.WAITING for item in parts),
            underway=sum(item.part.underway for item in parts),
            committed=sum(item.part is Part.COMMITTED for item in parts),
            failed=sum(item.part.bad for item in parts),
            withdrawn=sum(item.part is Part.WITHDRAWN for item in parts),
            skipped=sum(item.part is Part.SKIPPED for item in parts),
        )


def assign(devices: Sequence[str], plan: RolloutPlan, seed: str) -> list[DevicePart]:
    """Deal ``devices`` to the stages, in an order that ``seed`` decides.

    The first stage has at least one device, so that a small fleet is tried on one before all. Always the same
    for the same devices and seed, whatever their order.

    >>> [part.stage for part in assign(["a", "b", "c"], RolloutPlan(stages=(0.3, 1.0)), "r1")]
    [0, 1, 1]
    """
    import hashlib

    plan.check()
    ordered = sorted(set(devices), key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
    ends = [max(1, math.ceil(share * len(ordered) - 1e-9)) for share in plan.stages]
    parts: list[DevicePart] = []
    for place, name in enumerate(ordered):
        parts.append(DevicePart(name, next(stage for stage, end in enumerate(ends) if place < end)))
    return parts


def told(part: DevicePart, *, step: str, n: int, reason: str, now: float) -> DevicePart:
    """``part`` after its device told a step of the installation.

    What comes late or twice changes nothing: ``n`` must rise, and an end stays an end, but for a device that was
    overdue and commits after all.
    """
    if n <= part.n or part.part in (Part.WAITING, Part.WITHDRAWN, Part.SKIPPED, Part.FAILED):
        return part
    told_now = replace(part, n=n, step=step, reason=reason)
    if step == COMMITTED:
        return replace(told_now, part=Part.COMMITTED, ended_at=now)
    if step in (REFUSED, ROLLED_BACK):
        return replace(told_now, part=Part.FAILED, ended_at=now)
    if part.part.underway:
        return replace(told_now, part=Part.INSTALLING)
    return part


def observed(part: DevicePart, *, step: str, reason: str, now: float) -> DevicePart:
    """``part`` after its device reported where it is, without the number of a step.

    A report may be older than a step that is known (a broker keeps the last one it got), so it only leads on.
    """
    ends = step in (COMMITTED, REFUSED, ROLLED_BACK)
    if step == part.step or (not ends and _way(step) <= _way(part.step)):
        return part
    return replace(told(part, step=step, n=part.n + 1, reason=reason, now=now), n=part.n)


def _way(step: str) -> int:
    return INSTALL_STEPS.index(step) if step in INSTALL_STEPS else -1


def offered(part: DevicePart, now: float) -> DevicePart:
    """``part`` once its device's desired state names the release."""
    if part.part is not Part.CHOSEN:
        return part
    return replace(part, part=Part.OFFERED, offered_at=part.offered_at or now)


def withdrawn(part: DevicePart, now: float) -> DevicePart:
    """``part`` once its device's desired state names what it had before."""
    return replace(part, part=Part.WITHDRAWN, ended_at=now)


def skip(part: DevicePart, reason: str, now: float) -> DevicePart:
    """``part`` of a device that takes no part any more."""
    return replace(part, part=Part.SKIPPED, reason=reason, ended_at=now)


def to_withdraw(rollout: Rollout, parts: Sequence[DevicePart]) -> list[DevicePart]:
    """Whose desired state must be put back while the rollout is rolling back."""
    if rollout.state is not RolloutState.ROLLING_BACK:
        return []
    begun = (Part.CHOSEN, Part.OFFERED, Part.INSTALLING, Part.COMMITTED, Part.FAILED, Part.OVERDUE)
    return [item for item in parts if item.part in begun]


def advance(rollout: Rollout, parts: Sequence[DevicePart], now: float) -> tuple[Rollout, list[DevicePart]]:
    """Where the rollout stands at ``now``, and the parts that changed with it.

    Can be called as often as one likes; between two reports or deadlines a second call changes nothing.
    """
    if rollout.state is RolloutState.ROLLING_BACK:
        return _finish_rollback(rollout, parts, now)
    changed = _overdue(rollout, parts, now)
    if rollout.state.final:  # what was offered before its end still ends in time
        return rollout, changed
    current = _merged(parts, changed)
    bad = sum(item.part.bad for item in current)
    paused = rollout.state is RolloutState.PAUSED
    too_many = bad > rollout.accepted + rollout.plan.error_share * len(_begun(rollout, current)) + 1e-9
    if too_many and not (paused and rollout.plan.on_error is OnError.PAUSE):
        return _fail(rollout, current, changed, bad, now)
    if now >= rollout.created_at + rollout.plan.total_s and (paused or not _done(current)):
        ended, skipped = _end(rollout, current, RolloutState.STOPPED, "Its time was over", now)
        return ended, _merged(changed, skipped)
    if paused:
        return rollout, changed
    rollout, more = _go_on(rollout, current, now)
    return rollout, _merged(changed, more)


def pause(rollout: Rollout, reason: str = "") -> Rollout:
    """Begin nothing more. What was offered goes on. Raises `Conflict` for one that has ended."""
    if rollout.state is RolloutState.PAUSED:
        return rollout
    _only(rollout, "paused", RolloutState.RUNNING)
    return _changed(rollout, state=RolloutState.PAUSED, reason=reason or "Paused by hand")


def resume(rollout: Rollout, parts: Sequence[DevicePart]) -> Rollout:
    """Go on after a pause, also one that failures caused: those that are there now are accepted."""
    if rollout.state is RolloutState.RUNNING:
        return rollout
    _only(rollout, "resumed", RolloutState.PAUSED)
    bad = sum(item.part.bad for item in parts)
    return _changed(rollout, state=RolloutState.RUNNING, reason="", accepted=bad)


def stop(rollout: Rollout, parts: Sequence[DevicePart], now: float) -> tuple[Rollout, list[DevicePart]]:
    """End it where it stands: who has the release keeps it, who waits does not get it."""
    if rollout.state is RolloutState.STOPPED:
        return rollout, []
    _only(rollout, "stopped", RolloutState.RUNNING, RolloutState.PAUSED)
    return _end(rollout, parts, RolloutState.STOPPED, "Stopped by hand", now)


def roll_back(
    rollout: Rollout, parts: Sequence[DevicePart], reason: str, now: float
) -> tuple[Rollout, list[DevicePart]]:
    """Put back what the devices had before; also possible after a rollout has ended."""
    if rollout.state in (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK):
        return rollout, []
    skipped = [
        skip(item, "The rollout was rolled back before its turn", now)
        for item in parts
        if item.part is Part.WAITING
    ]
    return _changed(rollout, state=RolloutState.ROLLING_BACK, reason=reason, ended_at=0.0), skipped


def _go_on(rollout: Rollout, parts: Sequence[DevicePart], now: float) -> tuple[Rollout, list[DevicePart]]:
    """Begin the stage, or the next one once this one has done well and rested."""
    if chosen := _choose(parts, rollout.stage):
        return _changed(rollout, stage_at=now), chosen
    begun = _begun(rollout, parts)
    committed = sum(item.part is Part.COMMITTED for item in begun)
    enough = committed + rollout.accepted >= rollout.plan.success_share * len(begun) - 1e-9
    said = f"{committed} of {len(begun)} devices have it"
    if _done(parts):
        if enough:
            return _end(rollout, parts, RolloutState.SUCCEEDED, said, now)
        return _end(rollout, parts, RolloutState.STOPPED, f"Only {said}, fewer than asked for", now)
    if not enough:
        # Those who are late are waited for: at their deadline they have failed.
        waits = any(item.part.underway for item in begun)
        return (rollout if waits else pause(rollout, f"Only {said}, fewer than asked for")), []
    ended = [item.ended_at for item in begun if item.part is Part.COMMITTED]
    if now < max(ended, default=rollout.stage_at) + rollout.plan.soak_s:
        return rollout, []
    following = min(rollout.stage + 1, len(rollout.plan.stages) - 1)
    if following == rollout.stage:
        return rollout, []
    return _changed(rollout, stage=following, stage_at=now), _choose(parts, following)


def _choose(parts: Sequence[DevicePart], stage: int) -> list[DevicePart]:
    return [
        replace(item, part=Part.CHOSEN) for item in parts if item.part is Part.WAITING and item.stage <= stage
    ]


def _begun(rollout: Rollout, parts: Sequence[DevicePart]) -> list[DevicePart]:
    """Devices whose stage has begun, without those that take no part any more."""
    return [item for item in parts if item.stage <= rollout.stage and item.part is not Part.SKIPPED]


def _done(parts: Sequence[DevicePart]) -> bool:
    return all(not item.part.underway and item.part is not Part.WAITING for item in parts)


def _overdue(rollout: Rollout, parts: Sequence[DevicePart], now: float) -> list[DevicePart]:
    late = [
        item
        for item in parts
        if item.part in (Part.OFFERED, Part.INSTALLING) and now >= item.offered_at + rollout.plan.device_s
    ]
    reason = f"Not done within {rollout.plan.device_s:g} s"
    return [
        replace(item, part=Part.OVERDUE, ended_at=now, reason=f"{reason}; last step {item.step or 'none'}")
        for item in late
    ]


def _fail(
    rollout: Rollout, parts: Sequence[DevicePart], changed: list[DevicePart], bad: int, now: float
) -> tuple[Rollout, list[DevicePart]]:
    first = next((item.reason for item in parts if item.part.bad and item.reason), "")
    said = f"{bad} device{'s' if bad > 1 else ''} failed, more than may{': ' + first if first else ''}"[:1000]
    if rollout.plan.on_error is OnError.PAUSE:
        return pause(rollout, said), changed
    if rollout.plan.on_error is OnError.STOP:
        ended, skipped = _end(rollout, parts, RolloutState.STOPPED, said, now)
        return ended, _merged(changed, skipped)
    back, skipped = roll_back(rollout, parts, said, now)
    return back, _merged(changed, skipped)


def _finish_rollback(
    rollout: Rollout, parts: Sequence[DevicePart], now: float
) -> tuple[Rollout, list[DevicePart]]:
    if to_withdraw(rollout, parts):
        return rollout, []
    return _changed(rollout, state=RolloutState.ROLLED_BACK, ended_at=now), []


def _end(
    rollout: Rollout, parts: Sequence[DevicePart], state: RolloutState, reason: str, now: float
) -> tuple[Rollout, list[DevicePart]]:
    ended = _changed(rollout, state=state, reason=reason, ended_at=now)
    unbegun = (Part.WAITING, Part.CHOSEN)
    return ended, [
        skip(item, "The rollout ended before its turn", now) for item in parts if item.part in unbegun
    ]


def _merged(parts: Sequence[DevicePart], changed: Sequence[DevicePart]) -> list[DevicePart]:
    """``parts`` with those of ``changed`` in their places, and new ones after them."""
    by_device = {item.device: item for item in parts} | {item.device: item for item in changed}
    return list(by_device.values())


def _changed(rollout: Rollout, **values: object) -> Rollout:
    return replace(rollout, n=rollout.n + 1, **values)  # type: ignore[arg-type]


def _only(rollout: Rollout, verb: str, *states: RolloutState) -> None:
    if rollout.state not in states:
        raise Conflict(
            f"Rollout {rollout.id} cannot be {verb}: it is {rollout.state}",
            fix="`kepler edge rollout` lists the rollouts and their states.",
        )
