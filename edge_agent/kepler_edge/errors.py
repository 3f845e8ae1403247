"""Every error the agent raises on purpose: what went wrong, why, and what to do next."""

from __future__ import annotations


class KeplerError(Exception):
    """Root of all errors raised on purpose.

    Parameters
    ----------
    message
        What went wrong, one sentence.
    cause
        Why it went wrong; empty when the message says it.
    fix
        What to do next; empty when nothing helps.
    """

    def __init__(self, message: str, *, cause: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.fix = fix

    @property
    def sentence(self) -> str:
        """Message, cause and fix joined for people."""
        parts = [part.strip() for part in (self.message, self.cause, self.fix) if part.strip()]
        return " ".join(part if part[-1] in ".!?" else part + "." for part in parts)

    def __str__(self) -> str:
        return self.sentence


class InvalidInput(KeplerError):
    """What came in cannot be right: a document, a payload, a value."""


class Refused(KeplerError):
    """A model that must not be run: not signed, not whole, or more than it may be."""


class Unavailable(KeplerError):
    """Not now: the line, the disk or a server is away. Worth trying again."""
