"""Credentials at rest: each value sealed with a key of its own, that key sealed with the store's key."""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kepler.adapters.secrets.keys import KeyChain, KeyPlace
from kepler.adapters.security.private_files import locked, read_private, write_private
from kepler.core.errors import Conflict, InvalidInput, NotFound, NotReady

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
MAX_VALUE_BYTES = 64 * 1024  # credentials, not files
FORMAT = 1
NONCE_BYTES = 12


class FileSecretStore:
    """`SecretStore` in one JSON file: names in the clear, values under AES-256-GCM.

    A value is bound to its name and version, so entries cannot be exchanged inside the file. Every write
    replaces the file at once under a lock, so that several processes may use one store.

    Parameters
    ----------
    path
        The file, made with mode 0600.
    key_place
        Keeps the key that opens it.
    on_reveal
        Told each value that leaves or enters the store, so that logs can keep it out.
    """

    def __init__(
        self, path: Path, key_place: KeyPlace, on_reveal: Callable[[str], None] | None = None
    ) -> None:
        self.path = path
        self._key_place = key_place
        self._on_reveal = on_reveal or (lambda value: None)
        self._lock_path = path.with_name(f".{path.name}.lock")
        self._thread_lock = threading.Lock()

    def set(self, name: str, value: str) -> None:
        with self._thread_lock, locked(self._lock_path):
            self._put(name, value)

    def setdefault(self, name: str, value: str) -> str:
        with self._thread_lock, locked(self._lock_path):
            if name not in self._entries():
                self._put(name, value)
            return self._open(name)

    def get(self, name: str) -> str:
        # Under the lock: a rotation on the way replaces file and key one after the other.
        with self._thread_lock, locked(self._lock_path):
            return self._open(name)

    def names(self) -> list[str]:
        return sorted(self._entries())

    def delete(self, name: str) -> None:
        with self._thread_lock, locked(self._lock_path):
            entries = self._entries()
            if name not in entries:
                raise self._missing(name, list(entries))
            del entries[name]
            self._save(entries)

    def rotate(self) -> str:
        """Seal everything under a new key and forget the old one; gives the new key's id.

        Interrupted at any point the store still opens, and the next rotation completes the work.
        """
        with self._thread_lock, locked(self._lock_path):
            chain = self._chain(make=True)
            both = chain.with_next()
            self._key_place.save(both)
            entries = {name: self._rewrapped(name, entry, both) for name, entry in self._entries().items()}
            self._save(entries)
            self._key_place.save(both.only_current())
            return both.current

    # The steps below run under the lock.

    def _put(self, name: str, value: str) -> None:
        if not NAME.fullmatch(name):
            raise InvalidInput(
                f"Secret {name[:120]!r} is not a legal name",
                fix="Use 1 to 128 letters, digits, '_', '.', '@' or '-', beginning with a letter or digit.",
            )
        plain = value.encode()
        if not plain or len(plain) > MAX_VALUE_BYTES:
            raise InvalidInput(f"The value of secret {name!r} must have 1 to {MAX_VALUE_BYTES} bytes")
        entries = self._entries()
        chain = self._chain(make=not entries)
        version = int(entries[name]["version"]) + 1 if name in entries else 1
        data_key = secrets.token_bytes(32)
        entries[name] = {
            "version": version,
            "key_id": chain.current,
            "wrapped": _seal(chain.keys[chain.current], data_key, f"{name}|{version}|key"),
            "sealed": _seal(data_key, plain, f"{name}|{version}"),
            "updated_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self._save(entries)
        self._on_reveal(value)

    def _open(self, name: str) -> str:
        entries = self._entries()
        if name not in entries:
            raise self._missing(name, list(entries))
        entry = entries[name]
        data_key = self._data_key(name, entry, self._chain(make=False))
        value = _unseal(data_key, entry.get("sealed"), f"{name}|{entry.get('version')}", name).decode()
        self._on_reveal(value)
        return value

    def _rewrapped(self, name: str, entry: dict[str, Any], chain: KeyChain) -> dict[str, Any]:
        data_key = self._data_key(name, entry, chain)
        wrapped = _seal(chain.keys[chain.current], data_key, f"{name}|{entry['version']}|key")
        return {**entry, "key_id": chain.current, "wrapped": wrapped}

    def _data_key(self, name: str, entry: dict[str, Any], chain: KeyChain) -> bytes:
        key = chain.keys.get(str(entry.get("key_id")))
        if key is None:
            raise NotReady(
                f"The key that opens secret {name!r} is not here",
                cause=f"It was sealed with key {entry.get('key_id')!r}.",
                fix="Restore the key from the backup of this home, or set the secret again.",
            )
        return _unseal(key, entry.get("wrapped"), f"{name}|{entry.get('version')}|key", name)

    def _chain(self, *, make: bool) -> KeyChain:
        chain = self._key_place.load()
        if chain is not None:
            return chain
        if not make:
            raise NotReady(
                f"The key that opens {self.path} is missing",
                fix="Restore it from the backup of this home; without it, set the secrets again.",
            )
        chain = KeyChain.new()
        self._key_place.save(chain)
        return chain

    def _entries(self) -> dict[str, dict[str, Any]]:
        if not self.path.exists():
            return {}
        try:
            document = json.loads(read_private(self.path))
            found = document["format"]
            entries = dict(document["secrets"])
        except (ValueError, KeyError, TypeError) as error:
            raise Conflict(f"{self.path} is damaged", fix="Restore it from a backup.") from error
        if found != FORMAT:
            raise Conflict(f"{self.path} has format {found}", fix="Use the version of Kepler that wrote it.")
        return entries

    def _save(self, entries: dict[str, dict[str, Any]]) -> None:
        write_private(self.path, json.dumps({"format": FORMAT, "secrets": entries}, indent=1).encode())

    def _missing(self, name: str, known: list[str]) -> NotFound:
        return NotFound(
            f"There is no secret {name[:120]!r}",
            cause=f"Known are {', '.join(sorted(known))}." if known else "None is stored yet.",
            fix=f"Store it with `kepler secret set {name[:120]}`.",
        )


def _seal(key: bytes, plain: bytes, bound_to: str) -> str:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, plain, bound_to.encode())).decode()


def _unseal(key: bytes, sealed: object, bound_to: str, name: str) -> bytes:
    try:
        raw = base64.b64decode(str(sealed), validate=True)
        return AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound_to.encode())
    except (InvalidTag, ValueError) as error:
        raise Conflict(
            f"Secret {name!r} was changed outside Kepler",
            fix="Set it again, and find out who writes to the store.",
        ) from error
