"""The outbox's file: how it is opened, checked, bounded, and set aside when it is broken."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from .durable import sync_folder
from .errors import InvalidInput, Unavailable

PAGE_BYTES = 4096
# A checkpoint every 200 pages keeps the write-ahead log below 1 MiB, which the quota counts twice: a log may grow
# while a checkpoint waits.
CHECKPOINT_PAGES = 200
WAL_BYTES = 2 * CHECKPOINT_PAGES * (PAGE_BYTES + 24)
# Pages kept free for tombstones and deletes. SQLite deletes nothing in a file that may not grow.
HEADROOM_PAGES = 64
SMALLEST_QUOTA_BYTES = 4 << 20
# Codes after which the file cannot be believed any more.
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

# Numbers come from `outbox.last`, which is raised in the transaction that uses them: one counter over four tables,
# which AUTOINCREMENT is not.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL,
    last INTEGER NOT NULL, age_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS class (n INTEGER PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS p0 (q INTEGER PRIMARY KEY, age_s REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS p1 (q INTEGER PRIMARY KEY, age_s REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS p2 (q INTEGER PRIMARY KEY, age_s REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS p3 (q INTEGER PRIMARY KEY, age_s REAL NOT NULL, body BLOB NOT NULL);
INSERT OR IGNORE INTO class VALUES (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0);
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the outbox may take.

    Attributes
    ----------
    quota_bytes
        Of its folder: the database, twice its log, and the ballast.
    ballast_bytes
        File that is given up when something else has filled the disk, so that deleting works again.
    ttl_s
        By class: running time of the agent after which a record is dropped; 0 keeps it. Running time, because the
        wall clock of a device without a battery jumps.
    """

    quota_bytes: int = 200 << 20
    ballast_bytes: int = 512 << 10
    ttl_s: tuple[float, float, float, float] = (0.0, 0.0, 7 * 86400.0, 3 * 86400.0)

    def max_pages(self) -> int:
        """Pages the database may have. Raises InvalidInput when the quota is too small to work with."""
        if self.quota_bytes < SMALLEST_QUOTA_BYTES:
            raise InvalidInput(
                f"A quota of {self.quota_bytes} bytes is too small for the outbox",
                fix=f"Set quota_mb to at least {SMALLEST_QUOTA_BYTES >> 20}.",
            )
        return (self.quota_bytes - self.ballast_bytes - WAL_BYTES) // PAGE_BYTES


def open_outbox(path: Path, limits: Limits) -> tuple[sqlite3.Connection, str]:
    """A connection to a sound outbox, and why the one before had to be set aside (empty: it did not).

    Raises
    ------
    Unavailable
        When the disk is full or read-only, or another agent has the file open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    broken = ""
    for _ in range(2):
        connection = None
        try:
            connection = _connect(path, limits)
            return connection, broken
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if not is_broken(error):
                raise Unavailable(
                    "The outbox cannot be opened",
                    cause=str(error),
                    fix="Free the disk, make it writable, and see that no second agent uses this home.",
                ) from error
            broken = str(error)
            set_aside(path)
    raise Unavailable(
        "The outbox is broken again right after it was made", cause=broken, fix="Check the disk."
    )


def is_broken(error: sqlite3.Error) -> bool:
    """Whether an error means that the file's contents are wrong."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and (code & 0xFF) in _BROKEN


def is_full(error: sqlite3.Error) -> bool:
    """Whether an error means that there is no room, in the file or on the disk."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and (code & 0xFF) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def set_aside(path: Path) -> None:
    """Renames a broken outbox; the one that was set aside before makes room for it."""
    for suffix in ("", "-wal", "-journal"):
        found = path.with_name(path.name + suffix)
        if found.exists():
            found.replace(path.with_name(path.name + ".corrupt" + suffix))
    with contextlib.suppress(OSError):
        path.with_name(path.name + "-shm").unlink()
    sync_folder(path.parent)


def make_ballast(path: Path, limits: Limits) -> bool:
    """Writes the ballast (blocks, no hole) when it is missing and there is room for twice its size."""
    try:
        if path.exists() and path.stat().st_size == limits.ballast_bytes:
            return True
        free = os.statvfs(path.parent)
        if free.f_bavail * free.f_frsize < 2 * limits.ballast_bytes:
            return False
        path.write_bytes(os.urandom(limits.ballast_bytes))
    except OSError:
        drop_ballast(path)
        return False
    return True


def drop_ballast(path: Path) -> bool:
    """Gives the ballast up. Returns whether there was one."""
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _connect(path: Path, limits: Limits) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        # One process, one connection: no shared-memory file, and a second agent is kept out.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        # Before WAL, or the file never shrinks.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        # NORMAL loses the end of the log at a power cut.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA max_page_count={limits.max_pages()}")
        connection.execute("PRAGMA cache_size=-2048")
        # Debian's SQLite overwrites what it deletes: twice the wear, and a log that grows with every delete.
        connection.execute("PRAGMA secure_delete=OFF")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found is None or found[0] != "ok":
            raise _broken(f"quick_check: {found}")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(
            "INSERT OR IGNORE INTO outbox VALUES (1, ?, 0, 0)",
            (os.urandom(8).hex(),),
        )
        connection.execute("COMMIT")
        _check_numbers(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_numbers(connection: sqlite3.Connection) -> None:
    """No record may have a number that could be given again."""
    last = connection.execute("SELECT last FROM outbox").fetchone()[0]
    for name in ("p0", "p1", "p2", "p3"):
        highest = connection.execute(f"SELECT max(q) FROM {name}").fetchone()[0]  # noqa: S608 - fixed names
        if highest is not None and highest > last:
            raise _broken(f"{name} holds {highest}, above the last number {last}")


def _broken(text: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
