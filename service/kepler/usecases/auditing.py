"""Changes that are on record before they are made, and again with how they ended."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from kepler.core.errors import KeplerError
from kepler.ports.security import AuditLog


@contextmanager
def audited(audit: AuditLog, who: str, action: str, what: str) -> Generator[dict[str, str]]:
    """Record that ``action`` begins, then that it was done or failed.

    A change that cannot be recorded is not begun. What is only known at the end can be put into the detail it
    gives.
    """
    detail: dict[str, str] = {}
    audit.append(who=who, action=action, what=what, outcome="begun")
    try:
        yield detail
    except KeplerError as error:
        audit.append(who=who, action=action, what=what, outcome="failed", detail={"error": error.code})
        raise
    audit.append(who=who, action=action, what=what, outcome="done", detail=detail or None)
