"""SIGTERM ends a command, whatever the code it interrupts does with the exception."""

from __future__ import annotations

import os
import signal

import pytest

from kepler_app import chunks
from kepler_app.errors import SearchCancelled


def test_sigterm_ends_the_command_even_where_its_exception_is_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers: dict[int, object] = {}
    timers: list[float] = []
    exits: list[int] = []
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(signal, "setitimer", lambda _which, seconds: timers.append(seconds))
    monkeypatch.setattr(os, "_exit", exits.append)
    with pytest.raises(SearchCancelled):
        chunks._on_sigterm(signal.SIGTERM, None)
    assert timers == [chunks._FAREWELL_S]
    handlers[signal.SIGALRM](signal.SIGALRM, None)  # type: ignore[operator]
    assert exits == [0]
