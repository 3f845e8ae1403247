"""Whose model packages this home takes: its own key and the public keys an administrator added.

They lie in the secret store, not because they are secret but because nobody can add one there without the
store's key.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from kepler.adapters.secrets.signer import Ed25519Signer
from kepler.core.errors import Conflict, InvalidInput, NotFound
from kepler.ports.security import SecretStore

PREFIX = "kepler.trusted-key."
OWN = "this home"
MAX_PEM_BYTES = 10_000
MAX_NAME_CHARS = 100


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key. ``key_id`` is the beginning of its SHA-256, ``name`` what people call it."""

    key_id: str
    name: str


class TrustedKeys:
    """Implements `ports.packages.Trust`. Reads the store each time, so that a change needs no restart."""

    def __init__(self, secrets: SecretStore, own: Ed25519Signer) -> None:
        self._secrets = secrets
        self._own = own

    def signer_of(self, payload: bytes, signature: bytes) -> str:
        """Id of the trusted key that signed ``payload``; empty when none did."""
        if self._own.verify(payload, signature):
            return self._own.key_id
        for key_id in self._ids():
            try:
                Ed25519PublicKey.from_public_bytes(self._open(key_id)[1]).verify(signature, payload)
            except InvalidSignature:
                continue
            return key_id
        return ""

    def verify(self, payload: bytes, signature: bytes) -> bool:
        """Implements `ports.security.Verifier`."""
        return bool(self.signer_of(payload, signature))

    def list(self) -> list[TrustedKey]:
        """This home's own key first, then the others by id."""
        others = [TrustedKey(key_id, self._open(key_id)[0]) for key_id in self._ids()]
        return [TrustedKey(self._own.key_id, OWN), *others]

    def add(self, pem: bytes, name: str) -> TrustedKey:
        """Trust an Ed25519 public key. Adding it again renames it. Raises `InvalidInput` for anything else."""
        if not name.isprintable() or not 0 < len(name) <= MAX_NAME_CHARS:
            raise InvalidInput(
                "The key's name is not usable", fix=f"Use 1 to {MAX_NAME_CHARS} printable characters."
            )
        public = _public_key(pem)
        key_id = hashlib.sha256(public).hexdigest()[:16]
        if key_id == self._own.key_id:
            raise Conflict(f"Key {key_id} is this home's own, which is trusted already")
        value = json.dumps({"name": name, "public": base64.b64encode(public).decode()})
        self._secrets.set(PREFIX + key_id, value)
        return TrustedKey(key_id, name)

    def remove(self, key_id: str) -> TrustedKey:
        """Trust a key no more; versions imported before stay. Raises `NotFound`."""
        if key_id not in self._ids():
            raise NotFound(
                f"No key {key_id[:64]!r} is trusted here", fix="`kepler version trusted` lists them."
            )
        removed = TrustedKey(key_id, self._open(key_id)[0])
        self._secrets.delete(PREFIX + key_id)
        return removed

    def _ids(self) -> list[str]:
        return [name.removeprefix(PREFIX) for name in self._secrets.names() if name.startswith(PREFIX)]

    def _open(self, key_id: str) -> tuple[str, bytes]:
        stored = json.loads(self._secrets.get(PREFIX + key_id))
        return str(stored["name"]), base64.b64decode(stored["public"])


def _public_key(pem: bytes) -> bytes:
    """The 32 bytes of an Ed25519 public key in PEM."""
    problem = InvalidInput(
        "This is no Ed25519 public key in PEM",
        fix="Write one with `kepler version key > FILE` where the package was made.",
    )
    if len(pem) > MAX_PEM_BYTES:
        raise problem
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise problem from error
    if not isinstance(key, Ed25519PublicKey):
        raise problem
    return key.public_bytes_raw()
