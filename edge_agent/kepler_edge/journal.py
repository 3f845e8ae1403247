"""What happened to each release, in SQLite: every step is on the disk before its effect.

After a crash, whenever it came, the last row says what is to be done next.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kepler_edge.errors import Unavailable

KEPT_STEPS = 10_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps (
    n INTEGER PRIMARY KEY AUTOINCREMENT, release TEXT NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL,
    was TEXT NOT NULL, now TEXT NOT NULL, reason TEXT NOT NULL, data TEXT NOT NULL, ts REAL NOT NULL,
    told INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS untold ON steps (n) WHERE told = 0;
CREATE TABLE IF NOT EXISTS releases (
    id TEXT PRIMARY KEY, model TEXT NOT NULL, version INTEGER NOT NULL, document TEXT NOT NULL,
    sha256 TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, slot TEXT NOT NULL, boots INTEGER NOT NULL,
    place INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS models (
    model TEXT PRIMARY KEY, slot TEXT NOT NULL, release TEXT NOT NULL, before_slot TEXT NOT NULL,
    before_release TEXT NOT NULL, retired INTEGER NOT NULL);
"""
NOT_WANTED = -1
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


@dataclass(frozen=True, slots=True)
class Row:
    """A release and where it stands. ``slot`` is its folder, ``place`` its place in the desired state."""

    id: str
    model: str
    version: int
    document: str
    sha256: str
    state: str
    reason: str
    slot: str
    boots: int
    place: int

    @property
    def wanted(self) -> bool:
        return self.place != NOT_WANTED


@dataclass(frozen=True, slots=True)
class Serving:
    """Which release of a model serves and which served before it; empty where there is none."""

    model: str
    slot: str = ""
    release: str = ""
    before_slot: str = ""
    before_release: str = ""
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One transition."""

    n: int
    release: str
    model: str
    version: int
    was: str
    now: str
    reason: str
    data: Mapping[str, Any]
    ts: float

    def told(self) -> dict[str, Any]:
        """As the contract's ``install`` has it, without version and device."""
        return {
            "release": self.release, "model": self.model, "version": self.version, "n": self.n,
            "from": self.was, "to": self.now, "reason": self.reason, "data": dict(self.data), "ts": self.ts,
        }  # fmt: skip


class NotWritten(Unavailable):
    """The journal cannot be written now, so nothing goes on: a full or read-only disk."""


