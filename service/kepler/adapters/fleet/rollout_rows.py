"""Rollouts and what devices told of them: implements `ports.fleet.RolloutStore`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from kepler.adapters.fleet.device_rows import read_desired, write_desired
from kepler.adapters.fleet.tables import DEVICES, PARTS, ROLLOUTS, STEPS, Tables, dump
from kepler.core.errors import Conflict, NotFound
from kepler.fleet import rollouts as rules
from kepler.fleet.desired import Release, put_back, release_for, with_release
from kepler.fleet.devices import DeviceState
from kepler.fleet.rollouts import DevicePart, OnError, Part, Rollout, RolloutPlan, RolloutState
from kepler.ports.fleet import ReportedRelease, Step

_OPEN = [state.value for state in RolloutState if not state.final]
_UNDERWAY = [part.value for part in Part if part.underway]
_TRIES = 20


class _Stale(Exception):
    """Leaves a transaction that found something changed; nothing of it is kept."""


class RolloutRows:
    """See `ports.fleet.RolloutStore`.

    Parameters
    ----------
    folder_url
        Address of a version's files for a device, by device, model, version and when it ends; empty for none.
    """

    def __init__(
        self, tables: Tables, folder_url: Callable[[str, str, int, float], str] | None = None
    ) -> None:
        self._tables = tables
        self._folder_url = folder_url or (lambda device, model, version, expires: "")

    def create(self, rollout: Rollout, parts: Sequence[DevicePart], release: Release) -> Rollout:
        row = {
            "id": rollout.id, "model": rollout.model, "state": rollout.state.value, "n": rollout.n,
            "created_at": rollout.created_at, "body": dump(asdict(rollout)), "release": dump(release),
        }  # fmt: skip
        try:
            with self._tables.writing() as connection:
                connection.execute(
                    sa.insert(ROLLOUTS).values(row)
                )  # takes the lock: two at once have one winner
                busy = connection.execute(
                    sa.select(PARTS.c.rollout, PARTS.c.device)
                    .join(ROLLOUTS, ROLLOUTS.c.id == PARTS.c.rollout)
                    .where(
                        ROLLOUTS.c.model == rollout.model,
                        ROLLOUTS.c.state.in_(_OPEN),
                        PARTS.c.device.in_([part.device for part in parts]),
                    )
                    .limit(1)
                ).one_or_none()
                if busy is not None:
                    raise Conflict(
                        f"Rollout {busy.rollout} brings {rollout.model} to {busy.device} already",
                        fix="Wait for its end, or stop it or roll it back first.",
                    )
                connection.execute(sa.insert(PARTS), [_row(rollout, part) for part in parts])
        except exc.IntegrityError:
            return self.rollout(rollout.id)
        return rollout

    def rollout(self, rollout_id: str) -> Rollout:
        with self._tables.reading() as connection:
            found = connection.execute(sa.select(ROLLOUTS).where(ROLLOUTS.c.id == rollout_id)).one_or_none()
        if found is None:
            raise NotFound(
                f"There is no rollout {rollout_id[:80]!r}", fix="`kepler edge rollout` lists the rollouts."
            )
        return _rollout(found)

    def rollouts(self, *, limit: int = 100, offset: int = 0) -> list[Rollout]:
        query = sa.select(ROLLOUTS).order_by(ROLLOUTS.c.created_at.desc(), ROLLOUTS.c.id)
        with self._tables.reading() as connection:
            return [_rollout(row) for row in connection.execute(query.limit(limit).offset(offset))]

    def open_rollouts(self) -> list[Rollout]:
        underway = sa.select(PARTS.c.rollout).where(PARTS.c.part.in_(_UNDERWAY)).distinct()
        query = (
            sa.select(ROLLOUTS)
            .where(sa.or_(ROLLOUTS.c.state.in_(_OPEN), ROLLOUTS.c.id.in_(underway)))
            .order_by(ROLLOUTS.c.created_at)
        )
        with self._tables.reading() as connection:
            return [_rollout(row) for row in connection.execute(query)]

    def parts(self, rollout_id: str) -> list[DevicePart]:
        query = sa.select(PARTS).where(PARTS.c.rollout == rollout_id).order_by(PARTS.c.stage, PARTS.c.device)
        with self._tables.reading() as connection:
            return [_part(row) for row in connection.execute(query)]

    def save(self, rollout: Rollout, was_n: int, parts: Sequence[DevicePart]) -> bool:
        with self._tables.writing() as connection:
            done = connection.execute(
                sa.update(ROLLOUTS)
                .where(ROLLOUTS.c.id == rollout.id, ROLLOUTS.c.n == was_n)
                .values(state=rollout.state.value, n=rollout.n, body=dump(asdict(rollout)))
            )
            if done.rowcount != 1:
                return False
            for part in parts:
                # A device may have told a step since these were read: its row then goes first.
                connection.execute(
                    sa.update(PARTS)
                    .where(
                        PARTS.c.rollout == rollout.id,
                        PARTS.c.device == part.device,
                        PARTS.c.n == part.n,
                        PARTS.c.part.not_in([Part.COMMITTED.value, Part.FAILED.value]),
                    )
                    .values(**_values(part))
                )
        return True

    def offer(self, rollout: Rollout, part: DevicePart, now: float) -> bool:
        try:
            return self._offer(rollout, part, now)
        except _Stale:
            return False

    def withdraw(self, rollout: Rollout, part: DevicePart, now: float) -> bool:
        try:
            return self._withdraw(rollout, part, now)
        except _Stale:
            return False

    def _offer(self, rollout: Rollout, part: DevicePart, now: float) -> bool:
        with self._tables.writing() as connection:
            held = connection.execute(
                sa.update(ROLLOUTS)
                .where(ROLLOUTS.c.id == rollout.id, ROLLOUTS.c.state.in_(["running", "paused"]))
                .values(n=ROLLOUTS.c.n)
            )
            release = connection.execute(
                sa.select(ROLLOUTS.c.release).where(ROLLOUTS.c.id == rollout.id)
            ).scalar_one_or_none()
            if held.rowcount != 1 or release is None:
                return False
            state = connection.execute(
                sa.select(DEVICES.c.state).where(DEVICES.c.id == part.device)
            ).scalar_one_or_none()
            if state != DeviceState.ENROLLED.value:
                gone = rules.skip(part, "The device is not enrolled any more", now)
                self._move(connection, rollout.id, part, gone)
                return False
            desired = read_desired(connection, part.device)
            before = release_for(desired.doc, rollout.model)
            offered = rules.offered(part, now)
            moved = self._move(
                connection, rollout.id, part, offered, before=dump(before) if before is not None else ""
            )
            document: Release = json.loads(release)
            # The same however often it is offered: agents take another document for another release.
            ends = rollout.created_at + rollout.plan.total_s + rules.DAY_S
            if url := self._folder_url(part.device, rollout.model, rollout.version, ends):
                document["url"] = url
            doc = with_release(desired.doc, document)
            if not moved or not write_desired(connection, desired, doc):
                raise _Stale
        return True

    def _withdraw(self, rollout: Rollout, part: DevicePart, now: float) -> bool:
        with self._tables.writing() as connection:
            done = connection.execute(
                sa.update(PARTS)
                .where(
                    PARTS.c.rollout == rollout.id,
                    PARTS.c.device == part.device,
                    PARTS.c.part == part.part.value,
                )
                .values(**_values(rules.withdrawn(part, now)))
            )
            if done.rowcount != 1:
                return False
            before = connection.execute(
                sa.select(PARTS.c.before).where(PARTS.c.rollout == rollout.id, PARTS.c.device == part.device)
            ).scalar_one()
            known = connection.execute(
                sa.select(DEVICES.c.id).where(DEVICES.c.id == part.device)
            ).one_or_none()
            if known is None:
                return True
            desired = read_desired(connection, part.device)
            was = json.loads(before) if before else None
            doc = put_back(desired.doc, rollout.model, rollout.release, was, f"{rollout.id}-back")
            if doc != desired.doc and not write_desired(connection, desired, doc):
                raise _Stale
        return True

    def tell(self, step: Step) -> bool:
        row = {
            "device": step.device, "release": step.release, "n": step.n, "received_at": step.received_at,
            "body": dump(asdict(step)),
        }  # fmt: skip
        try:
            with self._tables.writing() as connection:
                connection.execute(sa.insert(STEPS).values(row))
        except exc.IntegrityError:
            return False
        self._each_part(
            step.device,
            step.release,
            lambda part: rules.told(
                part, step=step.to_state, n=step.n, reason=step.reason, now=step.received_at
            ),
        )
        return True

    def observe(self, device_id: str, releases: Sequence[ReportedRelease], now: float) -> int:
        moved = 0
        for item in releases:

            def seen(part: DevicePart, item: ReportedRelease = item) -> DevicePart:
                return rules.observed(part, step=item.state, reason=item.reason, now=now)

            moved += self._each_part(device_id, item.id, seen)
        return moved

    def steps(self, rollout_id: str, *, device: str = "", limit: int = 1000) -> list[Step]:
        release = self.rollout(rollout_id).release
        query = sa.select(STEPS.c.body).where(STEPS.c.release == release)
        if device:
            query = query.where(STEPS.c.device == device)
        query = query.order_by(STEPS.c.received_at.desc(), STEPS.c.n.desc()).limit(limit)
        with self._tables.reading() as connection:
            return [Step(**json.loads(body)) for body in connection.execute(query).scalars()]

    def delete(self, rollout_id: str) -> None:
        with self._tables.writing() as connection:
            done = connection.execute(
                sa.delete(ROLLOUTS).where(ROLLOUTS.c.id == rollout_id, ROLLOUTS.c.state.not_in(_OPEN))
            )
            if done.rowcount != 1:
                return
            releases = sa.select(PARTS.c.release).where(PARTS.c.rollout == rollout_id)
            connection.execute(sa.delete(STEPS).where(STEPS.c.release.in_(releases)))
            connection.execute(sa.delete(PARTS).where(PARTS.c.rollout == rollout_id))

    def _each_part(self, device: str, release: str, change: Any) -> int:
        query = sa.select(PARTS).where(PARTS.c.device == device, PARTS.c.release == release)
        moved = 0
        for _ in range(_TRIES):
            with self._tables.reading() as connection:
                rows = [(row.rollout, _part(row)) for row in connection.execute(query)]
            left = [(rollout, part, change(part)) for rollout, part in rows]
            left = [(rollout, part, after) for rollout, part, after in left if after != part]
            if not left:
                break
            with self._tables.writing() as connection:
                moved += sum(self._move(connection, rollout, part, after) for rollout, part, after in left)
        return moved

    def _move(
        self, connection: sa.Connection, rollout: str, was: DevicePart, part: DevicePart, **more: Any
    ) -> bool:
        done = connection.execute(
            sa.update(PARTS)
            .where(
                PARTS.c.rollout == rollout,
                PARTS.c.device == was.device,
                PARTS.c.part == was.part.value,
                PARTS.c.n == was.n,
            )
            .values(**_values(part), **more)
        )
        return done.rowcount == 1


def _values(part: DevicePart) -> dict[str, Any]:
    return {
        "part": part.part.value, "step": part.step, "reason": part.reason[:1000], "n": part.n,
        "offered_at": part.offered_at, "ended_at": part.ended_at,
    }  # fmt: skip


def _row(rollout: Rollout, part: DevicePart) -> dict[str, Any]:
    return {
        "rollout": rollout.id, "device": part.device, "release": rollout.release, "stage": part.stage,
        "before": "", **_values(part),
    }  # fmt: skip


def _part(row: Any) -> DevicePart:
    return DevicePart(
        row.device, row.stage, Part(row.part), row.step, row.reason, row.offered_at, row.ended_at, row.n
    )


def _rollout(row: Any) -> Rollout:
    raw: dict[str, Any] = json.loads(row.body)
    plan = raw["plan"]
    raw["plan"] = RolloutPlan(
        **{**plan, "stages": tuple(plan["stages"]), "on_error": OnError(plan["on_error"])}
    )
    raw["state"] = RolloutState(raw["state"])
    return Rollout(**raw)
