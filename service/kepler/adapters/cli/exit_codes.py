"""Exit codes by error class; documented in docs/reference/cli.md."""

from __future__ import annotations

from kepler.core.errors import (
    Cancelled,
    Conflict,
    Denied,
    InternalError,
    InvalidInput,
    KeplerError,
    MissingExtra,
    NotFound,
    NotReady,
    Overloaded,
    TimedOut,
    Unauthenticated,
    Unavailable,
)

EXIT_CODES: dict[type[KeplerError], int] = {
    InternalError: 1,
    InvalidInput: 2,
    NotFound: 3,
    Denied: 4,
    Unauthenticated: 4,
    Unavailable: 5,
    TimedOut: 5,
    Overloaded: 5,
    Conflict: 6,
    NotReady: 7,
    MissingExtra: 8,
    Cancelled: 9,
}
INTERRUPTED = 130
BROKEN_PIPE = 141

MEANINGS: dict[int, str] = {
    0: "Done.",
    1: "Something is wrong in Kepler itself.",
    2: "Wrong usage or invalid input.",
    3: "What was named does not exist, or you may not see it.",
    4: "Not authenticated, or not allowed.",
    5: "The service or Splunk does not answer, is overloaded, or took too long. Worth another try.",
    6: "It exists already, or changed meanwhile.",
    7: "Not ready: wait, or do first what the message says.",
    8: "An optional dependency is not installed.",
    9: "The job was cancelled.",
    INTERRUPTED: "Interrupted with Ctrl-C.",
    BROKEN_PIPE: "The reader of the output went away.",
}


def exit_code(error: KeplerError) -> int:
    """Exit code of ``error``, by the nearest class in the table.

    >>> exit_code(NotFound("no such model"))
    3
    """
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), 1)
