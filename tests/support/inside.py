"""What an answer must not tell a stranger about the inside of the service."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

STACKS_AND_LIBRARIES = (
    "Traceback",
    'File "',
    ".py",
    "site-packages",
    "sqlalchemy",
    "sqlite",
    "grpc.aio",
    "0x7",
)


def telling(answers: Iterable[str], *folders: Path) -> list[str]:
    """The answers that show a stack, a library's name or a path below ``folders``; none, if all is well."""
    inside = (*STACKS_AND_LIBRARIES, *map(str, folders))
    return [answer for answer in answers if any(text in answer for text in inside)]
