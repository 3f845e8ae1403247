"""Inputs: JSON payloads, files and pipes, Sparkplug B. What comes is hostile until checked."""

import contextlib
import importlib.resources
import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kepler_edge.errors import InvalidInput
from kepler_edge.inputs import open_input
from kepler_edge.inputs.payload import MAX_FIELDS, readings_of
from kepler_edge.inputs.sparkplug import SparkplugDecoder, payload_class, payload_file


def fields(payload, **options):
    return [reading.fields for reading in readings_of(payload, "s", **options)]


def test_payloads_of_every_shape():
    assert fields(b'{"a": 1, "b": "x", "c": null, "d": true}') == [{"a": 1, "b": "x", "c": None, "d": True}]
    assert fields(b'{"a": {"b": {"c": 2}}, "list": [1]}') == [{"a.b.c": 2}]
    assert fields(b'[{"a": 1}, {"a": 2}]') == [{"a": 1}, {"a": 2}]
    assert fields(b"[1, 2.5, null]", names=("x", "y")) == [{"x": 1, "y": 2.5, "2": None}]
    assert fields(b"21.5", field="temperature") == [{"temperature": 21.5}]
    assert fields(b'"on"') == [{"value": "on"}]
    assert fields(b'{"a": NaN, "b": -Infinity}') == [{"a": None, "b": None}]
    assert fields(b"[]") == []


@pytest.mark.parametrize(
    ("payload", "ts"),
    [
        (b'{"ts": 1700000000}', 1.7e9),
        (b'{"timestamp": 1700000000123}', 1700000000.123),
        (b'{"time": 1700000000123456789}', 1700000000.1234567),
        (b'{"ts": "2024-01-01"}', None),
        (b'{"ts": true}', None),
        (b'{"ts": -5}', None),
    ],
)
def test_times_in_seconds_or_smaller(payload, ts):
    assert readings_of(payload, "s")[0].ts == (None if ts is None else pytest.approx(ts))


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"x" * 300_000, b"[" + b"1," * 2000 + b"1]", b"[" + b"{}," * 2000 + b"{}]"],
)  # fmt: skip
def test_bad_payloads_are_one_kind_of_error(payload):
    with pytest.raises(InvalidInput):
        readings_of(payload, "s")


def test_too_many_fields_are_refused():
    many = b"{" + b",".join(b'"f%d":1' % at for at in range(MAX_FIELDS + 1)) + b"}"
    with pytest.raises(InvalidInput, match="more than"):
        readings_of(many, "s")


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_random_payloads_give_readings_or_one_error(payload):
    decoder = SparkplugDecoder()
    for read in (
        lambda: readings_of(payload, "s"),
        lambda: decoder.decode("spBv1.0/g/NBIRTH/n", payload),
        lambda: decoder.decode("spBv1.0/g/DDATA/n/d", payload),
    ):
        with contextlib.suppress(InvalidInput):
            read()


