"""Who the caller is to the use cases: an authenticated principal in a Splunk app."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from kepler.core.errors import NotFound
from kepler.core.names import ModelName
from kepler.core.training import SearchContext
from kepler.ports.security import Principal

DEFAULT_APP = "search"
DEFAULT_USER = "local"
_ILLEGAL = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal with the search it calls from. ``user`` and ``app`` are legal name parts."""

    principal: Principal
    user: str
    app: str
    search: SearchContext = field(default_factory=SearchContext)

    def check_sees(self, name: ModelName) -> None:
        """Raise `NotFound` for somebody else's private model: its existence is private too."""
        if name.private and name.holder != self.user and not self.principal.can("admin"):
            raise NotFound(
                f"There is no model {str(name)!r} you may see", fix="List yours with | keplermodels."
            )


def caller_of(principal: Principal, *, user: str, app: str, search: SearchContext) -> Caller:
    """The caller: a token's subject is believed, a name in the request only where there is no token."""
    named = principal.user or user or DEFAULT_USER
    return Caller(principal, _legal(named, DEFAULT_USER), _legal(app or DEFAULT_APP, DEFAULT_APP), search)


def _legal(text: str, default: str) -> str:
    """``text`` as a legal name part; Splunk allows user names such as ``ana@corp``.

    What had to be changed carries a digest of the original, so that two users never become one.
    """
    cleaned = _ILLEGAL.sub("_", text)[:80]
    if cleaned == text and cleaned.strip("."):
        return cleaned
    return f"{cleaned.strip('.') or default}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
