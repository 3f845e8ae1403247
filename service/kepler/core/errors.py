"""Every error a user can meet, with its cause and what to do next.

Adapters translate these once each (gRPC status, HTTP status, exit code); see the tables next to them.
Foreign exceptions are wrapped at the adapter with ``raise ... from``.
"""

from __future__ import annotations


class KeplerError(Exception):
    """Root of all errors raised on purpose.

    Parameters
    ----------
    message
        What went wrong, one sentence without its full stop's successor: it is shown to a Splunk user as is.
    cause
        Why it went wrong; empty when the message says it.
    fix
        What to do next, as an imperative sentence; empty when nothing helps.
    """

    retryable = False

    def __init__(self, message: str, *, cause: str = "", fix: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.fix = fix
        self.retry_after_s = retry_after_s

    @property
    def code(self) -> str:
        """Name of the class, the stable code that programs compare."""
        return type(self).__name__

    @property
    def sentence(self) -> str:
        """Message, cause and fix joined for people."""
        parts = [part.strip() for part in (self.message, self.cause, self.fix) if part.strip()]
        return " ".join(part if part[-1] in ".!?" else part + "." for part in parts)

    def __str__(self) -> str:
        return self.sentence


class InvalidInput(KeplerError):
    """The caller sent something that cannot be right: a name, a value, a row."""


class NotFound(KeplerError):
    """What the caller named does not exist, or the caller may not see it."""


class Conflict(KeplerError):
    """It exists already, or it changed under the caller."""


class NotReady(KeplerError):
    """It exists and will be usable later, or after a step the fix names."""


class MissingExtra(KeplerError):
    """An optional dependency is not installed."""


class Unauthenticated(KeplerError):
    """No token, or one that is wrong, expired or revoked."""


class Denied(KeplerError):
    """The caller is known and lacks the capability."""


class Cancelled(KeplerError):
    """The work was cancelled by somebody."""


class Unavailable(KeplerError):
    """A part the service needs does not answer now."""

    retryable = True


class Overloaded(KeplerError):
    """A queue, quota or disk is full."""

    retryable = True


class TimedOut(KeplerError):
    """A deadline or limit passed."""

    retryable = True


class InternalError(KeplerError):
    """Ours. Carries an opaque id that stands in the log beside the stack."""


ALL_ERRORS: tuple[type[KeplerError], ...] = (
    InvalidInput,
    NotFound,
    Conflict,
    NotReady,
    MissingExtra,
    Unauthenticated,
    Denied,
    Cancelled,
    Unavailable,
    Overloaded,
    TimedOut,
    InternalError,
)
BY_CODE: dict[str, type[KeplerError]] = {error.__name__: error for error in ALL_ERRORS}


def nearest(name: str, known: list[str], count: int = 3) -> list[str]:
    """The ``count`` known names closest to ``name``, nearest first, compared without case."""
    import difflib

    lowered = {item.lower(): item for item in known}
    hits = difflib.get_close_matches(name.lower(), list(lowered), n=count, cutoff=0.0)
    return [lowered[hit] for hit in hits]
