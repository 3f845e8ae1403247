"""The ledger in SQLite or PostgreSQL: ``ingest.sqlite`` in the home, or the database of the settings.

Several services may share it. Each has its own spool, so each finishes its own batches after a restart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from kepler.adapters.jobs.job_records import database_errors, open_engine
from kepler.core.errors import Conflict
from kepler.fleet.batches import BootClock
from kepler.fleet.ledger import BatchRange, Coverage, StreamName, ranges_from_json, ranges_to_json
from kepler.ports.ingest import OpenBatch

NEW, DONE = "NEW", "DONE"
KEEP_BATCHES_S = 86_400.0  # done ones; only people look at them
KEEP_STREAMS_S = 90 * 86_400.0  # longer than any outbox holds records
_TRIES = 20
_metadata = sa.MetaData()
_batches = sa.Table(
    "kepler_edge_batches",
    _metadata,
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("device", sa.String(64), nullable=False),
    sa.Column("epoch", sa.String(32), nullable=False),
    sa.Column("stream", sa.String(8), nullable=False),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("after", sa.BigInteger, nullable=False),
    sa.Column("base", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("at", sa.Float(53), nullable=False),
    sa.Index("kepler_edge_batches_by_state", "state", "owner"),
    sa.Index("kepler_edge_batches_by_time", "at"),
)
_streams = sa.Table(
    "kepler_edge_streams",
    _metadata,
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("epoch", sa.String(32), primary_key=True),
    sa.Column("stream", sa.String(8), primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),  # rises with each change: two services, one winner
    sa.Column("ranges", sa.Text, nullable=False),
    sa.Column("at", sa.Float(53), nullable=False),
)
_boots = sa.Table(
    "kepler_edge_boots",
    _metadata,
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("boot", sa.String(32), primary_key=True),
    sa.Column("offset_s", sa.Float(53), nullable=False),
    sa.Column("err_s", sa.Float(53), nullable=False),
    sa.Column("at", sa.Float(53), nullable=False),
)


class _Changed(Exception):
    """Another service was quicker; nothing was written."""


class LedgerRows:
    """Implements `ports.ingest.IngestLedger`.

    Parameters
    ----------
    owner
        This service; the same after a restart, another one's differs.
    """

    def __init__(self, home: Path, owner: str, url: str = "") -> None:
        self._engine = open_engine(url, home / "ingest.sqlite")
        self._owner = owner
        self._known_boots: set[tuple[str, str]] = set()
        self._insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        with database_errors():
            _metadata.create_all(self._engine)

    def begin(self, batches: Sequence[OpenBatch], now: float) -> list[Coverage]:
        with self._transaction() as connection:
            rows = {
                b.key: {
                    "key": b.key, "owner": self._owner, "state": NEW, "device": b.name.device,
                    "epoch": b.name.epoch, "stream": b.name.stream, "first": b.range.first, "last": b.range.last,
                    "after": b.range.after, "base": b.range.base, "sha256": b.sha256, "at": now,
                }
                for b in batches
            }  # fmt: skip
            connection.execute(self._insert(_batches).on_conflict_do_nothing(), list(rows.values()))
            found = self._read(connection, {b.name for b in batches})
        # Each its own copy: the caller adds to it.
        return [_copy(found[b.name][1]) for b in batches]

    def done(self, batches: Sequence[OpenBatch], now: float) -> list[Coverage]:
        for _ in range(_TRIES):
            try:
                return self._done(batches, now)
            except _Changed:
                continue
        raise Conflict(
            "The ledger of the devices' batches keeps changing",
            cause="Other services write it all the time.",
            fix="Try again.",
        )

    def _done(self, batches: Sequence[OpenBatch], now: float) -> list[Coverage]:
        with self._transaction() as connection:
            found = self._read(connection, {b.name for b in batches})
            for batch in batches:
                found[batch.name][1].add(batch.range)
            # In one order, so that two services never wait for each other.
            for name in sorted(found, key=lambda name: (name.device, name.epoch, name.stream)):
                if not self._save(connection, name, *found[name], now):
                    raise _Changed
            connection.execute(
                sa.update(_batches)
                .where(_batches.c.key.in_([b.key for b in batches]), _batches.c.owner == self._owner)
                .values(state=DONE, at=now)
            )
        return [found[b.name][1] for b in batches]

    def drop(self, batches: Sequence[OpenBatch]) -> None:
        with self._transaction() as connection:
            connection.execute(
                sa.delete(_batches).where(
                    _batches.c.key.in_([b.key for b in batches]),
                    _batches.c.owner == self._owner,
                    _batches.c.state == NEW,
                )
            )

    def open(self) -> list[OpenBatch]:
        query = sa.select(_batches).where(_batches.c.state == NEW, _batches.c.owner == self._owner)
        with database_errors(), self._engine.connect() as connection:
            return [
                OpenBatch(
                    StreamName(row.device, row.epoch, row.stream),
                    BatchRange(row.first, row.last, row.after, row.base),
                    row.key,
                    row.sha256,
                )
                for row in connection.execute(query.order_by(_batches.c.at, _batches.c.first))
            ]

    def boot_clock(self, device: str, boot: str) -> BootClock | None:
        query = sa.select(_boots.c.offset_s, _boots.c.err_s).where(
            _boots.c.device == device, _boots.c.boot == boot
        )
        with database_errors(), self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return BootClock(row.offset_s, row.err_s) if row is not None else None

    def set_boot_clock(self, device: str, boot: str, clock: BootClock, now: float) -> None:
        if (device, boot) in self._known_boots:
            return
        with self._transaction() as connection:
            connection.execute(
                self._insert(_boots)
                .values(device=device, boot=boot, offset_s=clock.offset_s, err_s=clock.err_s, at=now)
                .on_conflict_do_nothing()
            )
        if len(self._known_boots) > 100_000:
            self._known_boots.clear()
        self._known_boots.add((device, boot))

    def prune(self, now: float) -> None:
        with self._transaction() as connection:
            old = now - KEEP_BATCHES_S
            connection.execute(sa.delete(_batches).where(_batches.c.at < old, _batches.c.state == DONE))
            for table in (_streams, _boots):
                connection.execute(sa.delete(table).where(table.c.at < now - KEEP_STREAMS_S))
        self._known_boots.clear()

    def coverage(self, name: StreamName) -> Coverage:
        """What is safe of a class, for diagnostics."""
        with database_errors(), self._engine.connect() as connection:
            return self._read(connection, {name})[name][1]

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with database_errors(), self._engine.begin() as connection:
            yield connection

    def _read(
        self, connection: sa.Connection, names: set[StreamName]
    ) -> dict[StreamName, tuple[int, Coverage]]:
        """Version and coverage of each; version 0 for one that is not there."""
        keys = [(name.device, name.epoch, name.stream) for name in names]
        query = sa.select(_streams).where(
            sa.tuple_(_streams.c.device, _streams.c.epoch, _streams.c.stream).in_(keys)
        )
        found = {name: (0, Coverage()) for name in names}
        for row in connection.execute(query):
            found[StreamName(row.device, row.epoch, row.stream)] = (
                row.n,
                ranges_from_json(json.loads(row.ranges)),
            )
        return found

    def _save(
        self, connection: sa.Connection, name: StreamName, n: int, coverage: Coverage, now: float
    ) -> bool:
        values = {"n": n + 1, "ranges": json.dumps(ranges_to_json(coverage)), "at": now}
        key = {"device": name.device, "epoch": name.epoch, "stream": name.stream}
        if n == 0:
            # What was inserted is asked for: drivers differ in counting rows that were not.
            new = self._insert(_streams).values(**key, **values).on_conflict_do_nothing()
            return connection.execute(new.returning(_streams.c.n)).one_or_none() is not None
        changed = connection.execute(
            sa.update(_streams)
            .where(*(_streams.c[column] == value for column, value in key.items()), _streams.c.n == n)
            .values(**values)
        )
        return changed.rowcount == 1


def _copy(coverage: Coverage) -> Coverage:
    return Coverage(list(coverage.seen), coverage.base)
