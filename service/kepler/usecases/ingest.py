"""Records of devices into Splunk, effectively once.

A batch goes: ledger NEW, spool, ledger DONE, acknowledgement to the device, acknowledgement to the broker. A
service that ends between any two of these goes on where it was: the spool knows by the batch's key what it took.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from kepler.fleet.batches import EdgeBatch, boot_clock, timed
from kepler.fleet.ledger import Coverage, StreamName
from kepler.ports.clock import Clock
from kepler.ports.hec import EventKind, HecEvent, SplunkSink
from kepler.ports.ingest import Delivery, DeviceLink, IngestLedger, OpenBatch

_KINDS = {"prediction": EventKind.PREDICTION}
_NOT_IN_BODY = ("ts", "mono")


def _nothing(_: str) -> None:
    pass


class IngestBatches:
    """Drives ledger, spool and link.

    Parameters
    ----------
    reached
        Told the name of each step once it is done; tests end the process there.
    """

    def __init__(
        self,
        ledger: IngestLedger,
        sink: SplunkSink,
        link: DeviceLink,
        clock: Clock,
        reached: Callable[[str], None] = _nothing,
    ) -> None:
        self._ledger, self._sink, self._link, self._clock = ledger, sink, link, clock
        self._reached = reached

    def recover(self) -> int:
        """Finish what an earlier process left between two steps; gives the number of batches.

        What is in the spool is done. What is not was never taken: it comes again, for nobody acknowledged it.
        """
        found = self._ledger.open()
        taken = [batch for batch in found if self._sink.has(batch.key)]
        if taken:
            self._ledger.done(taken, self._clock.now())
            self._sink.forget([batch.key for batch in taken])
        left = [batch for batch in found if batch not in taken]
        if left:
            self._ledger.drop(left)
        return len(found)

    def run(self, deliveries: Sequence[Delivery]) -> int:
        """Take the batches, in order; gives the number of records that were new.

        Raises `Overloaded` when the spool is full and nothing more can be taken now: nothing was acknowledged,
        and the same deliveries may be given again.
        """
        if not deliveries:
            return 0
        self._reached("received")
        now = self._clock.now()
        batches = [delivery.batch for delivery in deliveries]
        marks = [OpenBatch(b.name, b.range, b.key, b.sha256) for b in batches]
        before = self._ledger.begin(marks, now)
        self._reached("ledger-new")
        fresh = self._events(batches, before)
        taken = self._sink.put_keyed([(mark.key, events) for mark, events in zip(marks, fresh, strict=True)])
        self._reached("spooled")
        after = self._ledger.done(marks, now)
        self._reached("ledger-done")
        self._acknowledge(batches, after)
        self._reached("device-acknowledged")
        self._link.settle(deliveries)
        self._reached("broker-acknowledged")
        self._sink.forget([mark.key for mark in marks])
        return sum(len(events) for events, new in zip(fresh, taken, strict=True) if new)

    def prune(self) -> None:
        """Forget what nobody will ask for again; for once an hour or so."""
        self._ledger.prune(self._clock.now())

    def _events(self, batches: Sequence[EdgeBatch], before: Sequence[Coverage]) -> list[list[HecEvent]]:
        """The events of each batch that are not safe yet, nor in a batch before it."""
        working: dict[StreamName, Coverage] = {}
        found: list[list[HecEvent]] = []
        for batch, coverage in zip(batches, before, strict=True):
            known = working.setdefault(batch.name, coverage)
            fresh = known.fresh(record["q"] for record in batch.records)
            known.add(batch.range)
            found.append(self._made(batch, fresh))
        return found

    def _made(self, batch: EdgeBatch, fresh: Sequence[int]) -> list[HecEvent]:
        device, boot = batch.name.device, batch.clock.boot
        clock = boot_clock(batch.clock)
        known = self._ledger.boot_clock(device, boot) if clock is None else None
        if clock is not None:
            self._ledger.set_boot_clock(device, boot, clock, batch.received_at)
        if not fresh:
            return []
        times = timed(batch, known)
        return [_event(batch, batch.records[i], *times[i]) for i in fresh]

    def _acknowledge(self, batches: Sequence[EdgeBatch], after: Sequence[Coverage]) -> None:
        """One for each class, about its newest batch; the coverage holds the others."""
        last: dict[tuple[str, StreamName], tuple[int, Coverage]] = defaultdict(lambda: (0, Coverage()))
        for batch, coverage in zip(batches, after, strict=True):
            last[batch.tenant, batch.name] = (batch.range.last, coverage)
        for (tenant, name), (q, coverage) in last.items():
            self._link.acknowledge(tenant, name, coverage.acknowledge(q))


def _event(batch: EdgeBatch, record: dict[str, Any], time_s: float, how: str) -> HecEvent:
    name = batch.name
    body: dict[str, object] = {
        "device": name.device,
        "tenant": batch.tenant,
        "stream": name.stream,
        **{key: value for key, value in record.items() if key not in _NOT_IN_BODY},
    }
    if how:
        body |= {"device_time": record["ts"], "time_from": how}
    if "source" in record:
        # Splunk's own field of that name says which device it came from.
        body["machine"] = body.pop("source")
    return HecEvent(
        _KINDS.get(str(record["kind"]), EventKind.FLEET),
        body,
        time_s,
        f"{name.device}:{name.epoch}:{record['q']}",
        source=f"edge:{name.device}",
        host=name.device,
    )
