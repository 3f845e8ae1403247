"""What references meant, for as long as nobody has written to the registry.

Resolving a model takes half a millisecond of queries, a small prediction less. SQLite says in microseconds
whether anybody, in this process or another, has committed since a connection last looked (``PRAGMA
data_version``): as long as nobody has, an answer still holds. After any commit all are forgotten.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

from kepler.core.names import ModelName, ModelRef
from kepler.core.versions import VersionRecord

_KEPT = 1024  # references; each holds one record

Stamp = tuple[int, int]  # which connection looked, and what it saw: two connections' views cannot be compared
Key = tuple[tuple[ModelName, ...], str]


class Resolutions:
    """Answers of `resolve` and the state of the database they were read from. Safe from several threads.

    Parameters
    ----------
    database
        The registry's SQLite file; None where the registry cannot be asked cheaply whether it has changed,
        and nothing is kept.
    """

    def __init__(self, database: Path | None) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._opened = 0
        self._stamp: Stamp | None = None
        self._known: dict[Key, VersionRecord] = {}

    def get(self, ref: ModelRef) -> tuple[VersionRecord | None, Stamp | None]:
        """What ``ref`` means now, if that is known, and the stamp to `keep` an answer with that is read next."""
        if self._database is None:
            return None, None
        with self._lock:
            stamp = self._look()
            if stamp is None or stamp != self._stamp:
                self._known.clear()
                self._stamp = stamp
            return self._known.get((ref.candidates, ref.selector)), stamp

    def keep(self, ref: ModelRef, record: VersionRecord, stamp: Stamp | None) -> None:
        """Remember an answer that was read after ``stamp`` was: it may be newer than the stamp, never older."""
        if stamp is None:
            return
        with self._lock:
            if stamp != self._stamp:
                return
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[ref.candidates, ref.selector] = record

    def close(self) -> None:
        with self._lock:
            self._known.clear()
            self._stamp = None
            self._database = None
            if self._db is not None:
                self._db.close()
                self._db = None

    def _look(self) -> Stamp | None:
        """The database's state as this one connection sees it; None when it cannot be read at once."""
        if self._database is None:
            return None
        try:
            if self._db is None:
                # Never makes the file, never writes, and waits for no lock: the queries do, with their errors.
                self._db = sqlite3.connect(
                    f"{self._database.absolute().as_uri()}?mode=rw",
                    uri=True,
                    timeout=0,
                    isolation_level=None,
                    check_same_thread=False,
                )
                self._opened += 1
                self._db.execute("PRAGMA query_only = 1")
            return self._opened, int(self._db.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error:
            if self._db is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._db.close()
                self._db = None
            return None