class Journal:
    """The file. Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lost = False
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "") not in _DAMAGED:
                raise NotWritten("The journal of releases cannot be opened", cause=str(error)) from error
            self.lost = path.exists()
            for suffix in ("", "-wal", "-shm"):
                found = path.with_name(path.name + suffix)
                with contextlib.suppress(FileNotFoundError):
                    found.replace(found.with_name(found.name + ".corrupt"))
            self._db = _open(path)

    def close(self) -> None:
        self._db.close()

    def releases(self) -> list[Row]:
        """All that are known: wanted ones first, as the desired state orders them."""
        rows = self._db.execute(
            "SELECT id, model, version, document, sha256, state, reason, slot, boots, place FROM releases"
            " ORDER BY place < 0, place, id"
        )
        return [Row(*row) for row in rows]

    def release(self, release_id: str) -> Row | None:
        return next((row for row in self.releases() if row.id == release_id), None)

    def serving(self) -> dict[str, Serving]:
        """By model."""
        rows = self._db.execute(
            "SELECT model, slot, release, before_slot, before_release, retired FROM models ORDER BY model"
        )
        return {row[0]: Serving(row[0], row[1], row[2], row[3], row[4], bool(row[5])) for row in rows}

    def offer(self, row: Row, was: str, ts: float) -> None:
        """Take in a release, or one anew; its state is the first."""
        with self._commit():
            self._db.execute(
                "INSERT OR REPLACE INTO releases VALUES (?,?,?,?,?,?,?,?,?,?)",
                (row.id, row.model, row.version, row.document, row.sha256, row.state, row.reason, row.slot,
                 row.boots, row.place),
            )  # fmt: skip
            self._write(row, was, row.state, row.reason, {}, ts)

    def step(
        self,
        row: Row,
        now: str,
        *,
        ts: float,
        reason: str = "",
        data: Mapping[str, Any] | None = None,
        slot: str | None = None,
        serving: Serving | None = None,
    ) -> None:
        """Bring a release into the state ``now``, and what serves with it, in one commit."""
        with self._commit():
            self._db.execute(
                "UPDATE releases SET state=?, reason=?, boots=0, slot=? WHERE id=?",
                (now, reason, row.slot if slot is None else slot, row.id),
            )
            if serving is not None:
                self._serve(serving)
            self._write(row, row.state, now, reason, data or {}, ts)

    def serve(self, serving: Serving) -> None:
        """Note what serves."""
        with self._commit():
            self._serve(serving)

    def want(self, places: Mapping[str, int]) -> None:
        """Which releases the desired state names; forgets those that nothing refers to."""
        with self._commit():
            self._db.execute("UPDATE releases SET place=?", (NOT_WANTED,))
            self._db.executemany(
                "UPDATE releases SET place=? WHERE id=?", [(place, name) for name, place in places.items()]
            )
            self._db.execute(
                "DELETE FROM releases WHERE place<0 AND state IN ('committed','refused','rolled-back') AND id NOT IN"
                " (SELECT release FROM models UNION SELECT before_release FROM models)"
            )

    def boot(self, states: frozenset[str]) -> None:
        """Count a start for each release in one of ``states``."""
        marks = ",".join("?" * len(states))
        with self._commit():
            self._db.execute(
                f"UPDATE releases SET boots=boots+1 WHERE state IN ({marks})",  # noqa: S608 - question marks only
                sorted(states),
            )

    def untold(self) -> list[Step]:
        """Steps that nobody was told of, oldest first."""
        rows = self._db.execute(
            "SELECT n, release, model, version, was, now, reason, data, ts FROM steps WHERE told=0"
            " ORDER BY n LIMIT 100"
        )
        return [_step(row) for row in rows]

    def steps(self) -> list[Step]:
        """All that are kept, oldest first."""
        rows = self._db.execute(
            "SELECT n, release, model, version, was, now, reason, data, ts FROM steps ORDER BY n"
        )
        return [_step(row) for row in rows]

    def tell(self, n: int) -> None:
        """Step ``n`` and those before it were told."""
        with self._commit():
            self._db.execute("UPDATE steps SET told=1 WHERE told=0 AND n<=?", (n,))
            self._db.execute("DELETE FROM steps WHERE told=1 AND n<=?", (n - KEPT_STEPS,))

    def number_from(self, n: int) -> None:
        """Let numbers begin above ``n``: those of a journal that was lost are never used again."""
        with self._commit():
            if not self._db.execute("SELECT 1 FROM sqlite_sequence WHERE name='steps'").fetchone():
                self._db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('steps', ?)", (n,))

    @contextlib.contextmanager
    def _commit(self) -> Generator[None]:
        try:
            with self._db:
                yield
        except sqlite3.Error as error:
            raise NotWritten("The journal of releases cannot be written", cause=str(error)) from error

    def _serve(self, serving: Serving) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO models VALUES (?,?,?,?,?,?)",
            (serving.model, serving.slot, serving.release, serving.before_slot, serving.before_release,
             int(serving.retired)),
        )  # fmt: skip

    def _write(self, row: Row, was: str, now: str, reason: str, data: Mapping[str, Any], ts: float) -> None:
        self._db.execute(
            "INSERT INTO steps (release, model, version, was, now, reason, data, ts) VALUES (?,?,?,?,?,?,?,?)",
            (row.id, row.model, row.version, was, now, reason[:1000], json.dumps(dict(data)), ts),
        )


def _step(row: tuple[Any, ...]) -> Step:
    n, release, model, version, was, now, reason, data, ts = row
    return Step(n, release, model, version, was, now, reason, json.loads(data), ts)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")  # NORMAL loses the end of the journal in a power cut
        if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
            error = sqlite3.DatabaseError("the journal is damaged")
            error.sqlite_errorname = _DAMAGED[0]
            raise error
        db.executescript(_SCHEMA)
        path.chmod(0o600)
    except BaseException:
        db.close()
        raise
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return db
