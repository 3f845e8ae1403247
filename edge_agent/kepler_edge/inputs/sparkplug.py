"""Sparkplug B: births name the metrics of a node, data messages tell which of them changed.

``proto/thirdparty/sparkplug/sparkplug_b.proto`` is the part of the payload that is read. A data message holds only
what changed, so a reading holds the last value of every metric of its device. Its source is ``group/node/device``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from kepler_edge.checked import Section
from kepler_edge.errors import InvalidInput
from kepler_edge.inputs.mqtt import MqttInput, connection
from kepler_edge.inputs.payload import MAX_BYTES, MAX_TEXT
from kepler_edge.reading import Reading

MAX_DEVICES = 2_000
MAX_METRICS = 2_000  # of one device
_BIRTHS, _DATA, _DEATHS = ("NBIRTH", "DBIRTH"), ("NDATA", "DDATA"), ("NDEATH", "DDEATH")
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}  # datatypes Int8 to Int64
_PACKAGE = "kepler.thirdparty.sparkplug"
# (name, number, protobuf type, whether it is in the oneof); see the .proto, which a test compares.
_Field = tuple[str, int, int, bool]
_KINDS = descriptor_pb2.FieldDescriptorProto
METRIC: tuple[_Field, ...] = (
    ("name", 1, _KINDS.TYPE_STRING, False), ("alias", 2, _KINDS.TYPE_UINT64, False),
    ("timestamp", 3, _KINDS.TYPE_UINT64, False), ("datatype", 4, _KINDS.TYPE_UINT32, False),
    ("is_historical", 5, _KINDS.TYPE_BOOL, False), ("is_null", 7, _KINDS.TYPE_BOOL, False),
    ("int_value", 10, _KINDS.TYPE_UINT32, True), ("long_value", 11, _KINDS.TYPE_UINT64, True),
    ("float_value", 12, _KINDS.TYPE_FLOAT, True), ("double_value", 13, _KINDS.TYPE_DOUBLE, True),
    ("boolean_value", 14, _KINDS.TYPE_BOOL, True), ("string_value", 15, _KINDS.TYPE_STRING, True),
)  # fmt: skip


def payload_file() -> descriptor_pb2.FileDescriptorProto:
    """The .proto as a descriptor, so that no generated code is shipped."""
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package=_PACKAGE, syntax="proto2")
    metric = file.message_type.add(name="Metric")
    for name, number, kind, in_value in METRIC:
        added = metric.field.add(name=name, number=number, label=_KINDS.LABEL_OPTIONAL)
        added.type = kind  # type: ignore[assignment]
        if in_value:
            added.oneof_index = 0
    metric.oneof_decl.add(name="value")
    payload = file.message_type.add(name="Payload")
    payload.field.add(name="timestamp", number=1, label=_KINDS.LABEL_OPTIONAL, type=_KINDS.TYPE_UINT64)
    payload.field.add(
        name="metrics",
        number=2,
        label=_KINDS.LABEL_REPEATED,
        type=_KINDS.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.Metric",
    )
    payload.field.add(name="seq", number=3, label=_KINDS.LABEL_OPTIONAL, type=_KINDS.TYPE_UINT64)
    return file


@cache
def payload_class() -> Any:
    """Class of the payload's messages."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(payload_file())  # type: ignore[no-untyped-call]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


@dataclass
class _Device:
    names: dict[int, str] = field(default_factory=dict[int, str])  # by alias
    kinds: dict[str, int] = field(default_factory=dict[str, int])
    values: dict[str, object] = field(default_factory=dict[str, object])


class SparkplugDecoder:
    """Messages of ``spBv1.0/#`` as readings; remembers births, for so many devices."""

    def __init__(self) -> None:
        self._devices: OrderedDict[str, _Device] = OrderedDict()
        self.unknown = 0  # metrics that came by an alias before their birth

    def decode(self, topic: str, payload: bytes) -> list[Reading]:
        """Readings of one message: kept ones by their own times, then what is now. Raises `InvalidInput`."""
        levels = topic.split("/")
        if len(levels) not in (4, 5) or levels[0] != "spBv1.0" or not all(levels):
            raise InvalidInput("The topic is none of Sparkplug B's")
        kind, source = levels[2], "/".join([levels[1], *levels[3:]])
        if kind in _DEATHS:
            for name in [name for name in self._devices if name == source or name.startswith(source + "/")]:
                del self._devices[name]
            return []
        if kind not in (*_BIRTHS, *_DATA):
            return []  # commands and states are not for us
        if len(payload) > MAX_BYTES:
            raise InvalidInput("The payload is too large")
        message = payload_class()()
        try:
            message.ParseFromString(payload)
        except DecodeError as error:
            raise InvalidInput("The payload is none of Sparkplug B's") from error
        if len(message.metrics) > MAX_METRICS:
            raise InvalidInput(f"The payload has more than {MAX_METRICS} metrics")
        device = self._device(source, fresh=kind in _BIRTHS)
        kept: dict[int, dict[str, object]] = {}
        changed = False
        for metric in message.metrics:
            name = self._name(device, metric)
            if name is None:
                continue
            value = _value(metric, device.kinds.get(name, 0))
            if metric.is_historical:
                kept.setdefault(metric.timestamp or message.timestamp, {})[name] = value
            elif name in device.values or len(device.values) < MAX_METRICS:
                device.values[name], changed = value, True
        readings = [Reading(source, fields, _seconds(ts)) for ts, fields in sorted(kept.items())]
        if changed:
            readings.append(Reading(source, dict(device.values), _seconds(message.timestamp)))
        return readings

    def _device(self, source: str, *, fresh: bool) -> _Device:
        found = None if fresh else self._devices.get(source)
        if found is None:
            found = self._devices[source] = _Device()
            while len(self._devices) > MAX_DEVICES:
                self._devices.popitem(last=False)
        self._devices.move_to_end(source)
        return found

    def _name(self, device: _Device, metric: Any) -> str | None:
        if metric.name:
            name = str(metric.name)[:500]
            if len(device.names) < MAX_METRICS and metric.HasField("alias"):
                device.names[metric.alias] = name
            if len(device.kinds) < MAX_METRICS and metric.datatype:
                device.kinds[name] = metric.datatype
            return name
        name = device.names.get(metric.alias) if metric.HasField("alias") else None
        self.unknown += name is None
        return name


def _value(metric: Any, kind: int) -> object:
    which = metric.WhichOneof("value")
    if which is None or metric.is_null:
        return None
    value: Any = getattr(metric, which)
    bits = _SIGNED_BITS.get(metric.datatype or kind, 0)
    if which in ("int_value", "long_value") and bits:
        value &= (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    return value[:MAX_TEXT] if isinstance(value, str) else value


def _seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def open_input(settings: Mapping[str, object]) -> MqttInput:
    """From the agent's settings; ``topics`` are by default all of Sparkplug B. Raises `InvalidInput`."""
    section = Section({"topics": ["spBv1.0/#"], **settings}, "The input")
    section.take("kind", "")
    name, how = section.text("name", max_chars=200), connection(section)
    section.done()
    return MqttInput(name, how.pop("broker"), how.pop("topics"), SparkplugDecoder().decode, **how)
