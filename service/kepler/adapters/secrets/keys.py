"""Where the key that opens the secret store lives: a file of our own or the keyring of the system."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kepler.adapters.security.private_files import read_private, write_private
from kepler.core.errors import Conflict, NotReady

# Back ends that keep the key encrypted by the system. Others are refused: a package that is merely
# installed can make a plain-text back end the default one.
TRUSTED_BACKENDS = (
    "keyring.backends.SecretService",
    "keyring.backends.macOS",
    "keyring.backends.Windows",
    "keyring.backends.kwallet",
    "keyring.backends.libsecret",
)
SERVICE = "kepler-for-splunk"


@dataclass(frozen=True, slots=True)
class KeyChain:
    """The keys that open secrets now. More than one only while a rotation is under way."""

    current: str
    keys: dict[str, bytes]

    @classmethod
    def new(cls) -> KeyChain:
        key_id = secrets.token_hex(4)
        return cls(key_id, {key_id: secrets.token_bytes(32)})

    def with_next(self) -> KeyChain:
        """The same keys and a new current one."""
        fresh = KeyChain.new()
        return KeyChain(fresh.current, {**self.keys, **fresh.keys})

    def only_current(self) -> KeyChain:
        return KeyChain(self.current, {self.current: self.keys[self.current]})

    def to_text(self) -> str:
        keys = {key_id: base64.b64encode(key).decode() for key_id, key in self.keys.items()}
        return json.dumps({"current": self.current, "keys": keys})

    @classmethod
    def from_text(cls, text: str, place: str) -> KeyChain:
        try:
            value = json.loads(text)
            keys = {
                str(key_id): base64.b64decode(key, validate=True) for key_id, key in value["keys"].items()
            }
            chain = cls(str(value["current"]), keys)
            if chain.current not in keys or any(len(key) != 32 for key in keys.values()):
                raise ValueError("wrong keys")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Conflict(
                f"The key of the secret store in {place} is damaged", fix="Restore it from a backup."
            ) from error
        return chain


class KeyPlace(Protocol):
    """Keeps a `KeyChain`."""

    def load(self) -> KeyChain | None:
        """None when there is none yet."""
        ...

    def save(self, chain: KeyChain) -> None: ...


class KeyFile:
    """The keys in a file with mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> KeyChain | None:
        if not self.path.exists():
            return None
        return KeyChain.from_text(read_private(self.path).decode("utf-8", "replace"), str(self.path))

    def save(self, chain: KeyChain) -> None:
        write_private(self.path, chain.to_text().encode())


class KeyringPlace:
    """The keys in the system's keyring, through back ends of `TRUSTED_BACKENDS` only.

    Parameters
    ----------
    entry
        Tells apart several homes of one user: the home's path.
    backend
        A keyring back end, chosen by itself when None.
    """

    def __init__(self, entry: str, backend: Any = None) -> None:
        self.entry = entry
        self.backend = backend if backend is not None else trusted_backend()

    def load(self) -> KeyChain | None:
        text = self._ask(lambda: self.backend.get_password(SERVICE, self.entry))
        return None if text is None else KeyChain.from_text(text, "the keyring")

    def save(self, chain: KeyChain) -> None:
        self._ask(lambda: self.backend.set_password(SERVICE, self.entry, chain.to_text()))

    def _ask(self, call: Any) -> Any:
        from keyring.errors import KeyringError

        try:
            return call()
        except KeyringError as error:
            raise NotReady(
                "The system's keyring does not open",
                cause=type(error).__name__,
                fix="Unlock it, or set KEPLER_SECRETS__KEY=file.",
            ) from error


def trusted_backend() -> Any:
    """The best keyring back end that encrypts; raises `NotReady` when the system has none."""
    from keyring.backend import get_all_keyring

    backends = [ring for ring in get_all_keyring() if type(ring).__module__.startswith(TRUSTED_BACKENDS)]
    if not backends:
        raise NotReady(
            "This system has no keyring that encrypts",
            cause="None of Secret Service, KWallet, macOS Keychain and Windows Credential Locker answers.",
            fix="Set KEPLER_SECRETS__KEY=file to keep the key in a file with mode 0600.",
        )
    return max(backends, key=lambda ring: ring.priority)
