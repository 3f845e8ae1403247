"""A signer with a key of its own, for tests that need signatures and not key storage."""

from __future__ import annotations

import hashlib
import hmac


class FakeSigner:
    """Keyed hash instead of Ed25519: as strict about what was signed, and without a key to keep."""

    def __init__(self, key: str = "test") -> None:
        self.key_id = key

    def sign(self, payload: bytes) -> bytes:
        return hmac.digest(self.key_id.encode(), payload, hashlib.sha256)

    def verify(self, payload: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(self.sign(payload), signature)
