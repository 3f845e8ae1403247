"""The security parts of one home, as the service and the administrator's commands open them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Literal

from kepler.adapters.secrets.keys import KeyFile, KeyPlace, KeyringPlace
from kepler.adapters.secrets.signer import Ed25519Signer
from kepler.adapters.secrets.store import FileSecretStore
from kepler.adapters.secrets.trusted_keys import TrustedKeys
from kepler.adapters.security.audit import HashChainAuditLog
from kepler.adapters.security.private_files import private_folder
from kepler.adapters.security.tokens import SqliteTokenStore
from kepler.ports.clock import Clock

KeyChoice = Literal["file", "keyring"]


class HomeSecurity:
    """Secrets, tokens, audit log and signer of ``home``; each is opened when first asked for.

    Parameters
    ----------
    home
        KEPLER_HOME.
    key
        Where the key of the secret store lives: ``file`` or ``keyring``.
    clock
        What the tokens' lifetimes and the audit's times are read from.
    on_reveal
        See `FileSecretStore`.
    """

    def __init__(
        self, home: Path, key: KeyChoice, clock: Clock, on_reveal: Callable[[str], None] | None = None
    ) -> None:
        self.home = private_folder(home)
        self._key = key
        self._clock = clock
        self._on_reveal = on_reveal

    @cached_property
    def secrets(self) -> FileSecretStore:
        place: KeyPlace
        if self._key == "keyring":
            place = KeyringPlace(str(self.home.resolve()))
        else:
            place = KeyFile(self.home / "secrets.key")
        return FileSecretStore(self.home / "secrets.json", place, self._on_reveal)

    @cached_property
    def tokens(self) -> SqliteTokenStore:
        return SqliteTokenStore(self.home / "tokens.sqlite", self.secrets, self._clock)

    @cached_property
    def audit(self) -> HashChainAuditLog:
        return HashChainAuditLog(self.home / "audit", self.secrets, self._clock)

    @cached_property
    def signer(self) -> Ed25519Signer:
        return Ed25519Signer(self.secrets)

    @cached_property
    def trust(self) -> TrustedKeys:
        return TrustedKeys(self.secrets, self.signer)

    def close(self) -> None:
        """Close what was opened; can be repeated."""
        if "tokens" in self.__dict__:
            self.tokens.close()
