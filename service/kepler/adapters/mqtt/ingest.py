"""Takes what devices publish, in groups, and drives `usecases.ingest` with it."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from kepler.adapters.mqtt.frames import BadFrame, decode, message
from kepler.adapters.mqtt.link import HostLink, Incoming, Outgoing
from kepler.adapters.mqtt.messages import batch_from
from kepler.core.errors import KeplerError, Overloaded, Unavailable
from kepler.fleet.batches import EdgeBatch
from kepler.fleet.ledger import Acknowledgement, StreamName
from kepler.ports.clock import Clock
from kepler.ports.ingest import Delivery, DeviceKeys
from kepler.usecases.ingest import IngestBatches

log = structlog.get_logger()

STREAMS = ("p0", "p1", "p2", "p3", "hist")
SUBSCRIPTIONS = tuple(f"$share/ingest/kepler/v1/+/+/{stream}" for stream in STREAMS)
MAX_GROUP = 64
PRUNE_EVERY_S = 3600.0
LOG_EVERY_S = 10.0
_TOPIC = re.compile(r"kepler/v1/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/(p0|p1|p2|p3|hist)")


class IngestChannel:
    """Between link and use case. Implements `ports.ingest.DeviceLink`.

    What fails any check is dropped, counted in ``refused`` and, at a low rate, logged.

    Parameters
    ----------
    sign
        Signs with the service's key.
    """

    def __init__(self, keys: DeviceKeys, clock: Clock, sign: Callable[[bytes], bytes]) -> None:
        self._keys, self._clock, self._sign = keys, clock, sign
        self._link: HostLink | None = None
        self._ingest: IngestBatches | None = None
        self._queue: queue.SimpleQueue[Incoming | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kepler-ingest", daemon=True)
        self._logged_at = 0.0
        self.refused: Counter[str] = Counter()
        self.batches = 0
        self.records = 0

    # Life

    def attach(self, link: HostLink, ingest: IngestBatches) -> None:
        """Both need this object first."""
        self._link, self._ingest = link, ingest

    def start(self) -> None:
        """Finish what an earlier process began, then take messages."""
        if self._ingest is None:
            raise RuntimeError("attach() comes first")
        finished = self._ingest.recover()
        if finished:
            log.info("ingest.recovered", batches=finished)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        self._stopping.set()
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def receive(self, incoming: Incoming) -> None:
        """For `HostLink`: the broker sends no more than its Receive Maximum ahead, so this is bounded."""
        self._queue.put(incoming)

    # DeviceLink

    def acknowledge(self, tenant: str, name: StreamName, ack: Acknowledgement) -> None:
        topic = f"kepler/v1/{tenant}/{name.device}/ack"
        body = {
            "v": 1,
            "device": name.device,
            "epoch": name.epoch,
            "stream": name.stream,
            "upto": ack.upto,
            "gaps": [list(gap) for gap in ack.gaps],
        }
        if self._link is not None:
            with contextlib.suppress(Unavailable):
                self._link.publish(topic, message(topic, body, self._sign))

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        if self._link is not None:
            self._link.settle([d.token for d in deliveries if isinstance(d.token, Incoming)])

    # The one working thread

    def _work(self) -> None:
        pruned_at = time.monotonic()
        while not self._stopping.is_set():
            group = self._group()
            deliveries = self._checked(group)
            most = MAX_GROUP
            while deliveries and not self._stopping.is_set():
                try:
                    self._take(deliveries[:most])
                    deliveries = deliveries[most:]
                except Overloaded as error:
                    # Together they may be more than there is room for at all.
                    most = max(1, min(most, len(deliveries)) // 2)
                    log.warning("ingest.waiting", error=error.sentence)
                    self._stopping.wait(min(error.retry_after_s, 2.0))
                except KeplerError as error:
                    # Nothing was acknowledged: devices and broker keep it, and we try the same again.
                    log.warning("ingest.waiting", error=error.sentence)
                    self._stopping.wait(error.retry_after_s or 2.0)
                except Exception:
                    log.exception("ingest.failed")
                    self._stopping.wait(2.0)
            if time.monotonic() - pruned_at > PRUNE_EVERY_S and self._ingest is not None:
                pruned_at = time.monotonic()
                with contextlib.suppress(KeplerError):
                    self._ingest.prune()

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        assert self._ingest is not None
        self.records += self._ingest.run(deliveries)
        self.batches += len(deliveries)

    def _group(self) -> list[Incoming]:
        found: list[Incoming | None] = [self._queue.get()]
        with contextlib.suppress(queue.Empty):
            while len(found) < MAX_GROUP:
                found.append(self._queue.get_nowait())
        return [item for item in found if item is not None]

    def _checked(self, group: Sequence[Incoming]) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for incoming in group:
            try:
                deliveries.append(Delivery(self._batch(incoming), incoming))
            except BadFrame as bad:
                self._refuse(incoming, bad.check)
            except KeplerError as error:
                # The registry does not answer: asked again soon, and the message stays with the broker meanwhile.
                log.warning("ingest.registry_unavailable", error=error.sentence)
                self._stopping.wait(1.0)
                self._queue.put(incoming)
            except Exception:
                log.exception("ingest.check_failed")
                self._refuse(incoming, "internal")
        return deliveries

    def _batch(self, incoming: Incoming) -> EdgeBatch:
        match = _TOPIC.fullmatch(incoming.topic)
        if match is None or match[2] == "host":
            raise BadFrame("topic")
        tenant, device, stream = match.groups()
        keys = self._keys.public_keys(device)
        if not keys:
            raise BadFrame("unknown-device")
        body = decode(incoming.topic, incoming.payload, keys)
        return batch_from(body, tenant, device, stream, self._clock.now())

    def _refuse(self, incoming: Incoming, check: str) -> None:
        self.refused[check] += 1
        now = time.monotonic()
        if now - self._logged_at > LOG_EVERY_S:
            self._logged_at = now
            log.warning(
                "ingest.refused", check=check, topic=incoming.topic[:200], bytes=len(incoming.payload),
                refused=sum(self.refused.values()),
            )  # fmt: skip
        if self._link is not None:
            self._link.settle([incoming])


def host_state(tenant: str, online: bool, ts: float, sign: Callable[[bytes], bytes]) -> Outgoing:
    """The retained word on whether a service listens."""
    topic = f"kepler/v1/{tenant}/host/state"
    return Outgoing(topic, message(topic, {"v": 1, "online": online, "ts": ts}, sign), retain=True)
