"""Whether a device is ready to run: what `kepler-edge check` looks at."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from .clock import Clock
from .credentials import Credentials, stored_enrolment
from .errors import InvalidInput
from .settings import Settings

CONNECT_S = 5.0

Findings = dict[str, dict[str, object]]


def findings(settings: Settings) -> Findings:
    """By name: whether it is well (``ok``) and what was found (``text``). Reads and connects; changes nothing."""
    enrolled = stored_enrolment(settings.home)
    broker = settings.broker or (enrolled.broker if enrolled else "")
    device = enrolled.device if enrolled else settings.device
    return {
        "device": _finding(lambda: device or _missing("It has no name. Run `kepler-edge enrol`.")),
        "home": _finding(lambda: _home(settings)),
        "keys": _finding(lambda: _keys(settings, broker)),
        "clock": _finding(_clock),
        "broker": _finding(lambda: _reach(broker)),
    }


def _finding(look: Callable[[], str]) -> dict[str, object]:
    try:
        return {"ok": True, "text": look()}
    except (InvalidInput, OSError) as error:
        return {"ok": False, "text": str(error)}


def _missing(text: str) -> str:
    raise InvalidInput(text)


def _home(settings: Settings) -> str:
    if not os.access(settings.home, os.W_OK | os.X_OK):
        _missing(f"{settings.home} is no folder that can be written.")
    found = os.statvfs(settings.home)
    free_mb = found.f_bavail * found.f_frsize >> 20
    if free_mb < settings.quota_mb:
        _missing(f"{free_mb} MiB are free, quota_mb is {settings.quota_mb:g}. Free the disk or lower it.")
    return f"{free_mb} MiB are free"


def _keys(settings: Settings, broker: str) -> str:
    credentials = Credentials(settings)
    credentials.context(broker or "mqtts://none")
    if not credentials.trust.key_ids:
        _missing("It trusts no service. Run `kepler-edge enrol`.")
    return f"trusts {', '.join(credentials.trust.key_ids)}"


def _clock() -> str:
    found = Clock().sync()
    if not found.sync:
        _missing(
            "Nothing sets the clock. Start a time service; until then times are put right by the service."
        )
    return f"set, within {found.err_ms:g} ms"


def _reach(broker: str) -> str:
    parts = urlsplit(broker)
    if not parts.hostname:
        return _missing("No broker is known. Run `kepler-edge enrol`.")
    port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
    with socket.create_connection((parts.hostname, port), timeout=CONNECT_S):
        return f"{parts.hostname}:{port} answers"
