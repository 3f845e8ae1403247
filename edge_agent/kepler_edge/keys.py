"""The device's one Ed25519 key, its certificate request, and the list of keys it believes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import textwrap
import threading
from collections.abc import Iterable
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from .durable import write_atomically
from .errors import InvalidInput

SEED_BYTES = 32
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
MAX_TRUSTED = 4

# Fixed beginnings of RFC 8410 structures for Ed25519 (object identifier 1.3.101.112).
_ALGORITHM = bytes.fromhex("300506032b6570")
_PKCS8 = bytes.fromhex("302e020100") + _ALGORITHM + bytes.fromhex("04220420")
_SPKI = bytes.fromhex("302a") + _ALGORITHM + bytes.fromhex("032100")
_COMMON_NAME = bytes.fromhex("0603550403")


class DeviceKey:
    """Signs for this device. The seed never leaves the object but into its own files."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise InvalidInput(
                f"A key has {SEED_BYTES} bytes, this one {len(seed)}", fix="Enrol the device again."
            )
        self._seed = seed
        self._signing = SigningKey(seed)
        self.public: bytes = bytes(self._signing.verify_key)

    def __repr__(self) -> str:
        return f"DeviceKey({key_id(self.public)})"

    @classmethod
    def load_or_create(cls, path: Path) -> DeviceKey:
        """The key in ``path``; made there, for the owner's eyes alone, when there is none.

        Raises
        ------
        InvalidInput
            When the file is no key, or others may read it.
        """
        try:
            return cls.load(path)
        except FileNotFoundError:
            write_atomically(path, os.urandom(SEED_BYTES), mode=0o600)
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> DeviceKey:
        """The key in ``path``. FileNotFoundError where there is none."""
        if path.stat().st_mode & 0o077:
            raise InvalidInput(f"{path.name} may be read by others", fix="Run `chmod 600` on it.")
        return cls(path.read_bytes())

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of an Ed25519 signature."""
        return self._signing.sign(message).signature

    def private_pem(self) -> str:
        """The key as PKCS#8, for the TLS library. A secret."""
        return _pem("PRIVATE KEY", _PKCS8 + self._seed)

    def csr_pem(self, common_name: str) -> str:
        """A PKCS#10 request (RFC 2986) for a certificate with this common name and nothing else."""
        name = _der(
            0x30,
            _der(0x31, _der(0x30, _COMMON_NAME + _der(0x0C, common_name.encode("utf-8")))),
        )
        info = _der(0x30, bytes.fromhex("020100") + name + _SPKI + self.public + bytes.fromhex("a000"))
        request = _der(0x30, info + _ALGORITHM + _der(0x03, b"\0" + self.sign(info)))
        return _pem("CERTIFICATE REQUEST", request)


class Trust:
    """Public keys whose signatures hold. Replaced as a whole; safe to use from several threads."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, VerifyKey] = {}
        self.replace(keys)

    @classmethod
    def from_base64(cls, texts: Iterable[str]) -> Trust:
        """Raises InvalidInput for anything that is no key."""
        return cls(public_from_base64(text) for text in texts)

    def replace(self, keys: Iterable[bytes]) -> None:
        """Believes these keys, and no others, from now on."""
        made = {key_id(key): VerifyKey(_checked(key)) for key in keys}
        if len(made) > MAX_TRUSTED:
            raise InvalidInput(f"At most {MAX_TRUSTED} keys are trusted at a time, these are {len(made)}.")
        with self._lock:
            self._keys = made

    @property
    def key_ids(self) -> list[str]:
        """Their names: the first 16 hexadecimal digits of each key's SHA-256."""
        with self._lock:
            return sorted(self._keys)

    def to_base64(self) -> list[str]:
        """The keys as the contract writes them."""
        with self._lock:
            keys = [self._keys[name] for name in sorted(self._keys)]
        return [base64.b64encode(bytes(key)).decode("ascii") for key in keys]

    def verify(self, message: bytes, signature: bytes, key: str | None = None) -> bool:
        """Whether a trusted key, or the one named ``key``, made this signature."""
        if len(signature) != SIGNATURE_BYTES:
            return False
        with self._lock:
            found = (
                list(self._keys.values()) if key is None else [k for n, k in self._keys.items() if n == key]
            )
        return any(_holds(one, message, signature) for one in found)


def key_id(public: bytes) -> str:
    """Name of a public key, as manifests write it."""
    return hashlib.sha256(public).hexdigest()[:16]


def public_from_base64(text: str) -> bytes:
    """The bytes of a public key written in base64. Raises InvalidInput."""
    try:
        return _checked(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error) as error:
        raise InvalidInput("A trusted key is no base64", fix="Enrol the device again.") from error


def _checked(key: bytes) -> bytes:
    if len(key) != PUBLIC_BYTES:
        raise InvalidInput(
            f"A public key has {PUBLIC_BYTES} bytes, this one {len(key)}", fix="Enrol the device again."
        )
    return key


def _holds(key: VerifyKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _pem(label: str, der: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])
