"""Service and edge agent write and read the same frames, byte for byte."""

from __future__ import annotations

import zlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kepler.adapters.mqtt import frames as service
from kepler_edge import frames as edge
from kepler_edge.keys import DeviceKey, Trust

SEED = bytes(range(32))
SERVICE_KEY = Ed25519PrivateKey.from_private_bytes(SEED)
PUBLIC = SERVICE_KEY.public_key().public_bytes_raw()
EDGE_KEY = DeviceKey(SEED)
TRUST = Trust([PUBLIC])

SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
VALUE = st.recursive(
    SCALAR | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)
BODY = st.dictionaries(TEXT, VALUE, max_size=6)
TOPIC = st.from_regex(r"\Akepler/v1/[a-z0-9-]{1,10}/[a-z0-9-]{1,10}/(p0|hist|ack)\Z")


@given(TOPIC, BODY, st.integers(0, 3000))
def test_both_write_the_same_and_read_the_other(topic: str, body: dict[str, object], filler: int) -> None:
    body = {**body, "filler": "x" * filler}
    ours = service.message(topic, body, SERVICE_KEY.sign)
    theirs = edge.message(topic, body, EDGE_KEY.sign)
    assert ours == theirs
    assert service.parse(service.decode(topic, theirs, [PUBLIC])) == edge.parse(
        edge.decode(topic, ours, TRUST.verify)
    )


@given(TOPIC, st.binary(max_size=300), st.booleans())
def test_both_refuse_the_same(topic: str, payload: bytes, framed: bool) -> None:
    if framed:
        flags = payload[:1] or b"\0"
        payload = (
            b"K1" + flags + SERVICE_KEY.sign(service.signed_bytes(topic, flags[0], payload[1:])) + payload[1:]
        )
    assert _refused_by_service(topic, payload) == _refused_by_edge(topic, payload)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":Infinity}', b"[1]", b"1", b"", b"\xff", b"[" * 50_000, b'{"a":1}x',
        '{"a":1}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    payload = service.encode("t", body, SERVICE_KEY.sign)
    assert _refused_by_service("t", payload)
    assert _refused_by_edge("t", payload)


def test_both_stop_inflating_at_the_bound() -> None:
    for size, refused in ((service.MAX_BODY_BYTES, False), (service.MAX_BODY_BYTES + 1, True)):
        body = zlib.compress(b'{"a":"' + b"x" * (size - 8) + b'"}')
        payload = b"K1\1" + SERVICE_KEY.sign(service.signed_bytes("t", 1, body)) + body
        assert _refused_by_service("t", payload) is refused
        assert _refused_by_edge("t", payload) is refused


def test_constants_agree() -> None:
    for name in ("MAGIC", "COMPRESSED", "HEADER_BYTES", "MAX_BODY_BYTES", "COMPRESS_FROM_BYTES"):
        assert getattr(service, name) == getattr(edge, name)


def _refused_by_service(topic: str, payload: bytes) -> bool:
    try:
        service.parse(service.decode(topic, payload, [PUBLIC]))
    except service.BadFrame:
        return True
    return False


def _refused_by_edge(topic: str, payload: bytes) -> bool:
    try:
        edge.parse(edge.decode(topic, payload, TRUST.verify))
    except edge.FrameError:
        return True
    return False
