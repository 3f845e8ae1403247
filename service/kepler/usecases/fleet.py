"""What keeps a fleet going: rollouts are driven, desired states published, what devices tell is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kepler.core.errors import Conflict
from kepler.fleet import rollouts as rules
from kepler.fleet.desired import releases_of
from kepler.fleet.rollouts import DevicePart, Part, Rollout
from kepler.ports.clock import Clock
from kepler.ports.deploy import ReadyVersions
from kepler.ports.fleet import Birth, DeviceStore, FleetChannel, Reported, RolloutStore, Step
from kepler.ports.security import AuditLog
from kepler.usecases.auditing import audited
from kepler.usecases.identity import Caller

MAX_CHUNK_BYTES = 128 * 1024
_TRIES = 20
Wake = Callable[[], None]


class DriveRollouts:
    """One look at everything that is open. Several services may look at once: each change has one winner."""

    def __init__(
        self, devices: DeviceStore, rollouts: RolloutStore, channel: FleetChannel, clock: Clock
    ) -> None:
        self._devices = devices
        self._rollouts = rollouts
        self._channel = channel
        self._clock = clock

    def run(self) -> int:
        """Bring every open rollout on, then publish what is to be published; gives how many documents went out."""
        for rollout in self._rollouts.open_rollouts():
            self._drive(rollout)
        return self._publish()

    def _drive(self, rollout: Rollout) -> None:
        now = self._clock.now()
        parts = self._rollouts.parts(rollout.id)
        after, changed = rules.advance(rollout, parts, now)
        if (after != rollout or changed) and not self._rollouts.save(after, rollout.n, changed):
            return  # somebody else was quicker: the next look sees what they made of it
        parts = _merged(parts, changed)
        if not after.state.final:
            for part in parts:
                if part.part is Part.CHOSEN:
                    self._rollouts.offer(after, part, now)
        withdrawn = [
            part for part in rules.to_withdraw(after, parts) if self._rollouts.withdraw(after, part, now)
        ]
        if withdrawn:
            self._drive(self._rollouts.rollout(rollout.id))  # the end of a rollback is seen at once

    def _publish(self) -> int:
        sent = 0
        if not self._channel.online:
            return 0
        for desired in self._devices.unpublished():
            if not self._channel.send_desired(desired):
                return sent
            self._devices.published(desired.device, desired.rev, self._clock.now())
            sent += 1
        return sent


class TakeDeviceWords:
    """What devices tell, once frame and schema hold. Everything bears to be told twice and out of order."""

    def __init__(
        self,
        devices: DeviceStore,
        rollouts: RolloutStore,
        versions: ReadyVersions,
        channel: FleetChannel,
        clock: Clock,
        wake: Wake,
    ) -> None:
        self._devices = devices
        self._rollouts = rollouts
        self._versions = versions
        self._channel = channel
        self._clock = clock
        self._wake = wake

    def birth(self, device_id: str, birth: Birth) -> None:
        device = self._devices.born(device_id, birth, self._clock.now())
        if device is not None and device.rev > device.rev_applied:
            self._send_again(device_id)

    def death(self, device_id: str, bd: int) -> None:
        self._devices.died(device_id, bd, self._clock.now())

    def reported(self, device_id: str, reported: Reported) -> None:
        now = self._clock.now()
        if not self._devices.reported(device_id, reported, now):
            return
        if self._rollouts.observe(device_id, reported.releases, now):
            self._wake()
        if reported.rev_seen < self._devices.device(device_id).rev:
            self._send_again(device_id)  # the broker may have lost what it kept for the device

    def step(self, step: Step) -> None:
        if self._rollouts.tell(step):
            self._wake()

    def chunk(self, device_id: str, release_id: str, sha256: str, off: int, length: int) -> None:
        """Send a piece of a file that the device's desired state names; anything else is ignored."""
        doc = self._devices.desired(device_id).doc
        release = next((item for item in releases_of(doc) if item["id"] == release_id), None)
        if release is None:
            return
        listed = [release["manifest"], release["signature"], *release["files"]]
        path = next((str(item["path"]) for item in listed if item["sha256"] == sha256), "")
        if not path or not 0 < length <= MAX_CHUNK_BYTES:
            return
        version = self._versions.ready(str(release["model"]), int(release["version"]))
        with (version.folder / path).open("rb") as file:
            file.seek(off)
            data = file.read(length)
        if data:
            self._channel.send_chunk(device_id, sha256, off, data)

    def _send_again(self, device_id: str) -> None:
        desired = self._devices.desired(device_id)
        if desired.rev and self._channel.send_desired(desired):
            self._devices.published(device_id, desired.rev, self._clock.now())


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout with its devices."""

    rollout: Rollout
    parts: tuple[DevicePart, ...]


class ManageRollouts:
    """Look at rollouts and steer them. Every change is audited."""

    def __init__(self, rollouts: RolloutStore, audit: AuditLog, clock: Clock, wake: Wake) -> None:
        self._rollouts = rollouts
        self._audit = audit
        self._clock = clock
        self._wake = wake

    def get(self, rollout_id: str) -> RolloutView:
        return RolloutView(self._rollouts.rollout(rollout_id), tuple(self._rollouts.parts(rollout_id)))

    def list(self, *, limit: int, offset: int) -> list[Rollout]:
        return self._rollouts.rollouts(limit=limit, offset=offset)

    def steps(self, rollout_id: str, device: str, limit: int) -> list[Step]:
        """Newest first."""
        return self._rollouts.steps(rollout_id, device=device, limit=limit)

    def change(self, caller: Caller, rollout_id: str, action: str, reason: str = "") -> RolloutView:
        """``pause``, ``resume``, ``stop`` or ``rollback``. Raises `Conflict` where its state forbids it."""
        self._rollouts.rollout(rollout_id)
        with audited(self._audit, caller.user, f"rollout.{action}", rollout_id):
            for _ in range(_TRIES):
                was = self._rollouts.rollout(rollout_id)
                parts = self._rollouts.parts(rollout_id)
                after, changed = self._changed(was, parts, action, reason or f"By {caller.user}")
                if after == was or self._rollouts.save(after, was.n, changed):
                    self._wake()
                    return self.get(rollout_id)
            raise Conflict("The rollout changes too often", fix="Try again.")

    def _changed(
        self, was: Rollout, parts: list[DevicePart], action: str, reason: str
    ) -> tuple[Rollout, list[DevicePart]]:
        now = self._clock.now()
        if action == "pause":
            return rules.pause(was, reason), []
        if action == "resume":
            return rules.resume(was, parts), []
        if action == "stop":
            return rules.stop(was, parts, now)
        return rules.roll_back(was, parts, reason, now)


def _merged(parts: list[DevicePart], changed: list[DevicePart]) -> list[DevicePart]:
    by_device = {part.device: part for part in parts} | {part.device: part for part in changed}
    return list(by_device.values())
