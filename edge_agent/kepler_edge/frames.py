"""The frame around every message: canonical JSON, compressed where it pays, signed with its topic."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from typing import cast

from .errors import InvalidInput

MAGIC = b"K1"
COMPRESSED = 1
HEADER_BYTES = 67
# What a receiver inflates at most; a bomb of a few KiB must not fill the memory of a gateway.
MAX_BODY_BYTES = 1 << 20
# Below this zlib's header eats what it saves.
COMPRESS_FROM_BYTES = 1024

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes], bool]


class FrameError(InvalidInput):
    """A payload that is no frame, or none that holds. The text names the check, never the contents."""


def canonical(value: object) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8 and no NaN.

    Raises
    ------
    ValueError
        For NaN, infinities, and texts that UTF-8 cannot carry.
    TypeError
        For what JSON has no form for.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def clean(value: object) -> object:
    """The value with NaN and infinities as None, and NumPy's scalars as Python's.

    Texts lose lone surrogates, which no UTF-8 can carry.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, dict):
        return {
            str(clean(str(key))): clean(item) for key, item in cast("dict[object, object]", value).items()
        }
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in cast("list[object]", value)]
    item = getattr(value, "item", None)
    return clean(item()) if callable(item) else clean(str(value))


def signed_bytes(topic: str, flags: int, body: bytes) -> bytes:
    """What a frame's signature covers."""
    return topic.encode("utf-8") + b"\0" + bytes((flags,)) + body


def encode(topic: str, body: bytes, sign: Sign) -> bytes:
    """A frame for ``topic`` around ``body``.

    Raises
    ------
    FrameError
        When the body is larger than a receiver would take.
    """
    if len(body) > MAX_BODY_BYTES:
        raise FrameError(f"body has {len(body)} bytes, at most {MAX_BODY_BYTES} are allowed")
    flags = 0
    if len(body) > COMPRESS_FROM_BYTES:
        packed = zlib.compress(body, 6)
        if len(packed) < len(body):
            flags, body = COMPRESSED, packed
    return MAGIC + bytes((flags,)) + sign(signed_bytes(topic, flags, body)) + body


def decode(topic: str, payload: bytes, verify: Verify) -> bytes:
    """The body of a frame whose signature holds for ``topic``.

    The signature is checked before anything is inflated or parsed.

    Raises
    ------
    FrameError
        Naming the check that failed.
    """
    if len(payload) < HEADER_BYTES or payload[:2] != MAGIC:
        raise FrameError("no frame")
    if len(payload) > MAX_BODY_BYTES + HEADER_BYTES:
        raise FrameError("oversized")
    flags, signature, body = payload[2], payload[3:HEADER_BYTES], payload[HEADER_BYTES:]
    if flags & ~COMPRESSED:
        raise FrameError("unknown flags")
    if not verify(signed_bytes(topic, flags, body), signature):
        raise FrameError("signature does not hold")
    return _inflate(body) if flags & COMPRESSED else body


def parse(body: bytes) -> dict[str, object]:
    """The JSON object of a body.

    Raises
    ------
    FrameError
        For anything but one JSON object: other encodings, NaN, keys that come twice, too deep nesting.
    """
    try:
        text = body.decode("utf-8")
        found = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:  # json recurses, and says so before the stack ends
        raise FrameError("no JSON") from error
    if not isinstance(found, dict):
        raise FrameError("no JSON object")
    return cast("dict[str, object]", found)


def message(topic: str, value: object, sign: Sign) -> bytes:
    """A frame around a value."""
    return encode(topic, canonical(value), sign)


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        out = inflater.decompress(body, MAX_BODY_BYTES)
    except zlib.error as error:
        raise FrameError("no zlib stream") from error
    if inflater.unconsumed_tail or not inflater.eof or inflater.unused_data:
        raise FrameError("oversized after decompression, cut short, or followed by other bytes")
    return out


def _refuse_constant(name: str) -> object:
    raise FrameError(f"{name} is no JSON")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FrameError("a key comes twice")
    return found
