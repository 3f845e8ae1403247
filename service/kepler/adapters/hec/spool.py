"""Blocks of events on the disk, until Splunk has them.

SQLite in WAL mode with ``synchronous=FULL``: what `put` took is there after a power cut. A block holds up to
one request's events, so that writing 500 events is one row: 2 to 3 times quicker than a row for each event, and
level with files that are only appended to, which would need their own index, compaction and crash recovery.
One thread writes. Those who wait for it at the same time share one commit.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kepler.adapters.hec.envelope import Block
from kepler.core.errors import Conflict, Overloaded, Unavailable
from kepler.ports.hec import DeadLetter, Destination

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]
FORMAT = 1
VACUUM_EVERY = 128  # commits between giving free pages back to the disk
KEEP_KEYS_S = 30 * 86_400.0
MAX_GROUP = 256  # pieces of work in one commit
_SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks(
  id INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, slot INTEGER NOT NULL, source TEXT NOT NULL,
  events INTEGER NOT NULL, bytes INTEGER NOT NULL, at REAL NOT NULL, keep INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS blocks_by_destination ON blocks(destination, id);
CREATE INDEX IF NOT EXISTS blocks_that_may_go ON blocks(id) WHERE keep = 0;
CREATE TABLE IF NOT EXISTS taken(key TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead(
  id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, destination TEXT NOT NULL, source TEXT NOT NULL,
  code INTEGER NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS dropped(
  destination TEXT NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL, events INTEGER NOT NULL,
  bytes INTEGER NOT NULL, since REAL NOT NULL, until REAL NOT NULL, PRIMARY KEY(destination, source, reason));
"""
_COUNT_DROP = """
INSERT INTO dropped VALUES(?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
events = events + excluded.events, bytes = bytes + excluded.bytes, until = excluded.until
"""


