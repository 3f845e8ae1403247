"""Logs: one redacted path for ours and for libraries, to stderr and to a file."""

from __future__ import annotations

import io
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from kepler.adapters.telemetry.logs import LogSetup, configure_logging
from kepler.adapters.telemetry.redaction import Redactor

TOKEN = "kp_abcdefghijkl_0123456789-0123456789_0123456789abcdefg"


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def setup(stream: io.StringIO, tmp_path: Path) -> Iterator[LogSetup]:
    made = configure_logging(
        format="json", file=tmp_path / "logs" / "service.log", stream=stream, redactor=Redactor()
    )
    yield made
    made.close()


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_events_go_to_both_as_json(setup: LogSetup, stream: io.StringIO, tmp_path: Path) -> None:
    with structlog.contextvars.bound_contextvars(sid="1.2"):
        structlog.get_logger("kepler.x").info("model.loaded", model="app.search/x", rows=3)
    logging.getLogger("library").warning("odd %s", "thing")
    file = tmp_path / "logs" / "service.log"
    first, second = events(stream.getvalue())
    assert [event["event"] for event in events(file.read_text())] == ["model.loaded", "odd thing"]
    assert first["event"] == "model.loaded"
    assert (first["model"], first["rows"], first["sid"], first["level"]) == ("app.search/x", 3, "1.2", "info")
    assert (second["event"], second["logger"]) == ("odd thing", "library")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_no_token_reaches_a_log(setup: LogSetup, stream: io.StringIO, tmp_path: Path) -> None:
    log = structlog.get_logger()
    log.info("rpc", metadata={"authorization": f"Bearer {TOKEN}"}, text=TOKEN, raw=TOKEN.encode())
    log.error(f"bad {TOKEN}")
    logging.getLogger("library").error("bad %s %r", TOKEN, {"token": TOKEN})
    try:
        raise ValueError(f"no such token: {TOKEN}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    for text in (stream.getvalue(), (tmp_path / "logs" / "service.log").read_text()):
        assert len(events(text)) == 5
        assert TOKEN not in text
        assert TOKEN.split("_", 2)[2] not in text
        assert "ValueError" in text


def test_quiet_libraries_and_levels(stream: io.StringIO) -> None:
    setup = configure_logging(level="info", stream=stream)
    structlog.get_logger().debug("not.this")
    logging.getLogger("uvicorn.error").info("not this")
    structlog.get_logger().info("but.this")
    setup.close()
    assert "but.this" in stream.getvalue()
    assert "not" not in stream.getvalue()
    setup = configure_logging(level="debug", stream=stream)
    logging.getLogger("uvicorn.error").info("and this")
    logging.getLogger("sqlalchemy.engine.Engine").info("parameters with rows")
    setup.close()
    assert "and this" in stream.getvalue()
    assert "with rows" not in stream.getvalue()


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    setup = configure_logging()
    structlog.get_logger().info("hello.there")
    setup.close()
    captured = capsys.readouterr()
    assert "hello.there" in captured.err
    assert captured.out == ""


def test_close_puts_back_what_was(stream: io.StringIO) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, structlog.get_config()["processors"])
    configure_logging(stream=stream, level="debug").close()
    assert (root.handlers[:], root.level, structlog.get_config()["processors"]) == before


def test_files_are_rotated_and_stay_private(stream: io.StringIO, tmp_path: Path) -> None:
    file = tmp_path / "service.log"
    setup = configure_logging(file=file, file_mb=1, file_count=2, stream=stream)
    for number in range(300):
        structlog.get_logger().info("big", number=number, text="x" * 15_000)
    setup.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["service.log", "service.log.1", "service.log.2"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_file_that_fails_is_said_once_and_without_the_event(
    setup: LogSetup, stream: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(record: logging.LogRecord) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(setup.handlers[1], "shouldRollover", full)
    structlog.get_logger().info("one", token=TOKEN)
    structlog.get_logger().info("two")
    assert len(events(stream.getvalue())) == 2
    said = capsys.readouterr().err
    assert said.count("cannot be written") == 1
    assert TOKEN not in said


def test_a_library_with_a_handler_of_its_own_uses_ours(stream: io.StringIO) -> None:
    logger, own = logging.getLogger("dbos"), logging.StreamHandler(io.StringIO())
    before = logger.handlers[:], logger.propagate
    logger.handlers[:], logger.propagate = [own], False
    try:
        setup = configure_logging(format="json", stream=stream, redactor=Redactor())
        for attempt in range(30):
            logger.warning("database or disk is full, attempt %d, token %s", attempt, TOKEN)
        setup.close()
        assert (logger.handlers, logger.propagate, logger.filters) == ([own], False, [])
    finally:
        logger.handlers[:], logger.propagate = before
    [said] = events(stream.getvalue())
    assert said["event"] == "database or disk is full, attempt 0, token [redacted]"
    assert own.stream.getvalue() == ""


def test_the_durable_engine_adds_no_handler_where_it_finds_one(setup: LogSetup) -> None:
    """What `_take_over` relies on."""
    from dbos._logger import init_logger

    init_logger()
    [handler] = logging.getLogger("dbos").handlers
    assert isinstance(handler, logging.NullHandler)
    assert logging.getLogger("dbos").propagate
