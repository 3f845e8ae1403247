"""What the administrator's commands share: they work on a home of this machine, with or without a service."""

from __future__ import annotations

import getpass
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kepler.core.errors import InvalidInput

if TYPE_CHECKING:
    from kepler.adapters.security.home import HomeSecurity

Home = Annotated[
    Path | None, typer.Option("--home", help="Home of the service. [default: KEPLER_HOME or ~/.kepler]")
]
Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file in place of kepler.toml in the home.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d{1,9})([smhd])")


class _Now:
    def now(self) -> float:
        return time.time()


@contextmanager
def opened(home: Path | None, config: Path | None) -> Iterator[HomeSecurity]:
    """The security parts of the home that the options, the file and the environment name."""
    from kepler.adapters.security.home import HomeSecurity
    from kepler.settings import load_settings

    # They serve nothing: `kepler tls init` must work while the settings still ask for the certificates it makes.
    serves_nothing = {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "require_token": False}
    settings = load_settings(config, {"home": home, **serves_nothing})
    security = HomeSecurity(settings.home, settings.secrets.key, _Now())
    try:
        yield security
    finally:
        security.close()


def audit(security: HomeSecurity, action: str, what: str, detail: dict[str, str] | None = None) -> None:
    """Write down who did it: the account of this machine."""
    security.audit.append(who=f"local.{_account()}", action=action, what=what, outcome="ok", detail=detail)


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        import os

        return str(os.getuid())


def duration_s(text: str) -> float:
    """Seconds of ``90d``, ``12h``, ``30m``, ``45s``; 0 for ``never``.

    >>> duration_s("90d"), duration_s("never")
    (7776000.0, 0.0)
    """
    if text == "never":
        return 0.0
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise InvalidInput(f"{text[:40]!r} is no lifetime", fix="Write 90d, 12h, 30m, 45s or never.")
    return int(match[1]) * _UNITS[match[2]]


def at(seconds: float, zero: str = "never") -> str:
    """UTC time for people; ``zero`` for 0."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds)) if seconds else zero


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows in aligned columns; plain, so that cut and awk can read it."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    for row in (columns, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
