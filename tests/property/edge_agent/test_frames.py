"""Frames: there and back, and nothing but a refusal for whatever else comes."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kepler_edge.frames import MAX_BODY_BYTES, FrameError, canonical, clean, decode, encode, message, parse
from kepler_edge.keys import DeviceKey, Trust

KEY = DeviceKey(b"\x01" * 32)
OTHER = DeviceKey(b"\x02" * 32)
TRUST = Trust([KEY.public])
TOPIC = "kepler/v1/acme/pump-7/p1"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)


@given(st.dictionaries(texts, values, max_size=8), st.integers(0, 3000))
def test_there_and_back(value: dict[str, object], padding: int) -> None:
    sent = {**value, "padding": "x" * padding}
    frame = message(TOPIC, sent, KEY.sign)
    body = decode(TOPIC, frame, TRUST.verify)
    assert parse(body) == sent
    assert canonical(parse(body)) == body


@given(st.dictionaries(texts, values, min_size=1, max_size=5), st.data())
def test_any_changed_byte_is_refused(value: dict[str, object], data: st.DataObject) -> None:
    frame = bytearray(message(TOPIC, value, KEY.sign))
    place = data.draw(st.integers(0, len(frame) - 1))
    frame[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError):
        decode(TOPIC, bytes(frame), TRUST.verify)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(FrameError):
        decode(TOPIC, noise, TRUST.verify)
    with pytest.raises(FrameError):
        decode(TOPIC, b"K1" + noise, TRUST.verify)


@given(st.binary(max_size=200), st.sampled_from([0, 1, 2, 255]))
def test_signed_noise_ends_in_a_refusal_or_an_object(noise: bytes, flags: int) -> None:
    signature = KEY.sign(TOPIC.encode() + b"\0" + bytes((flags,)) + noise)
    try:
        found = parse(decode(TOPIC, b"K1" + bytes((flags,)) + signature + noise, TRUST.verify))
    except FrameError:
        return
    assert isinstance(found, dict)


@given(st.text(max_size=40))
def test_another_topic_is_refused(topic: str) -> None:
    try:
        frame = message(topic, {"a": 1}, KEY.sign)
    except UnicodeEncodeError:
        return
    if topic != TOPIC:
        with pytest.raises(FrameError, match="signature"):
            decode(TOPIC, frame, TRUST.verify)


def test_another_device_is_refused() -> None:
    with pytest.raises(FrameError, match="signature"):
        decode(TOPIC, message(TOPIC, {"a": 1}, OTHER.sign), TRUST.verify)


def test_a_bomb_is_not_inflated() -> None:
    bomb = zlib.compress(b"[" * (MAX_BODY_BYTES * 50), 9)
    assert len(bomb) < 100_000
    frame = b"K1\x01" + KEY.sign(TOPIC.encode() + b"\0\x01" + bomb) + bomb
    with pytest.raises(FrameError, match="oversized"):
        decode(TOPIC, frame, TRUST.verify)


def test_the_largest_body_fits_and_one_byte_more_does_not() -> None:
    body = canonical({"a": "x" * (MAX_BODY_BYTES - 8)})
    assert len(body) == MAX_BODY_BYTES
    assert decode(TOPIC, encode(TOPIC, body, KEY.sign), TRUST.verify) == body
    with pytest.raises(FrameError):
        encode(TOPIC, body + b" ", KEY.sign)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b"null", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":1,"a":2}', b'{"a":"\xff"}', b"{", b'{"a":1}{}',
     b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        parse(body)


@given(
    st.dictionaries(
        st.text(max_size=5), st.floats() | st.text(max_size=5) | st.lists(st.floats(), max_size=3)
    )
)
def test_cleaned_values_always_have_a_canonical_form(value: dict[str, object]) -> None:
    assert isinstance(json.loads(canonical(clean(value))), dict)
