"""Repeated texts of libraries: once, and then once a minute with a count."""

from __future__ import annotations

import logging

import pytest

from kepler.adapters.telemetry import repeats
from kepler.adapters.telemetry.repeats import RepeatFilter

FULL = (
    "Database connection failed: (sqlite3.OperationalError) database or disk is full. Retrying in 0.83s (attempt 4)",
    "Exception encountered in queue thread for kepler-train-x: (sqlite3.OperationalError) database or disk is full",
    "could not extend file: No space left on device",
)


class Lines:
    """A logger behind the filter, its clock, and what came through."""

    def __init__(self) -> None:
        self.now = 0.0
        self.texts: list[str] = []
        self.repeats = RepeatFilter(clock=lambda: self.now)

    def say(self, text: str, *args: object, level: int = logging.WARNING) -> None:
        record = logging.LogRecord("dbos", level, "file.py", 1, text, args, None)
        if self.repeats.filter(record):
            self.texts.append(record.getMessage())


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_a_full_disk_is_said_once_and_then_once_a_minute_with_a_count(lines: Lines) -> None:
    for tenth in range(1300):  # 130 seconds, ten times a second
        lines.now = tenth / 10
        lines.say(FULL[tenth % 3])
    first, second, third = lines.texts
    assert first == FULL[0]
    assert second.endswith("(599 more like this since the last one)")
    assert third.endswith("(599 more like this since the last one)")


def test_numbers_make_no_difference_and_words_do(lines: Lines) -> None:
    for attempt in range(5):
        lines.say("the server closed the connection, attempt %d", attempt)
        lines.say("something else")
    lines.say("something else", level=logging.ERROR)
    assert lines.texts == [
        "the server closed the connection, attempt 0",
        "something else",
        "something else",
    ]


def test_news_is_left_alone(lines: Lines) -> None:
    for _ in range(3):
        lines.say("polled", level=logging.INFO)
    assert lines.texts == ["polled"] * 3


def test_a_percent_sign_in_a_text_does_no_harm(lines: Lines) -> None:
    for now in (0.0, 1.0, 61.0):
        lines.now = now
        lines.say("100 %s of the disk", "%s")
    assert lines.texts[1] == "100 %s of the disk (1 more like this since the last one)"


def test_what_is_remembered_is_bounded(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MAX_KEYS", 3)
    for text in "abcda":
        lines.say(text)
    assert lines.texts == ["a", "b", "c", "d", "a"], "the oldest was forgotten"