@dataclass(frozen=True, slots=True)
class StoredBlock:
    id: int
    source: str
    slot: int
    events: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that Splunk would not take."""

    source: str
    code: int
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Dropped:
    """Events of one source that had to go, and why."""

    destination: Destination
    source: str
    reason: str
    events: int
    bytes: int
    since: float
    until: float


class BlockSpool:
    """The file. One process owns it; its methods may be called from several threads.

    Parameters
    ----------
    path
        The SQLite file.
    max_bytes
        Bodies kept at most. The oldest that may go make room for new ones.
    max_dead_bytes
        Refused events kept at most; the oldest go.
    """

    def __init__(self, path: Path, *, max_bytes: int, max_dead_bytes: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._max_bytes, self._max_dead_bytes = max_bytes, max_dead_bytes
        self._work: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        connection = self._open()
        # Whoever gave a key forgets it when all is done; a process that was killed could not.
        connection.execute("DELETE FROM taken WHERE at < ?", (time.time() - KEEP_KEYS_S,))
        self._bytes, self._dead_bytes = connection.execute(
            "SELECT (SELECT coalesce(sum(bytes), 0) FROM blocks), "
            "(SELECT coalesce(sum(length(body)), 0) FROM dead)"
        ).fetchone()
        self._thread = threading.Thread(
            target=self._write, args=(connection,), name="kepler-hec-spool", daemon=True
        )
        self._thread.start()

    # Taking

    def put(
        self, destination: Destination, blocks: Sequence[Block], *, key: str = "", keep: bool = False
    ) -> bool:
        """Keep ``blocks``; durable when it returns. False when ``key`` was taken before.

        Raises `Overloaded` when they do not fit beside what may not be dropped.
        """
        now = time.time()
        size = sum(len(block.body) for block in blocks)

        def work(connection: sqlite3.Connection) -> bool:
            if key and not _inserted(connection, "INSERT OR IGNORE INTO taken VALUES(?, ?)", (key, now)):
                return False
            self._make_room(connection, size, now)
            self._insert(connection, destination, blocks, now, keep=keep)
            return True

        return self._run(work)

    def put_keyed(
        self, destination: Destination, batches: Sequence[tuple[str, Sequence[Block]]]
    ) -> list[bool]:
        """Keep the blocks of each key that was not taken before, never to be dropped, all in one commit."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> list[bool]:
            taken: list[bool] = []
            for key, blocks in batches:
                new = _inserted(connection, "INSERT OR IGNORE INTO taken VALUES(?, ?)", (key, now))
                if new:
                    self._make_room(connection, sum(len(block.body) for block in blocks), now)
                    self._insert(connection, destination, blocks, now, keep=True)
                taken.append(new)
            return taken

        return self._run(work)

    def has(self, key: str) -> bool:
        return self._read("SELECT 1 FROM taken WHERE key = ?", (key,)).fetchone() is not None

    def forget(self, keys: Sequence[str]) -> None:
        self._run(lambda c: c.executemany("DELETE FROM taken WHERE key = ?", [(key,) for key in keys]))

    # Sending

    def next(
        self, destination: Destination, lane: int, lanes: int, after: int, max_bytes: int, max_events: int
    ) -> list[StoredBlock]:
        """Blocks of a lane behind id ``after``, oldest first, that fit one request; at least one if there is any."""
        found: list[StoredBlock] = []
        size = events = 0
        rows = self._read(
            "SELECT id, source, slot, events, body FROM blocks WHERE destination = ? AND id > ? AND slot % ? = ? "
            "ORDER BY id",
            (destination.value, after, lanes, lane),
        )
        for row in rows:
            block = StoredBlock(*row)
            size += len(block.body) + 1
            events += block.events
            if found and (size > max_bytes or events > max_events):
                break
            found.append(block)
        rows.close()
        return found

    def get(self, ids: Sequence[int]) -> list[StoredBlock]:
        """Blocks by id, as far as they are still there."""
        marks = ",".join("?" * len(ids))
        return [
            StoredBlock(*row)
            for row in self._read(
                f"SELECT id, source, slot, events, body FROM blocks WHERE id IN ({marks}) ORDER BY id",  # noqa: S608
                tuple(ids),
            )
        ]

    def delivered(
        self, destination: Destination, ids: Sequence[int], refused: Sequence[Refused] = ()
    ) -> None:
        """Splunk has the blocks ``ids`` but for ``refused``, which go to the dead letters in the same commit."""
        now = time.time()

        def work(connection: sqlite3.Connection) -> None:
            if refused:
                rows = [(now, destination.value, r.source, r.code, r.reason, r.body) for r in refused]
                connection.executemany(
                    "INSERT INTO dead(at, destination, source, code, reason, body) VALUES(?, ?, ?, ?, ?, ?)",
                    rows,
                )
                self._dead_bytes += sum(len(r.body) for r in refused)
                self._trim_dead(connection, now)
            for block_id in ids:
                row = connection.execute(
                    "DELETE FROM blocks WHERE id = ? RETURNING bytes", (block_id,)
                ).fetchone()
                self._bytes -= row[0] if row else 0

        self._run(work)

    # Looking

    def depth(self, destination: Destination) -> tuple[int, int, float, int]:
        """Events, bytes, time of the oldest (0 for none), and dead letters."""
        events, size, oldest = self._read(
            "SELECT coalesce(sum(events), 0), coalesce(sum(bytes), 0), coalesce(min(at), 0) FROM blocks "
            "WHERE destination = ?",
            (destination.value,),
        ).fetchone()
        dead = self._read("SELECT count(*) FROM dead WHERE destination = ?", (destination.value,)).fetchone()[
            0
        ]
        return events, size, oldest, dead

    def report_drops(self, say: Callable[[Sequence[Dropped]], Sequence[Block]]) -> list[Dropped]:
        """Replace the record of what was dropped by the blocks ``say`` makes of it; gives what was reported."""

        def work(connection: sqlite3.Connection) -> list[Dropped]:
            rows = connection.execute("DELETE FROM dropped RETURNING *").fetchall()
            drops = [Dropped(Destination(row[0]), *row[1:]) for row in rows]
            if drops:
                # It says what went, so it stays; it is small, and it may go beyond the bound.
                self._insert(connection, Destination.EVENTS, say(drops), time.time(), keep=True)
            return drops

        return self._run(work) if self._read("SELECT 1 FROM dropped").fetchone() else []

    # Dead letters

    def dead_letters(self, limit: int, after: int) -> list[DeadLetter]:
        rows = self._read(
            "SELECT id, at, destination, source, code, reason, body FROM dead WHERE id > ? ORDER BY id LIMIT ?",
            (after, limit),
        )
        return [
            DeadLetter(r[0], r[1], Destination(r[2]), r[3], r[4], r[5], r[6].decode("utf-8", "replace"))
            for r in rows
        ]

    def take_dead(self, ids: Sequence[int], make: Callable[[str, bytes], Block] | None) -> int:
        """Remove dead letters (all for no ``ids``); with ``make`` they go back as blocks. Gives their number."""

        def work(connection: sqlite3.Connection) -> int:
            chosen = ids or [row[0] for row in connection.execute("SELECT id FROM dead")]
            count = 0
            for dead_id in chosen:
                row = connection.execute(
                    "DELETE FROM dead WHERE id = ? RETURNING destination, source, body", (dead_id,)
                ).fetchone()
                if row is None:
                    continue
                count += 1
                self._dead_bytes -= len(row[2])
                if make is not None:
                    self._insert(
                        connection, Destination(row[0]), [make(row[1], row[2])], time.time(), keep=True
                    )
            return count

        return self._run(work)

    def close(self) -> None:
        """Write what waits and close; can be repeated."""
        if not self._closed:
            self._closed = True
            self._work.put(None)
            self._thread.join()
            for reader in self._readers:
                reader.close()

    # Below runs inside the writing thread.

    def _insert(
        self,
        connection: sqlite3.Connection,
        to: Destination,
        blocks: Sequence[Block],
        now: float,
        *,
        keep: bool,
    ) -> None:
        connection.executemany(
            "INSERT INTO blocks(destination, slot, source, events, bytes, at, keep, body) "
            "VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
            [(to.value, b.slot, b.source, b.events, len(b.body), now, keep, b.body) for b in blocks],
        )
        self._bytes += sum(len(b.body) for b in blocks)

    def _make_room(self, connection: sqlite3.Connection, size: int, now: float) -> None:
        while self._bytes + size > self._max_bytes:
            row = connection.execute(
                "DELETE FROM blocks WHERE id = (SELECT min(id) FROM blocks WHERE keep = 0) "
                "RETURNING destination, source, events, bytes"
            ).fetchone()
            if row is None:
                raise Overloaded(
                    "The spool into Splunk is full",
                    cause=f"{self._bytes} bytes wait and none of them may be dropped.",
                    fix="See `kepler hec status` for why Splunk does not take them; hec.spool_mb is the bound.",
                    retry_after_s=10.0,
                )
            self._bytes -= row[3]
            connection.execute(_COUNT_DROP, (row[0], row[1], "full", row[2], row[3], now, now))

    def _trim_dead(self, connection: sqlite3.Connection, now: float) -> None:
        while self._dead_bytes > self._max_dead_bytes:
            row = connection.execute(
                "DELETE FROM dead WHERE id = (SELECT min(id) FROM dead) RETURNING destination, source, length(body)"
            ).fetchone()
            if row is None:
                self._dead_bytes = 0
                return
            self._dead_bytes -= row[2]
            connection.execute(_COUNT_DROP, (row[0], row[1], "dead-letter-full", 1, row[2], now, now))

    def _write(self, connection: sqlite3.Connection) -> None:
        stopping, commits = False, 0
        while not stopping:
            group = [self._work.get()]
            with contextlib.suppress(queue.Empty):
                while len(group) < MAX_GROUP:
                    group.append(self._work.get_nowait())
            stopping = None in group
            self._commit(connection, [item for item in group if item is not None])
            commits += 1
            if commits % VACUUM_EVERY == 0:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("PRAGMA incremental_vacuum(2048)").fetchall()
        connection.close()

    def _commit(self, connection: sqlite3.Connection, group: list[tuple[Work, Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        counted = self._bytes, self._dead_bytes
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in group:
                before = self._bytes, self._dead_bytes
                connection.execute("SAVEPOINT piece")
                try:
                    done.append((future, work(connection)))
                except Overloaded as error:
                    # What it did is undone, and the others' work stays.
                    connection.execute("ROLLBACK TO piece")
                    self._bytes, self._dead_bytes = before
                    future.set_exception(error)
                connection.execute("RELEASE piece")
            connection.execute("COMMIT")
        except BaseException as error:
            self._bytes, self._dead_bytes = counted
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            for _, future in group:
                if not future.done():
                    future.set_exception(_wrapped(error, self._path))
            return
        for future, result in done:
            future.set_result(result)

    # Connections

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise Unavailable("The spool into Splunk is closed", fix="The service is stopping; try again.")
        future: Future[T] = Future()
        self._work.put((work, future))
        return future.result()

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._open()
            self._readers.append(connection)
        try:
            return connection.execute(query, values)
        except sqlite3.Error as error:
            raise _wrapped(error, self._path) from error

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=30
            )
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, FORMAT):
                raise Conflict(
                    f"{self._path} has format {found}", fix="Use the version of Kepler that wrote it."
                )
            if not found:
                connection.executescript(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {FORMAT}")
        except sqlite3.Error as error:
            raise _wrapped(error, self._path) from error
        self._path.chmod(0o600)
        return connection


def _inserted(connection: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> bool:
    return connection.execute(query, values).rowcount == 1


def _wrapped(error: BaseException, path: Path) -> BaseException:
    if isinstance(error, sqlite3.DatabaseError) and "full" in str(error):
        return Overloaded(
            "The disk of the spool into Splunk is full",
            cause=f"{path}: {error}.",
            fix="Free space on that disk.",
        )
    if isinstance(error, sqlite3.OperationalError):
        return Unavailable("The spool into Splunk cannot be used now", cause=f"{path}: {error}.")
    if isinstance(error, sqlite3.DatabaseError):
        return Conflict(
            f"{path} is damaged",
            cause=f"{error}.",
            fix="Move it away: the service makes a new one, and what the old one held is lost.",
        )
    return error


def iterate_lines(blocks: Sequence[StoredBlock]) -> Iterator[tuple[str, bytes]]:
    """Source and line of each event, in order."""
    for block in blocks:
        for line in block.body.split(b"\n"):
            yield block.source, line
