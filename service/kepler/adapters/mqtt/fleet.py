"""The fleet over MQTT: implements `ports.fleet.FleetChannel`, and hands on what devices tell.

Everything that devices publish is hostile until its frame and schema hold; what fails is dropped and counted.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from kepler.adapters.mqtt import device_words as words
from kepler.adapters.mqtt.frames import BadFrame, canonical, decode, encode, message
from kepler.adapters.mqtt.link import BrokerOptions, HostLink, Incoming
from kepler.core.errors import KeplerError, Unavailable
from kepler.fleet.devices import HOST
from kepler.ports.clock import Clock
from kepler.ports.fleet import Desired
from kepler.usecases.command_devices import CommandDevices
from kepler.usecases.fleet import TakeDeviceWords

log = structlog.get_logger()

LOG_EVERY_S = 10.0
MAX_WAITING = 10_000
_TOPIC = re.compile(
    r"kepler/v1/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/(state|shadow/reported|rollout|model/get|rsp/[a-z0-9-]{1,64})"
)
Keys = Callable[[str], Sequence[bytes]]


class FleetLink:
    """One connection of the service for everything but the data.

    Retained words (``state``, ``shadow/reported``) are subscribed to by each service, for a broker gives no retained
    messages to shared subscriptions; the rest is shared.

    Parameters
    ----------
    host
        This service's name among the topics, the same after a restart.
    keys
        Public keys that hold for a device, empty for a stranger.
    sign
        Signs with the service's key.
    """

    def __init__(
        self,
        options: BrokerOptions,
        tenant: str,
        host: str,
        keys: Keys,
        clock: Clock,
        sign: Callable[[bytes], bytes],
    ) -> None:
        self._tenant = tenant
        self._host = host
        self._keys = keys
        self._clock = clock
        self._sign = sign
        self._words: TakeDeviceWords | None = None
        self._commands: CommandDevices | None = None
        self._queue: queue.Queue[Incoming | None] = queue.Queue(MAX_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kepler-fleet-words", daemon=True)
        self._logged_at = 0.0
        self.refused: Counter[str] = Counter()
        root = f"kepler/v1/{tenant}/+"
        shared = f"$share/fleet/{root}"
        self._link = HostLink(
            options,
            [
                f"{root}/state", f"{root}/shadow/reported", f"{root}/rsp/{host}", f"{shared}/rollout",
                f"{shared}/model/get",
            ],
            self._receive,
        )  # fmt: skip

    # Life

    def attach(self, take: TakeDeviceWords, commands: CommandDevices) -> None:
        """Both need this object first."""
        self._words, self._commands = take, commands

    def start(self) -> None:
        self._thread.start()
        self._link.start()

    def wait_online(self, timeout_s: float) -> bool:
        return self._link.wait_online(timeout_s)

    def stop(self) -> None:
        """Can be repeated."""
        self._stopping.set()
        self._link.stop()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread.ident is not None:
            self._thread.join(5.0)

    # FleetChannel

    @property
    def online(self) -> bool:
        return self._link.online

    def send_desired(self, desired: Desired) -> bool:
        body = {"v": 1, "rev": desired.rev, "device": desired.device, "doc": desired.doc}
        return self._send(desired.device, "shadow/desired", body, retain=True)

    def send_command(
        self,
        device: str,
        verb: str,
        *,
        command_id: str,
        n: int,
        args: Mapping[str, str | float | bool],
        expires: float,
    ) -> bool:
        reply_to = f"kepler/v1/{self._tenant}/{device}/rsp/{self._host}"
        body: dict[str, Any] = {
            "v": 1,
            "id": command_id,
            "n": n,
            "verb": verb,
            "expires": expires,
            "reply_to": reply_to,
        }
        if args:
            body["args"] = dict(args)
        return self._send(device, f"cmd/{verb}", body)

    def send_chunk(self, device: str, sha256: str, off: int, data: bytes) -> bool:
        header = canonical({"sha256": sha256, "off": off, "crc32": zlib.crc32(data)})
        topic = self._topic(device, "model/chunk")
        return self._publish(topic, encode(topic, len(header).to_bytes(4, "big") + header + data, self._sign))

    def _send(self, device: str, suffix: str, body: Mapping[str, Any], *, retain: bool = False) -> bool:
        topic = self._topic(device, suffix)
        return self._publish(topic, message(topic, body, self._sign), retain=retain)

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        try:
            self._link.publish(topic, payload, retain=retain)
        except Unavailable:
            return False
        return True

    def _topic(self, device: str, suffix: str) -> str:
        return f"kepler/v1/{self._tenant}/{device}/{suffix}"

    # What comes

    def _receive(self, incoming: Incoming) -> None:
        try:
            self._queue.put_nowait(incoming)
        except queue.Full:
            self._refuse(incoming, "overloaded")  # all of it is told again, by birth and reported state

    def _work(self) -> None:
        while not self._stopping.is_set():
            incoming = self._queue.get()
            if incoming is None:
                continue
            try:
                self._take(incoming)
            except BadFrame as bad:
                self._refuse(incoming, bad.check)
                continue
            except KeplerError as error:
                log.warning("fleet.word_failed", topic=incoming.topic[:200], error=error.sentence)
                if error.retryable and not self._stopping.wait(error.retry_after_s or 1.0):
                    with contextlib.suppress(queue.Full):
                        self._queue.put_nowait(incoming)
                        continue
            except Exception:
                log.exception("fleet.word_broke", topic=incoming.topic[:200])
            self._link.settle([incoming])

    def _take(self, incoming: Incoming) -> None:
        match = _TOPIC.fullmatch(incoming.topic)
        if match is None or match[1] != self._tenant or match[2] == HOST:
            raise BadFrame("topic")
        if not incoming.payload:
            return  # a retained message that was deleted
        if self._words is None or self._commands is None:
            raise RuntimeError("attach() comes first")
        device, suffix = match[2], match[3]
        keys = self._keys(device)
        if not keys:
            raise BadFrame("unknown-device")
        body = decode(incoming.topic, incoming.payload, keys)
        if suffix == "state":
            found = words.state_from(body)
            if isinstance(found, int):
                self._words.death(device, found)
            else:
                self._words.birth(device, found)
        elif suffix == "shadow/reported":
            self._words.reported(device, words.reported_from(body))
        elif suffix == "rollout":
            self._words.step(words.step_from(body, device, self._clock.now()))
        elif suffix == "model/get":
            get = words.chunk_get_from(body)
            self._words.chunk(device, get.release, get.sha256, get.off, get.len)
        else:
            self._commands.answer(device, *words.answer_from(body))

    def _refuse(self, incoming: Incoming, check: str) -> None:
        self.refused[check] += 1
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY_S:
            self._logged_at = now
            log.warning(
                "fleet.refused", check=check, topic=incoming.topic[:200], bytes=len(incoming.payload),
                refused=sum(self.refused.values()),
            )  # fmt: skip
        self._link.settle([incoming])


class NoFleetLink:
    """Stands for a connection where no broker is set: nothing goes out, and nobody is asked to wait for it."""

    online = False

    def send_desired(self, desired: Desired) -> bool:
        return False

    def send_command(
        self,
        device: str,
        verb: str,
        *,
        command_id: str,
        n: int,
        args: Mapping[str, str | float | bool],
        expires: float,
    ) -> bool:
        return False

    def send_chunk(self, device: str, sha256: str, off: int, data: bytes) -> bool:
        return False
