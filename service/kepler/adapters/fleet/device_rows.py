"""Devices in the database: implements `ports.fleet.DeviceStore`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from kepler.adapters.fleet.tables import DEVICES, Tables, dump
from kepler.core.errors import Conflict, NotFound
from kepler.fleet.desired import Document
from kepler.fleet.devices import Device, DeviceState, LoadedModel, Selector, check_labels
from kepler.ports.fleet import Birth, Desired, Reported

_ENROLLED = DeviceState.ENROLLED.value
_TRIES = 20


class DeviceRows:
    """See `ports.fleet.DeviceStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def device(self, device_id: str) -> Device:
        with self._tables.reading() as connection:
            found = connection.execute(sa.select(DEVICES).where(DEVICES.c.id == device_id)).one_or_none()
        if found is None:
            raise no_device(device_id)
        return _device(found)

    def devices(self, selector: Selector | None = None, *, limit: int = 0, offset: int = 0) -> list[Device]:
        query = sa.select(DEVICES).order_by(DEVICES.c.id)
        if selector is None and limit:
            query = query.limit(limit).offset(offset)
        with self._tables.reading() as connection:
            found = [_device(row) for row in connection.execute(query)]
        if selector is None:
            return found
        chosen = [device for device in found if selector.matches(device)]
        return chosen[offset : offset + limit] if limit else chosen

    def set_labels(self, device_id: str, labels: Mapping[str, str]) -> Device:
        self._update(device_id, labels=dump(check_labels(dict(labels))))
        return self.device(device_id)

    def born(self, device_id: str, birth: Birth, now: float) -> Device | None:
        values: dict[str, Any] = {
            "online": True, "bd": birth.bd, "seen_at": now, "agent": birth.agent, "epoch": birth.epoch,
            "caps": dump(list(birth.caps)), "models": dump([asdict(model) for model in birth.models]),
        }  # fmt: skip
        with self._tables.writing() as connection:
            done = connection.execute(
                sa.update(DEVICES)
                .where(DEVICES.c.id == device_id, DEVICES.c.state == _ENROLLED, DEVICES.c.bd <= birth.bd)
                .values(**values)
            )
        return self.device(device_id) if done.rowcount == 1 else None

    def died(self, device_id: str, bd: int, now: float) -> bool:
        with self._tables.writing() as connection:
            done = connection.execute(
                sa.update(DEVICES)
                .where(DEVICES.c.id == device_id, DEVICES.c.bd == bd)
                .values(online=False, seen_at=now)
            )
        return done.rowcount == 1

    def reported(self, device_id: str, reported: Reported, now: float) -> bool:
        with self._tables.writing() as connection:
            done = connection.execute(
                sa.update(DEVICES)
                .where(DEVICES.c.id == device_id, DEVICES.c.state == _ENROLLED)
                .values(
                    rev_seen=reported.rev_seen,
                    rev_applied=reported.rev_applied,
                    status=reported.status,
                    error=reported.error,
                    seen_at=now,
                )
            )
        return done.rowcount == 1

    def desired(self, device_id: str) -> Desired:
        with self._tables.reading() as connection:
            return read_desired(connection, device_id)

    def change_desired(self, device_id: str, change: Callable[[Document], Document]) -> Desired:
        for _ in range(_TRIES):
            before = self.desired(device_id)
            doc = change(before.doc)
            if doc == before.doc:
                return before
            with self._tables.writing() as connection:
                if write_desired(connection, before, doc):
                    return Desired(device_id, before.rev + 1, doc)
        raise Conflict(f"Too many change device {device_id} at once", fix="Try again.")

    def republish(self, device_id: str) -> Desired:
        with self._tables.writing() as connection:
            connection.execute(
                sa.update(DEVICES).where(DEVICES.c.id == device_id).values(rev=DEVICES.c.rev + 1)
            )
        return self.desired(device_id)

    def unpublished(self, limit: int = 500) -> list[Desired]:
        query = (
            sa.select(DEVICES)
            .where(DEVICES.c.rev > DEVICES.c.published_rev, DEVICES.c.state == _ENROLLED)
            .order_by(DEVICES.c.published_at, DEVICES.c.id)
        )
        with self._tables.reading() as connection:
            return [_desired(row) for row in connection.execute(query.limit(limit))]

    def published(self, device_id: str, rev: int, now: float) -> None:
        with self._tables.writing() as connection:
            connection.execute(
                sa.update(DEVICES)
                .where(DEVICES.c.id == device_id, DEVICES.c.published_rev < rev)
                .values(published_rev=rev, published_at=now)
            )

    def next_command(self, device_id: str) -> int:
        with self._tables.writing() as connection:
            connection.execute(
                sa.update(DEVICES).where(DEVICES.c.id == device_id).values(command_n=DEVICES.c.command_n + 1)
            )
            found = connection.execute(
                sa.select(DEVICES.c.command_n).where(DEVICES.c.id == device_id)
            ).scalar_one_or_none()
        if found is None:
            raise no_device(device_id)
        return int(found)

    def _update(self, device_id: str, **values: Any) -> None:
        with self._tables.writing() as connection:
            done = connection.execute(sa.update(DEVICES).where(DEVICES.c.id == device_id).values(**values))
        if done.rowcount != 1:
            raise no_device(device_id)


def no_device(device_id: str) -> NotFound:
    return NotFound(
        f"There is no device {device_id[:80]!r}", fix="`kepler edge devices` lists those that are enrolled."
    )


def read_desired(connection: sa.Connection, device_id: str) -> Desired:
    """The newest document within a transaction. Raises `NotFound`."""
    found = connection.execute(sa.select(DEVICES).where(DEVICES.c.id == device_id)).one_or_none()
    if found is None:
        raise no_device(device_id)
    return _desired(found)


def write_desired(connection: sa.Connection, before: Desired, doc: Document) -> bool:
    """Write ``doc`` as the next revision; False when ``before`` is not the newest any more."""
    done = connection.execute(
        sa.update(DEVICES)
        .where(DEVICES.c.id == before.device, DEVICES.c.rev == before.rev)
        .values(rev=before.rev + 1, doc=dump(doc))
    )
    return done.rowcount == 1


def _desired(row: Any) -> Desired:
    current = row.published_rev >= row.rev
    return Desired(row.id, row.rev, json.loads(row.doc), row.published_at if current else 0.0)


def _device(row: Any) -> Device:
    return Device(
        id=row.id,
        state=DeviceState(row.state),
        labels=json.loads(row.labels),
        enrolled_at=row.enrolled_at,
        online=bool(row.online) and row.state == _ENROLLED,
        bd=row.bd,
        seen_at=row.seen_at,
        agent=row.agent,
        epoch=row.epoch,
        caps=tuple(json.loads(row.caps)),
        models=tuple(LoadedModel(**model) for model in json.loads(row.models)),
        rev=row.rev,
        rev_seen=row.rev_seen,
        rev_applied=row.rev_applied,
        status=row.status,
        error=row.error,
    )
