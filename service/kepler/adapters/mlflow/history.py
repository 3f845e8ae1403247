"""Where an alias has pointed, so that it can be moved back again and again.

A history is the versions an alias pointed at, oldest first, the present one last. It is kept as a tag of the
model, written with the alias in one transaction. The alias is the truth: that somebody moved it with MLflow's
own client is noticed by `settle`.
"""

from __future__ import annotations

from collections.abc import Collection

KEPT = 100

History = tuple[int, ...]


def settle(history: History, present: int) -> History:
    """The history that ends with where the alias points now.

    >>> settle((3, 5), 3), settle((3, 5), 8), settle((), 2)
    ((3,), (3, 5, 8), (2,))
    """
    if present in history:
        last = len(history) - 1 - history[::-1].index(present)
        return history[: last + 1]
    return (*history, present)


def push(history: History, version: int) -> History:
    """The history after moving to ``version``; pointing at the same one again is no move."""
    if history and history[-1] == version:
        return history
    return (*history, version)[-KEPT:]


def pop(history: History, alive: Collection[int]) -> History | None:
    """The history after going back one, past versions that are gone; None when there is nothing before.

    >>> pop((3, 5, 7), {3, 7})
    (3,)
    """
    if not history:
        return None
    present, rest = history[-1], history[:-1]
    while rest and (rest[-1] not in alive or rest[-1] == present):
        rest = rest[:-1]
    return rest or None


def to_text(history: History) -> str:
    return ",".join(map(str, history))


def from_text(text: str | None) -> History:
    return tuple(int(part) for part in (text or "").split(",") if part.isdigit())
