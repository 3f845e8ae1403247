"""Bearer tokens: long-lived ones of the installation in SQLite, short-lived ones of users signed only.

A stored token reads ``kp_<id>_<secret>``; its secret has 256 bits from the system, so a plain SHA-256 is
as good as a slow hash and a search does not pay for one. A user token reads ``kpu_<claims>.<signature>``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kepler.adapters.security.private_files import disk_error, private_folder
from kepler.core.errors import Denied, InvalidInput, NotFound, Unauthenticated, Unavailable, nearest
from kepler.ports.clock import Clock
from kepler.ports.security import CAPABILITIES, Principal, SecretStore, TokenInfo

MAX_USER_TTL_S = 600.0
MAX_TOKEN_CHARS = 4096  # what is longer is not one of ours and is not hashed
KEY_NAME = "kepler.user-token-key"
ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
LAST_USED_STEP_S = 60.0  # a write per call would cost more than the call
FIX = "Make a new one with `kepler token create`."
SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, user TEXT NOT NULL, capabilities TEXT NOT NULL,
    hash BLOB NOT NULL, created_at REAL NOT NULL, expires_at REAL NOT NULL DEFAULT 0,
    revoked_at REAL NOT NULL DEFAULT 0, last_used_at REAL NOT NULL DEFAULT 0
) STRICT
"""


