"""A clock that stands still until a test moves it."""

from __future__ import annotations


class FakeClock:
    """Implements `ports.clock.Clock`."""

    def __init__(self, at: float = 1_800_000_000.0) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds
