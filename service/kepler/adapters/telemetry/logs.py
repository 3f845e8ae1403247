"""Where log events go: stderr for people or programs, and a rotated JSON file of the home."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog

from kepler.adapters.security.private_files import OWNER_ONLY, private_folder
from kepler.adapters.telemetry.redaction import REDACTOR, Redactor
from kepler.adapters.telemetry.repeats import RepeatFilter

# Libraries whose everyday news would bury ours.
QUIET = (
    "uvicorn",
    "mlflow",
    "alembic",
    "sqlalchemy",
    "asyncio",
    "matplotlib",
    "urllib3",
    "httpx",
)
# At their most talkative these write whatever passes through them: values of rows, users, credentials.
NEVER_TALKATIVE = ("sqlalchemy",)
# Libraries that write to stderr by a handler of their own and repeat a failure as often as they poll. They get
# our handlers, so that their texts are redacted and land in the file too, and say each thing once a minute.
REPEATING = ("dbos",)


class LogSetup:
    """Logging as configured; `close` puts back what was there before, for tests and embedders."""

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        self.handlers = tuple(handlers)
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level, {name: logging.getLogger(name).level for name in QUIET})
        self._repeating = [_take_over(logging.getLogger(name)) for name in REPEATING]
        self._structlog_before = structlog.get_config()

    def close(self) -> None:
        handlers, level, levels = self._before
        root = logging.getLogger()
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, quiet_level in levels.items():
            logging.getLogger(name).setLevel(quiet_level)
        for give_back in self._repeating:
            give_back()
        structlog.configure(**self._structlog_before)
        for handler in self.handlers:
            handler.close()


def configure_logging(
    *,
    level: str = "info",
    format: str = "console",
    file: Path | None = None,
    file_mb: int = 20,
    file_count: int = 5,
    stream: TextIO | None = None,
    redactor: Redactor = REDACTOR,
) -> LogSetup:
    """Send structlog and standard logging through one redacted path.

    Parameters
    ----------
    level
        ``debug``, ``info``, ``warning`` or ``error``.
    format
        ``console`` or ``json``, of the stream; the file is always JSON.
    file
        Rotated at ``file_mb`` MiB, ``file_count`` old ones kept, mode 0600.
    stream
        Standard error when None. Standard output is never used.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,  # before redaction: a traceback quotes values
        redactor,
    ]
    to = stream if stream is not None else sys.stderr
    renderer: Any = structlog.processors.JSONRenderer()
    if format == "console":
        renderer = structlog.dev.ConsoleRenderer(colors=to.isatty())
    handlers: list[logging.Handler] = [logging.StreamHandler(to)]
    handlers[0].setFormatter(_RedactedFormatter(renderer, shared, redactor))
    if file is not None:
        handlers.append(_PrivateRotatingFile(file, file_mb, file_count))
        handlers[1].setFormatter(_RedactedFormatter(structlog.processors.JSONRenderer(), shared, redactor))
    setup = LogSetup(handlers)
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(level.upper())
    for name in QUIET:
        talkative = level == "debug" and name not in NEVER_TALKATIVE
        logging.getLogger(name).setLevel(logging.DEBUG if talkative else logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    return setup


def _take_over(logger: logging.Logger) -> Callable[[], None]:
    """Send ``logger`` to the root's handlers through a `RepeatFilter`; gives what undoes it."""
    handlers, propagate, repeats = logger.handlers[:], logger.propagate, RepeatFilter()
    logger.handlers[:] = [logging.NullHandler()]  # finding one, the library adds none of its own
    logger.propagate = True
    logger.addFilter(repeats)

    def give_back() -> None:
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.removeFilter(repeats)

    return give_back


class _RedactedFormatter(structlog.stdlib.ProcessorFormatter):
    def __init__(self, renderer: Any, foreign: Sequence[Any], redactor: Redactor) -> None:
        super().__init__(
            foreign_pre_chain=foreign,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(super().format(record))  # what a renderer put together anew


class _PrivateRotatingFile(RotatingFileHandler):
    def __init__(self, file: Path, file_mb: int, file_count: int) -> None:
        private_folder(file.parent)
        self._failed = False
        super().__init__(
            file, maxBytes=file_mb * 2**20, backupCount=file_count, encoding="utf-8", delay=False
        )

    def _open(self) -> TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, OWNER_ONLY)

        return TextIOWrapper(open(self.baseFilename, "ab", opener=opener), self.encoding, write_through=True)

    def handleError(self, record: logging.LogRecord) -> None:
        # The standard one prints the unredacted record. A full disk must not stop the service either.
        if not self._failed:
            self._failed = True
            sys.stderr.write(
                f"kepler: the log file {self.baseFilename} cannot be written; logging to stderr only\n"
            )
