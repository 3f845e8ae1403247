"""The frame around every message (docs/reference/mqtt.md), on the service's side."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAGIC = b"K1"
COMPRESSED = 1
HEADER_BYTES = 67
MAX_BODY_BYTES = 1 << 20  # after decompression: a bomb of a few KiB must not fill the memory
COMPRESS_FROM_BYTES = 1024  # below this the header of zlib eats what it saves


class BadFrame(ValueError):
    """A payload that is no frame, or none that holds; `check` is the word to count it under."""

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check


def canonical(value: object) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8, no NaN. Raises `ValueError` or `TypeError` for what has no form."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def signed_bytes(topic: str, flags: int, body: bytes) -> bytes:
    """What the signature covers."""
    return topic.encode() + b"\0" + bytes((flags,)) + body


def encode(topic: str, body: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """A frame for ``topic``. Raises `BadFrame` for a body that no receiver would take."""
    if len(body) > MAX_BODY_BYTES:
        raise BadFrame("oversized")
    flags = 0
    if len(body) > COMPRESS_FROM_BYTES:
        packed = zlib.compress(body, 6)
        if len(packed) < len(body):
            flags, body = COMPRESSED, packed
    return MAGIC + bytes((flags,)) + sign(signed_bytes(topic, flags, body)) + body


def message(topic: str, value: object, sign: Callable[[bytes], bytes]) -> bytes:
    """A frame around a value."""
    return encode(topic, canonical(value), sign)


def decode(topic: str, payload: bytes, keys: Iterable[bytes]) -> bytes:
    """The body, if the signature holds for ``topic`` under one of the raw public ``keys``.

    Nothing is inflated before that. Raises `BadFrame`.
    """
    if len(payload) < HEADER_BYTES or payload[:2] != MAGIC:
        raise BadFrame("no-frame")
    if len(payload) > MAX_BODY_BYTES + HEADER_BYTES:
        raise BadFrame("oversized")
    flags, signature, body = payload[2], payload[3:HEADER_BYTES], payload[HEADER_BYTES:]
    if flags & ~COMPRESSED:
        raise BadFrame("flags")
    covered = signed_bytes(topic, flags, body)
    if not any(_holds(key, covered, signature) for key in keys):
        raise BadFrame("signature")
    return _inflated(body) if flags & COMPRESSED else body


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises `BadFrame` for other encodings, NaN, doubled keys, deep nesting."""
    try:
        found = json.loads(body.decode(), parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise BadFrame("json") from error
    if not isinstance(found, dict):
        raise BadFrame("json")
    return found


def _holds(key: bytes, covered: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, covered)
    except (InvalidSignature, ValueError):
        return False
    return True


def _inflated(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise BadFrame("zlib") from error
    if inflater.unconsumed_tail or not inflater.eof or inflater.unused_data:
        raise BadFrame("zlib")
    return found


def _refuse(name: str) -> object:
    raise ValueError(name)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found
