"""What is known of a durable job, and of the errors and notices that cross process borders with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from kepler.core.errors import BY_CODE, InternalError, KeplerError


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence the user should read that is not an error. ``level`` is ``info`` or ``warn``."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class CountedNotice(Notice):
    """A notice with a count in its text: those of one stream with the same ``about`` are said once."""

    about: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A `KeplerError` as plain data."""

    code: str
    message: str
    cause: str = ""
    fix: str = ""

    @classmethod
    def of(cls, error: KeplerError) -> Failure:
        return cls(error.code, error.message, error.cause, error.fix)

    def to_error(self) -> KeplerError:
        return BY_CODE.get(self.code, InternalError)(self.message, cause=self.cause, fix=self.fix)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """State of one job as a caller sees it. Times are seconds since the epoch, 0 when not reached."""

    id: str
    kind: str
    state: JobState
    owner: str
    subject: str
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    progress: float = 0.0
    phase: str = ""
    model: str = ""
    rows: int = 0
    metrics: tuple[tuple[str, float], ...] = ()
    notices: tuple[Notice, ...] = ()
    failure: Failure | None = None
    attempt: int = 1
    sid: str = ""
    tags: dict[str, str] = field(default_factory=dict[str, str])
