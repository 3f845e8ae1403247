"""Commands to devices, and what they answer."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kepler.core.errors import InvalidInput, TimedOut, Unavailable
from kepler.fleet.devices import DeviceState
from kepler.ports.clock import Clock
from kepler.ports.fleet import DeviceStore, FleetChannel
from kepler.ports.security import AuditLog
from kepler.usecases.auditing import audited
from kepler.usecases.enrol import EnrolDevices
from kepler.usecases.identity import Caller

VERBS = ("ping", "diag", "logs", "rebirth", "flush", "pause", "resume", "rollback", "rotate-cert")
MAX_WAIT_S = 600.0
ROTATION_TTL_S = 3600.0
MAX_ANSWERS = 1000
MAX_PENDING = 200


@dataclass(frozen=True, slots=True)
class DeviceAnswer:
    """One answer. ``stage`` is ``ack``, ``progress``, ``done`` or ``failed``; long answers come in ``parts``."""

    stage: str
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])
    part: int = 0
    parts: int = 1

    @property
    def last(self) -> bool:
        return self.stage == "failed" or (self.stage == "done" and self.part + 1 >= self.parts)


@dataclass(slots=True)
class _Pending:
    device: str
    answers: queue.Queue[DeviceAnswer]


class CommandDevices:
    """Sends commands and hands out the answers as they come. Every command is audited."""

    def __init__(
        self,
        devices: DeviceStore,
        channel: FleetChannel,
        enrol: EnrolDevices,
        audit: AuditLog,
        clock: Clock,
        new_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._devices = devices
        self._channel = channel
        self._enrol = enrol
        self._audit = audit
        self._clock = clock
        self._new_id = new_id
        self._lock = threading.Lock()
        self._pending: dict[str, _Pending] = {}

    def send(
        self, caller: Caller, device_id: str, verb: str, args: Mapping[str, str | float | bool], wait_s: float
    ) -> Generator[DeviceAnswer, None, None]:
        """Send ``verb`` and give the answers, the last one last.

        Raises `TimedOut` when the last one did not come within ``wait_s``, `Unavailable` without a broker.
        """
        if verb not in VERBS:
            raise InvalidInput(f"{verb[:40]!r} is no command", fix=f"Use {', '.join(VERBS)}.")
        if not 0 < wait_s <= MAX_WAIT_S:
            raise InvalidInput(f"A command is waited for at most {MAX_WAIT_S:.0f} s")
        device = self._devices.device(device_id)
        if device.state is not DeviceState.ENROLLED:
            raise InvalidInput(f"Device {device_id} is revoked", fix="Enrol it again first.")
        command_id = self._new_id()
        answers: queue.Queue[DeviceAnswer] = queue.Queue(MAX_ANSWERS)
        with audited(self._audit, caller.user, f"edge.command.{verb}", device_id):
            if verb == "rotate-cert":
                # With it the device fetches its next certificate as it fetched the first.
                args = {**args, "token": self._enrol.rotation_token(device_id, ROTATION_TTL_S)}
            with self._lock:
                if len(self._pending) >= MAX_PENDING:
                    self._pending.pop(next(iter(self._pending)))
                self._pending[command_id] = _Pending(device_id, answers)
            sent = self._channel.send_command(
                device_id, verb, command_id=command_id, n=self._devices.next_command(device_id), args=args,
                expires=self._clock.now() + wait_s,
            )  # fmt: skip
            if not sent:
                self._forget(command_id)
                raise Unavailable(
                    "The command cannot be sent: there is no connection to the broker",
                    fix="Look at the service's log for mqtt, and try again.",
                    retry_after_s=5.0,
                )
        try:
            yield from self._answers(device_id, answers, wait_s)
        finally:
            self._forget(command_id)

    def answer(self, device_id: str, command_id: str, answer: DeviceAnswer) -> bool:
        """Take an answer; False for one that nobody waits for."""
        with self._lock:
            pending = self._pending.get(command_id)
        if pending is None or pending.device != device_id:
            return False
        try:
            pending.answers.put_nowait(answer)
        except queue.Full:
            return False
        return True

    def _answers(
        self, device_id: str, answers: queue.Queue[DeviceAnswer], wait_s: float
    ) -> Generator[DeviceAnswer, None, None]:
        until = time.monotonic() + wait_s
        while True:
            try:
                answer = answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise TimedOut(
                    f"{device_id} did not answer within {wait_s:g} s",
                    cause="" if self._devices.device(device_id).online else "It is offline",
                    fix="`kepler edge devices` shows when it was last seen.",
                ) from None
            yield answer
            if answer.last:
                return

    def _forget(self, command_id: str) -> None:
        with self._lock:
            self._pending.pop(command_id, None)
