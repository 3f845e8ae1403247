"""Signs model packages with an Ed25519 key that lives in the secret store."""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kepler.core.errors import Conflict
from kepler.ports.security import SecretStore

SECRET_NAME = "kepler.model-signing-key"  # noqa: S105 - the name of a secret, not one


class Ed25519Signer:
    """`Signer` whose key is made once per home.

    ``key_id`` is the beginning of the public key's SHA-256 and stands in the manifest of what was signed.
    """

    def __init__(self, secret_store: SecretStore) -> None:
        fresh = base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()
        stored = secret_store.setdefault(SECRET_NAME, fresh)
        try:
            self._private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(stored, validate=True))
        except ValueError as error:
            raise Conflict(
                f"Secret {SECRET_NAME!r} is no Ed25519 key",
                fix="Restore it from a backup, or delete it to sign with a new key.",
            ) from error
        self._public = self._private.public_key()
        self.key_id = hashlib.sha256(self._public.public_bytes_raw()).hexdigest()[:16]

    def sign(self, payload: bytes) -> bytes:
        return self._private.sign(payload)

    def verify(self, payload: bytes, signature: bytes) -> bool:
        try:
            self._public.verify(signature, payload)
        except InvalidSignature:
            return False
        return True

    def public_raw(self) -> bytes:
        """The 32 bytes of the public key, as edge devices trust it."""
        return self._public.public_bytes_raw()

    def public_pem(self) -> str:
        """The public key, for those who check packages elsewhere."""
        return self._public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