def collected(settings_, feed=None, seconds=5.0, least=0):
    """Readings of an input that runs in a thread until it ends or enough came."""
    opened = open_input(settings_)
    found, stop = [], threading.Event()
    thread = threading.Thread(target=opened.run, args=(found.append, stop))
    thread.start()
    if feed:
        feed()
    end = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < end and not (least and len(found) >= least):
        time.sleep(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    return found, opened.counts


def test_csv_with_quotes_and_ragged_rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('a,b,ts\r\n1,"x, y",1700000000\n2,short\n\n3,"line\nbreak",1700000001\n')
    found, counts = collected({"name": "f", "kind": "file", "path": str(path), "ts_field": "ts"})
    assert [reading.fields["b"] for reading in found] == ["x, y", "line\nbreak"]
    assert [reading.ts for reading in found] == [1.7e9, 1.7e9 + 1]
    assert counts == {"read": 2, "wrong": 1, "dropped": 0}


def test_json_lines_and_lines_that_are_too_long(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * 700_000 + b'\nnot json\n{"a": 2}')
    found, counts = collected({"name": "f", "kind": "file", "path": str(path)})
    assert [reading.fields for reading in found] == [{"a": 1}, {"a": 2}]
    assert counts == {"read": 2, "wrong": 1, "dropped": 1}


def test_a_pipe_is_read_across_writers_and_can_be_left(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def feed():
        for line in ('{"a": 1}\n', '{"a": 2}\n'):
            with path.open("w") as out:
                out.write(line)
            time.sleep(0.3)

    found, _ = collected({"name": "p", "kind": "file", "path": str(path), "format": "jsonl"}, feed, least=2)
    assert [reading.fields["a"] for reading in found] == [1, 2]
    found, _ = collected({"name": "p", "kind": "file", "path": str(path)}, seconds=0.3)
    assert found == []


def test_wrong_settings_say_what():
    for bad, word in [
        ({"kind": "soap"}, "kind"),
        ({"kind": "file", "name": "f"}, "path"),
        ({"kind": "file", "name": "f", "path": "x", "colour": 1}, "colour"),
        ({"kind": "mqtt", "name": "m", "broker": "http://x", "topics": ["a"]}, "mqtt://"),
        ({"kind": "mqtt", "name": "m", "broker": "mqtt://x", "topics": []}, "topics"),
    ]:
        with pytest.raises(InvalidInput, match=word):
            open_input(bad)


def test_messages_beyond_the_queue_push_out_the_oldest():
    opened = open_input({"kind": "mqtt", "name": "m", "broker": "mqtt://127.0.0.1", "topics": ["a/#"]})
    for at in range(10_005):
        opened.take("a/b", b"%d" % at)
    opened.take("a/b", b"x" * 300_000)
    assert opened.counts["dropped"] == 5
    assert opened.counts["wrong"] == 1
    assert opened._waiting.get() == ("a/b", b"5")


def birth(**more):
    message = payload_class()(timestamp=1_700_000_000_000, seq=0)
    message.metrics.add(name="Pump/Temp", alias=1, datatype=10, double_value=20.5)
    message.metrics.add(name="Pump/Delta", alias=2, datatype=3, int_value=2**32 - 5)
    message.metrics.add(name="Pump/State", alias=3, datatype=12, string_value="on")
    message.metrics.add(name="Pump/Gone", alias=4, datatype=10, is_null=True)
    return message.SerializeToString()


def test_sparkplug_births_name_what_data_messages_change():
    decoder = SparkplugDecoder()
    (first,) = decoder.decode("spBv1.0/g/DBIRTH/n/d", birth())
    assert first.source == "g/n/d"
    assert first.ts == 1.7e9
    assert first.fields == {"Pump/Temp": 20.5, "Pump/Delta": -5, "Pump/State": "on", "Pump/Gone": None}
    data = payload_class()(timestamp=1_700_000_001_000, seq=1)
    data.metrics.add(alias=1, double_value=21.0)
    data.metrics.add(alias=2, int_value=7)
    data.metrics.add(alias=99, int_value=7)
    data.metrics.add(alias=1, double_value=19.0, is_historical=True, timestamp=1_600_000_000_000)
    kept, now = decoder.decode("spBv1.0/g/DDATA/n/d", data.SerializeToString())
    assert (kept.fields, kept.ts) == ({"Pump/Temp": 19.0}, 1.6e9)
    assert now.fields == {**first.fields, "Pump/Temp": 21.0, "Pump/Delta": 7}
    assert decoder.unknown == 1
    assert decoder.decode("spBv1.0/g/NDEATH/n", b"") == []
    assert decoder.decode("spBv1.0/g/DDATA/n/d", data.SerializeToString())[-1:] != [now]
    for topic in ("spBv1.0/g/DDATA", "other/g/DDATA/n/d", "spBv1.0//DDATA/n/d"):
        with pytest.raises(InvalidInput):
            decoder.decode(topic, b"")
    assert decoder.decode("spBv1.0/g/NCMD/n", b"\xff") == []


def test_the_descriptor_is_the_proto(tmp_path, root):
    from google.protobuf import descriptor_pb2

    out = tmp_path / "set"
    folder = root / "proto" / "thirdparty" / "sparkplug"
    std = importlib.resources.files("grpc_tools") / "_proto"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{std}", f"--descriptor_set_out={out}",
         "sparkplug_b.proto"],
        check=True, cwd=folder, capture_output=True,
    )  # fmt: skip
    compiled = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]

    def table(file):
        return {
            message.name: [
                (f.name, f.number, f.type, f.label, f.HasField("oneof_index")) for f in message.field
            ]
            for message in file.message_type
        }

    assert table(compiled) == table(payload_file())
