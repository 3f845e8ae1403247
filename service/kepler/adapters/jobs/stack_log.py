"""What a worker's log says of an exception: all that helps, and nothing of the rows."""

from __future__ import annotations

import sys
import traceback


def log_stack(error: BaseException) -> None:
    """Where ``error`` came from, to stderr: files, lines and classes.

    Neither its text nor any variable: libraries quote values of the rows in both, and the log is no place
    for rows.
    """
    seen: set[int] = set()
    shown: BaseException | None = error
    while shown is not None and id(shown) not in seen:
        seen.add(id(shown))
        kind = type(shown)
        stack = "".join(traceback.format_tb(shown.__traceback__))
        sys.stderr.write(
            f"Traceback (most recent call last):\n{stack}{kind.__module__}.{kind.__qualname__}\n"
        )
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
        if shown is not None:
            sys.stderr.write("caused by\n")
