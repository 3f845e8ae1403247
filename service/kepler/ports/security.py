"""Who may do what, secrets, and the record of what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

CAPABILITIES = ("train", "predict", "deploy", "admin", "issue")


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, authenticated. ``token_id`` is empty on loopback without tokens."""

    user: str
    capabilities: frozenset[str]
    token_id: str = ""
    expires_at: float = 0.0

    def can(self, capability: str) -> bool:
        return capability in self.capabilities or "admin" in self.capabilities


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A stored token without its secret."""

    id: str
    name: str
    user: str
    capabilities: frozenset[str]
    created_at: float
    expires_at: float  # 0 never
    revoked: bool


class TokenStore(Protocol):
    """Bearer tokens. Only hashes are stored."""

    def create(
        self, name: str, user: str, capabilities: frozenset[str], ttl_s: float
    ) -> tuple[TokenInfo, str]:
        """Gives the token's text once; ``ttl_s`` 0 never expires."""
        ...

    def issue(
        self, parent: Principal, user: str, capabilities: frozenset[str], ttl_s: float
    ) -> tuple[Principal, str]:
        """A short-lived token for ``user``, bounded by the parent's capabilities and dying with it."""
        ...

    def authenticate(self, token: str) -> Principal:
        """Raises `Unauthenticated` naming the cause: unknown, expired, revoked."""
        ...

    def recheck(self, principal: Principal) -> None:
        """Raise `Unauthenticated` when the principal's token ended since; for streams that live long."""
        ...

    def list(self) -> list[TokenInfo]: ...

    def revoke(self, token_id: str) -> TokenInfo: ...


class SecretStore(Protocol):
    """The only home of credentials: AES-256-GCM at rest, names in the clear."""

    def set(self, name: str, value: str) -> None: ...

    def get(self, name: str) -> str:
        """Raises `NotFound`."""
        ...

    def setdefault(self, name: str, value: str) -> str:
        """Store ``value`` unless ``name`` exists; gives what is stored. Atomic between processes."""
        ...

    def names(self) -> list[str]: ...

    def delete(self, name: str) -> None: ...


class AuditLog(Protocol):
    """Append-only, hash-chained record of every state-changing call."""

    def append(
        self, *, who: str, action: str, what: str, outcome: str, detail: dict[str, str] | None = None
    ) -> None:
        """Durable when it returns."""
        ...

    def verify(self) -> int:
        """Number of records; raises `Conflict` naming the first broken one."""
        ...


class Verifier(Protocol):
    """Says whether a signature holds."""

    def verify(self, payload: bytes, signature: bytes) -> bool: ...


class Signer(Verifier, Protocol):
    """Signs model packages (Ed25519)."""

    key_id: str

    def sign(self, payload: bytes) -> bytes: ...