class SqliteTokenStore:
    """`TokenStore` in one SQLite file with mode 0600; safe for several threads and processes.

    Every `authenticate` reads the store, so a revocation in another process holds from the next call on.
    Two active tokens may bear one name, so that a token can be replaced without an outage.
    """

    def __init__(self, path: Path, secret_store: SecretStore, clock: Clock) -> None:
        self.path = path
        self._secrets = secret_store
        self._clock = clock
        self._lock = threading.Lock()
        self._key: bytes = b""
        private_folder(path.parent)
        try:
            path.touch(mode=0o600)  # SQLite gives its side files the same mode
            self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        except OSError as error:
            raise disk_error(error, path) from error
        except sqlite3.Error as error:
            raise self._broken(error) from error
        try:
            with self._query() as db:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")  # a revocation outlives a power cut
                db.execute(SCHEMA)
        except Unavailable:
            self._db.close()
            raise

    def create(
        self, name: str, user: str, capabilities: frozenset[str], ttl_s: float
    ) -> tuple[TokenInfo, str]:
        _check_label(name, "Token name")
        _check_label(user, "User")
        _check_capabilities(capabilities)
        if not capabilities:
            raise InvalidInput("A token needs a capability", fix=f"Name some of {', '.join(CAPABILITIES)}.")
        if not 0 <= ttl_s < float("inf"):
            raise InvalidInput(
                "A token's lifetime cannot be negative", fix="Use 0 for one that never expires."
            )
        now = self._clock.now()
        token_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(12))
        text = f"kp_{token_id}_{secrets.token_urlsafe(32)}"
        info = TokenInfo(token_id, name, user, capabilities, now, now + ttl_s if ttl_s else 0.0, False)
        row = (token_id, name, user, ",".join(sorted(capabilities)), _digest(text), now, info.expires_at)
        with self._query() as db:
            db.execute(
                "INSERT INTO tokens (id, name, user, capabilities, hash, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        return info, text

    def issue(
        self, parent: Principal, user: str, capabilities: frozenset[str], ttl_s: float
    ) -> tuple[Principal, str]:
        """A user token of at most 600 s (``ttl_s`` 0 means 600) with the asked capabilities the parent has.

        Raises `Denied` when the parent may not issue or has none of them. Nothing is stored: the token dies
        with its parent, because `authenticate` looks the parent up.
        """
        _check_label(user, "User")
        _check_capabilities(capabilities)
        if not 0 <= ttl_s <= MAX_USER_TTL_S:
            raise InvalidInput(
                f"A user token lives 1 to {MAX_USER_TTL_S:.0f} s", fix="Ask for less, or 0 for the most."
            )
        if not parent.token_id:
            raise InvalidInput("This service asks for no token", fix="Call it without one.")
        row = self._row(parent.token_id)
        if row is None:  # a user token's own id is no stored one
            raise Denied("A user token cannot issue others", fix="Use the installation's token.")
        stored = self._principal(row)
        if not stored.can("issue"):
            raise Denied("This token may not issue user tokens", fix="Create one with `--can issue,...`.")
        granted = frozenset(item for item in capabilities if item != "issue" and stored.can(item))
        if not granted:
            asked = ", ".join(sorted(capabilities)) or "nothing"
            raise Denied(
                "The installation's token has none of the capabilities asked for",
                cause=f"Asked was {asked}.",
                fix="Give the Splunk role and the installation's token a capability in common.",
            )
        expires_at = self._clock.now() + (ttl_s or MAX_USER_TTL_S)
        if stored.expires_at:
            expires_at = min(expires_at, stored.expires_at)
        nonce = secrets.token_hex(6)
        claims = {"p": stored.token_id, "u": user, "c": sorted(granted), "e": expires_at, "n": nonce}
        body = _encode(json.dumps(claims, separators=(",", ":")).encode())
        token = f"kpu_{body}.{_encode(self._sign(body))}"
        return Principal(user, granted, f"{stored.token_id}.{nonce}", expires_at), token

    def authenticate(self, token: str) -> Principal:
        if len(token) <= MAX_TOKEN_CHARS and token.isascii():
            if token.startswith("kpu_"):
                return self._user_principal(token)
            parts = token.split("_", 2)
            if len(parts) == 3 and parts[0] == "kp":
                row = self._row(parts[1])
                # An unknown id costs the same comparison as a known one.
                if hmac.compare_digest(_digest(token), row["hash"] if row else bytes(32)) and row:
                    principal = self._principal(row)
                    self._touch(row)
                    return principal
        raise _unknown()

    def recheck(self, principal: Principal) -> None:
        """Raise `Unauthenticated` when the principal's token ended since; for streams that live long.

        A user's token is asked for at the door: a stream opened with it goes on past its few minutes, for as
        long as the installation token it came from holds. Revoking that one ends the stream.
        """
        if not principal.token_id:
            return
        row = self._row(principal.token_id.partition(".")[0])
        if row is None:
            raise _unknown()
        self._principal(row)

    def list(self) -> list[TokenInfo]:
        with self._query() as db:
            rows = db.execute("SELECT * FROM tokens ORDER BY created_at, id").fetchall()
        return [_info(row) for row in rows]

    def last_used(self) -> dict[str, float]:
        """When each token was last used, by id, to a minute; 0 never."""
        with self._query() as db:
            return {
                row["id"]: row["last_used_at"] for row in db.execute("SELECT id, last_used_at FROM tokens")
            }

    def revoke(self, token_id: str) -> TokenInfo:
        """End a token and every user token issued with it; can be repeated. Raises `NotFound`."""
        row = self._row(token_id)
        if row is None:
            known = nearest(token_id, [info.id for info in self.list()], 1)
            hint = f"Did you mean {known[0]}? `kepler token list` shows all." if known else FIX
            raise NotFound(f"There is no token {token_id[:40]!r}", fix=hint)
        with self._query() as db:
            db.execute(
                "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at = 0",
                (self._clock.now(), token_id),
            )
        return replace(_info(row), revoked=True)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _user_principal(self, token: str) -> Principal:
        body, _, signature = token[4:].partition(".")
        try:
            given = _decode(signature)
        except (ValueError, binascii.Error):
            raise _unknown() from None
        if not hmac.compare_digest(given, self._sign(body)):
            raise _unknown()
        claims: dict[str, Any] = json.loads(_decode(body))  # ours: the signature holds
        if claims["e"] <= self._clock.now():
            raise _expired("A search asks for a new one by itself: run it again.")
        row = self._row(claims["p"])
        if row is None:
            raise _unknown()
        parent = self._principal(row)
        granted = frozenset(item for item in claims["c"] if parent.can(item))
        return Principal(claims["u"], granted, f"{claims['p']}.{claims['n']}", claims["e"])

    def _principal(self, row: sqlite3.Row) -> Principal:
        """The principal of a stored token, unless the token has ended."""
        info = _info(row)
        if info.revoked:
            raise Unauthenticated("The token was revoked", fix=FIX)
        if info.expires_at and info.expires_at <= self._clock.now():
            raise _expired()
        return Principal(info.user, info.capabilities, info.id, info.expires_at)

    def _touch(self, row: sqlite3.Row) -> None:
        now = self._clock.now()
        if abs(now - row["last_used_at"]) < LAST_USED_STEP_S:
            return
        with self._query() as db, contextlib.suppress(sqlite3.OperationalError):
            # Never wait nor fail for it: the store may be locked or its disk full, the token is right.
            db.execute("PRAGMA busy_timeout=0")
            try:
                db.execute("UPDATE tokens SET last_used_at = ? WHERE id = ?", (now, row["id"]))
            finally:
                db.execute("PRAGMA busy_timeout=5000")

    def _row(self, token_id: str) -> sqlite3.Row | None:
        with self._query() as db:
            return db.execute("SELECT * FROM tokens WHERE id = ?", (token_id,)).fetchone()

    def _sign(self, body: str) -> bytes:
        if not self._key:
            self._key = _decode(self._secrets.setdefault(KEY_NAME, _encode(secrets.token_bytes(32))))
        return hmac.digest(self._key, f"kpu_{body}".encode(), "sha256")

    @contextlib.contextmanager
    def _query(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.row_factory = sqlite3.Row
                yield self._db
            except sqlite3.Error as error:
                raise self._broken(error) from error

    def _broken(self, error: sqlite3.Error) -> Unavailable:
        return Unavailable(
            "The token store does not answer",
            cause=f"{self.path.name}: {error}",
            fix="Check the disk, or restore the file from a backup.",
            retry_after_s=5.0,
        )


def _info(row: sqlite3.Row) -> TokenInfo:
    capabilities = frozenset(row["capabilities"].split(","))
    times = (row["created_at"], row["expires_at"])
    return TokenInfo(
        row["id"], row["name"], row["user"], capabilities, *times, revoked=bool(row["revoked_at"])
    )


def _unknown() -> Unauthenticated:
    return Unauthenticated("The token is not known to this service", fix=FIX)


def _expired(fix: str = FIX) -> Unauthenticated:
    return Unauthenticated("The token has expired", fix=fix)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _check_label(text: str, what: str) -> None:
    if not 1 <= len(text) <= 200 or not text.isprintable() or text.strip() != text:
        raise InvalidInput(f"{what} {text[:60]!r} is not usable", fix="Use 1 to 200 printable characters.")


def _check_capabilities(capabilities: frozenset[str]) -> None:
    for item in sorted(capabilities - set(CAPABILITIES)):
        raise InvalidInput(
            f"There is no capability {item[:60]!r}",
            cause=f"There are {', '.join(CAPABILITIES)}.",
            fix=f"Did you mean {nearest(item, list(CAPABILITIES), 1)[0]}?",
        )
