"""Read and change what is there: models, versions, aliases, jobs, tokens."""

from __future__ import annotations

from collections.abc import Callable

from kepler.core.errors import InvalidInput, NotFound
from kepler.core.jobs import JobRecord, JobState
from kepler.core.names import ModelName, check_alias, parse_ref
from kepler.core.versions import VersionRecord
from kepler.ports.jobs import JobRunner
from kepler.ports.models import ModelStore
from kepler.ports.security import AuditLog, Principal, TokenStore
from kepler.usecases.auditing import audited
from kepler.usecases.identity import Caller

MAX_PAGE = 1000
ISSUABLE = frozenset({"train", "predict", "deploy", "admin"})
MAX_TOKEN_TTL_S = 600


class ManageModels:
    """Models, their versions and aliases. Every change is audited."""

    def __init__(
        self, models: ModelStore, audit: AuditLog, forget: Callable[[VersionRecord], None] | None = None
    ) -> None:
        self._models = models
        self._audit = audit
        self._forget = forget

    def resolve(self, caller: Caller, text: str) -> VersionRecord:
        """The version ``text`` means. Raises `NotFound`."""
        version = self._models.resolve(parse_ref(text, user=caller.user, app=caller.app))
        caller.check_sees(version.name)
        return version

    def list(
        self, caller: Caller, pattern: str, *, limit: int, offset: int
    ) -> tuple[list[VersionRecord], int]:
        """A page of newest versions by full name, and the offset of the next page (0 when there is none)."""
        found = self._models.list_models(
            pattern or "*", user=caller.user, everything=caller.principal.can("admin")
        )
        return _page(found, limit, offset)

    def versions(self, caller: Caller, text: str) -> list[VersionRecord]:
        return self._models.list_versions(self._name(caller, text))

    def set_alias(self, caller: Caller, text: str, alias: str) -> VersionRecord:
        version = self.resolve(caller, text)
        with audited(
            self._audit, caller.user, "alias.set", f"{version.full_name} alias={check_alias(alias)}"
        ):
            return self._models.set_alias(version.name, alias, version.version)

    def delete_alias(self, caller: Caller, text: str, alias: str) -> VersionRecord:
        name = self._name(caller, text)
        with audited(self._audit, caller.user, "alias.delete", f"{name} alias={check_alias(alias)}"):
            return self._models.delete_alias(name, alias)

    def rollback(self, caller: Caller, text: str, alias: str) -> VersionRecord:
        name = self._name(caller, text)
        with audited(self._audit, caller.user, "alias.rollback", f"{name} alias={check_alias(alias)}"):
            return self._models.rollback(name, alias)

    def delete(self, caller: Caller, text: str) -> tuple[ModelName, list[int]]:
        """Delete one version (``m@3``) or the model (``m``); an alias must be named by its version."""
        ref = parse_ref(text, user=caller.user, app=caller.app)
        if ref.alias is not None:
            raise InvalidInput(
                f"{text!r} names an alias",
                fix="Delete a version by its number, or the whole model by its name.",
            )
        name = self._name(caller, text)
        if "@" in text and ref.version is None:
            version: int | None = self.resolve(caller, text).version
        else:
            version = ref.version
        known = self._models.list_versions(name)
        with audited(
            self._audit, caller.user, "model.delete", f"{name}{'' if version is None else f'@{version}'}"
        ):
            gone = self._models.delete(name, version)
        if self._forget is not None:
            for record in known:
                if record.version in gone:
                    self._forget(record)  # frees its memory; a running stream keeps its own hold on it
        return name, gone

    def _name(self, caller: Caller, text: str) -> ModelName:
        bare = text.partition("@")[0]
        return self.resolve(caller, bare).name


class ManageJobs:
    """Jobs as their owners see them; admin sees all."""

    def __init__(self, jobs: JobRunner, audit: AuditLog) -> None:
        self._jobs = jobs
        self._audit = audit

    def get(self, caller: Caller, job_id: str) -> JobRecord:
        """Raises `NotFound`, also for somebody else's job."""
        record = self._jobs.get(job_id)
        if record.owner != caller.user and not caller.principal.can("admin"):
            raise NotFound(f"There is no job {job_id!r} you may see", fix="List yours with | keplerjobs.")
        return record

    def list(self, caller: Caller, state: str, *, limit: int, offset: int) -> tuple[list[JobRecord], int]:
        """A page, newest first, and the offset of the next one (0 when there is none)."""
        wanted: JobState | None = None
        if state:
            try:
                wanted = JobState(state.lower())
            except ValueError as error:
                raise InvalidInput(
                    f"{state[:40]!r} is not a state of a job", fix=f"Use {', '.join(JobState)}."
                ) from error
        size = _size(limit)
        owner = None if caller.principal.can("admin") else caller.user
        found = self._jobs.list(owner=owner, state=wanted, limit=size + 1, offset=offset)
        return found[:size], offset + size if len(found) > size else 0

    def cancel(self, caller: Caller, job_id: str) -> JobRecord:
        self.get(caller, job_id)
        with audited(self._audit, caller.user, "job.cancel", job_id):
            return self._jobs.cancel(job_id)


class IssueTokens:
    """Exchange an installation token for a short-lived token of one user."""

    def __init__(self, tokens: TokenStore | None, audit: AuditLog) -> None:
        self._tokens = tokens
        self._audit = audit

    def issue(
        self, parent: Principal, user: str, capabilities: list[str], ttl_s: int
    ) -> tuple[Principal, str]:
        """At most 600 s; capabilities are those asked for that the parent has too."""
        if self._tokens is None:
            raise InvalidInput(
                "This service asks for no tokens, so it issues none",
                fix="Call it without one, or serve with TLS.",
            )
        unknown = sorted(set(capabilities) - ISSUABLE)
        if unknown:
            raise InvalidInput(
                f"{unknown[0][:40]!r} is not a capability", fix=f"Use {', '.join(sorted(ISSUABLE))}."
            )
        if not user:
            raise InvalidInput("The user is empty", fix="Name the Splunk user the token is for.")
        if not 0 <= ttl_s <= MAX_TOKEN_TTL_S:
            raise InvalidInput(
                f"{ttl_s} s is not a lifetime for a user token", fix=f"Use 1 to {MAX_TOKEN_TTL_S}."
            )
        issued = self._tokens.issue(parent, user, frozenset(capabilities), float(ttl_s or MAX_TOKEN_TTL_S))
        self._audit.append(
            who=parent.user or parent.token_id,
            action="token.issue",
            what=user,
            outcome="done",
            detail={"can": ",".join(sorted(issued[0].capabilities))},
        )
        return issued


def _size(limit: int) -> int:
    if not 0 <= limit <= MAX_PAGE:
        raise InvalidInput(f"A page holds 1 to {MAX_PAGE} items, not {limit}", fix="Ask for fewer.")
    return limit or 100


def _page(found: list[VersionRecord], limit: int, offset: int) -> tuple[list[VersionRecord], int]:
    size = _size(limit)
    return found[offset : offset + size], offset + size if len(found) > offset + size else 0
