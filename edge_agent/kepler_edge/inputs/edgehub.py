"""Readings of a Splunk Edge Hub: its sensors and what it reads over OPC UA, Modbus and SNMP.

The hub tells each value by itself; a reading holds the last value of every source, and its source is the input's name.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from kepler_edge import edgehub_pb2 as pb
from kepler_edge.checked import Section
from kepler_edge.edgehub import ADDRESS, EdgeHub
from kepler_edge.errors import InvalidInput, Unavailable
from kepler_edge.inputs import Emit
from kepler_edge.reading import Reading

MAX_SOURCES = 2_000
MAX_TEXT = 10_000
_WAIT_S = (1.0, 30.0)


class EdgeHubInput:
    """Reads the hub's stream, anew as often as it ends.

    Parameters
    ----------
    ids
        Sources to read; none: all that the hub has.
    trigger
        A source whose values make a reading; others are only remembered. Empty: every value makes one.
    fields
        What a source's values are called in readings; the others keep their ids.
    """

    def __init__(
        self, name: str, address: str, ids: tuple[str, ...], trigger: str, fields: Mapping[str, str]
    ) -> None:
        self.name = name
        self.counts = {"read": 0, "wrong": 0, "dropped": 0, "connects": 0}
        self._address, self._ids, self._trigger, self._fields = address, ids, trigger, dict(fields)
        self._last: dict[str, object] = {}

    def run(self, emit: Emit, stop: threading.Event) -> None:
        """Hand over readings until ``stop``."""
        wait_s = _WAIT_S[0]
        while not stop.is_set():
            hub = EdgeHub(self._address)
            before = self.counts["read"]
            try:
                self._read(hub, emit, stop)
            except Unavailable:
                if self.counts["read"] > before:
                    wait_s = _WAIT_S[0]
                stop.wait(wait_s)
                wait_s = min(2 * wait_s, _WAIT_S[1])
            finally:
                hub.close()

    def take(self, message: pb.GetReadingResponse) -> Reading | None:
        """The reading that a value makes; None where it makes none."""
        kind = message.WhichOneof("value")
        field = self._fields.get(message.id, message.id)
        if not message.id or (field not in self._last and len(self._last) >= MAX_SOURCES):
            self.counts["wrong"] += 1
            return None
        if message.error or kind is None:
            self._last[field] = None
            return None
        value: object = getattr(message, kind)
        if isinstance(value, str) and len(value) > MAX_TEXT:
            self.counts["wrong"] += 1
            return None
        self._last[field] = value
        if self._trigger and message.id != self._trigger:
            return None
        at = message.create_time
        ts = at.seconds + at.nanos / 1e9 if message.HasField("create_time") else None
        return Reading(self.name, dict(self._last), ts)

    def _read(self, hub: EdgeHub, emit: Emit, stop: threading.Event) -> None:
        ids = self._ids or tuple(hub.sources())
        self.counts["connects"] += 1
        ended = threading.Event()

        def watch(call: Any) -> None:
            def cancel() -> None:
                while not stop.wait(0.2) and not ended.is_set():
                    pass
                call.cancel()

            threading.Thread(target=cancel, name=f"{self.name}-stop", daemon=True).start()

        try:
            for message in hub.readings(ids, watch):
                reading = self.take(message)
                if reading is not None:
                    self.counts["read"] += 1
                    emit(reading)
        finally:
            ended.set()
        stop.wait(_WAIT_S[0])


def open_input(settings: Mapping[str, object]) -> EdgeHubInput:
    """From the agent's settings: ``name``, ``address``, ``ids``, ``trigger``, ``fields``. Raises `InvalidInput`."""
    section = Section(settings, "The input")
    section.take("kind", "")
    name = section.text("name", max_chars=200)
    address = section.text("address", ADDRESS, max_chars=500)
    ids = section.texts("ids", max_items=MAX_SOURCES) if "ids" in section else ()
    trigger = section.text("trigger", "", max_chars=500)
    fields: dict[str, str] = {}
    if "fields" in section:
        fields = dict(section.mapping("fields", lambda inner, key: inner.text(key, max_chars=500)))
    section.done()
    if trigger and ids and trigger not in ids:
        raise InvalidInput(f"The input {name!r} waits for {trigger[:100]!r}, which it does not read")
    return EdgeHubInput(name, address, ids, trigger, fields)
