"""Look at the spool into Splunk, hurry it, and decide about what Splunk refused."""

from __future__ import annotations

from collections.abc import Sequence

from kepler.core.errors import InvalidInput
from kepler.ports.hec import DeadLetter, SpoolControl, SpoolState
from kepler.ports.security import AuditLog
from kepler.usecases.auditing import audited
from kepler.usecases.identity import Caller

MAX_PAGE = 1000
MAX_FLUSH_S = 20.0


class ManageSpool:
    """Changes are audited."""

    def __init__(self, spool: SpoolControl, audit: AuditLog) -> None:
        self._spool, self._audit = spool, audit

    def states(self) -> list[SpoolState]:
        return self._spool.states()

    def flush(self, timeout_s: float) -> bool:
        """Whether all was delivered within ``timeout_s``, 20 s at most."""
        if not 0 <= timeout_s <= MAX_FLUSH_S:
            raise InvalidInput(f"A flush may take 0 to {MAX_FLUSH_S:.0f} s, not {timeout_s:g}")
        return self._spool.flush(timeout_s)

    def dead_letters(self, limit: int, after: int) -> list[DeadLetter]:
        return self._spool.dead_letters(max(1, min(limit or 100, MAX_PAGE)), after)

    def retry(self, caller: Caller, ids: Sequence[int], *, everything: bool) -> int:
        """Put refused events back; gives their number."""
        chosen = _chosen(ids, everything)
        with audited(self._audit, caller.user, "hec.retry", _named(chosen)) as detail:
            count = self._spool.retry_dead(chosen)
            detail["events"] = str(count)
        return count

    def delete(self, caller: Caller, ids: Sequence[int], *, everything: bool) -> int:
        """Forget refused events for good; gives their number."""
        chosen = _chosen(ids, everything)
        with audited(self._audit, caller.user, "hec.delete", _named(chosen)) as detail:
            count = self._spool.delete_dead(chosen)
            detail["events"] = str(count)
        return count


def _chosen(ids: Sequence[int], everything: bool) -> list[int]:
    if everything == bool(ids):
        raise InvalidInput(
            "Name dead letters by id, or ask for all of them", fix="Give ids or --all, and not both."
        )
    return list(ids)


def _named(ids: Sequence[int]) -> str:
    return "dead letters " + (",".join(map(str, ids[:20])) if ids else "all")
