"""Tokens and certificates in the database: implements `ports.fleet.EnrolmentStore`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from kepler.adapters.fleet.device_rows import DeviceRows, no_device
from kepler.adapters.fleet.tables import CERTIFICATES, DEVICES, TOKENS, Tables, dump
from kepler.core.errors import Conflict
from kepler.fleet.devices import Device, DeviceState, check_device_id, check_labels
from kepler.ports.fleet import DeviceCertificate, JoinToken


class EnrolmentRows:
    """See `ports.fleet.EnrolmentStore`."""

    def __init__(self, tables: Tables, devices: DeviceRows) -> None:
        self._tables = tables
        self._devices = devices

    def add_token(self, token: JoinToken, digest: bytes) -> None:
        row = {
            "id": token.id, "digest": digest, "device": token.device, "labels": dump(dict(token.labels)),
            "created_by": token.created_by, "created_at": token.created_at, "expires_at": token.expires_at,
            "used_by": "", "used_at": 0.0,
        }  # fmt: skip
        with self._tables.writing() as connection:
            connection.execute(sa.insert(TOKENS).values(row))

    def token(self, token_id: str) -> tuple[JoinToken, bytes] | None:
        with self._tables.reading() as connection:
            found = connection.execute(sa.select(TOKENS).where(TOKENS.c.id == token_id)).one_or_none()
        return None if found is None else (_token(found), bytes(found.digest))

    def tokens(self) -> list[JoinToken]:
        with self._tables.reading() as connection:
            query = sa.select(TOKENS).order_by(TOKENS.c.created_at.desc(), TOKENS.c.id)
            return [_token(row) for row in connection.execute(query)]

    def join(self, token: JoinToken, certificate: DeviceCertificate, now: float) -> bool:
        with self._tables.writing() as connection:
            done = connection.execute(
                sa.update(TOKENS)
                .where(TOKENS.c.id == token.id, TOKENS.c.used_by == "", TOKENS.c.expires_at > now)
                .values(used_by=certificate.device, used_at=now)
            )
            if done.rowcount != 1:
                return False
            self._enrol(connection, certificate, token.labels, now)
        return True

    def register(self, certificate: DeviceCertificate, labels: Mapping[str, str], now: float) -> Device:
        with self._tables.writing() as connection:
            connection.execute(sa.delete(CERTIFICATES).where(CERTIFICATES.c.serial == ""))  # takes the lock
            self._enrol(connection, certificate, labels, now)
        return self._devices.device(certificate.device)

    def certificates(self, device_id: str = "") -> list[DeviceCertificate]:
        query = sa.select(CERTIFICATES).order_by(CERTIFICATES.c.issued_at.desc(), CERTIFICATES.c.serial)
        if device_id:
            query = query.where(CERTIFICATES.c.device == device_id)
        with self._tables.reading() as connection:
            return [_certificate(row) for row in connection.execute(query)]

    def certificate_of(self, token: JoinToken) -> DeviceCertificate | None:
        found = self.certificates(token.used_by) if token.used_by else []
        return next((item for item in found if item.issued_at <= token.used_at + 1.0), None)

    def keys_of(self, device_id: str, now: float) -> list[bytes]:
        query = (
            sa.select(CERTIFICATES.c.public_key)
            .join(DEVICES, DEVICES.c.id == CERTIFICATES.c.device)
            .where(
                CERTIFICATES.c.device == device_id,
                CERTIFICATES.c.revoked_at == 0.0,
                CERTIFICATES.c.expires_at > now,
                DEVICES.c.state == DeviceState.ENROLLED.value,
            )
            .distinct()
        )
        with self._tables.reading() as connection:
            return [bytes.fromhex(key) for key in connection.execute(query).scalars()]

    def revoke(self, device_id: str, now: float, *, but: str = "") -> Device:
        with self._tables.writing() as connection:
            connection.execute(
                sa.update(CERTIFICATES)
                .where(
                    CERTIFICATES.c.device == device_id,
                    CERTIFICATES.c.revoked_at == 0.0,
                    CERTIFICATES.c.serial != but,
                )
                .values(revoked_at=now)
            )
            if not but:
                done = connection.execute(
                    sa.update(DEVICES)
                    .where(DEVICES.c.id == device_id)
                    .values(state=DeviceState.REVOKED.value, online=False)
                )
                if done.rowcount != 1:
                    raise no_device(device_id)
        return self._devices.device(device_id)

    def _enrol(
        self, connection: sa.Connection, certificate: DeviceCertificate, labels: Mapping[str, str], now: float
    ) -> None:
        check_device_id(certificate.device)
        owner = connection.execute(
            sa.select(CERTIFICATES.c.device)
            .where(
                CERTIFICATES.c.public_key == certificate.public_key.hex(),
                CERTIFICATES.c.device != certificate.device,
            )
            .limit(1)
        ).scalar_one_or_none()
        if owner is not None:
            raise Conflict(
                "This key belongs to another device",
                fix="Give each device a key of its own; never copy its folder.",
            )
        known = connection.execute(
            sa.select(DEVICES.c.state, DEVICES.c.labels).where(DEVICES.c.id == certificate.device)
        ).one_or_none()
        if known is None:
            row: dict[str, Any] = {
                "id": certificate.device, "state": DeviceState.ENROLLED.value, "enrolled_at": now,
                "labels": dump(check_labels(dict(labels))),
            }  # fmt: skip
            connection.execute(sa.insert(DEVICES).values(**row))
        else:
            merged = {**json.loads(known.labels), **labels}
            values: dict[str, Any] = {
                "labels": dump(check_labels(merged)),
                "state": DeviceState.ENROLLED.value,
            }
            if known.state != DeviceState.ENROLLED.value:
                # A gateway that was revoked and joins again may be another machine: its numbers begin anew.
                values |= {"bd": -1, "enrolled_at": now, "rev_seen": 0, "rev_applied": 0, "status": ""}
            connection.execute(sa.update(DEVICES).where(DEVICES.c.id == certificate.device).values(**values))
        connection.execute(
            sa.insert(CERTIFICATES).values(
                serial=certificate.serial,
                device=certificate.device,
                public_key=certificate.public_key.hex(),
                pem=certificate.pem,
                issued_at=certificate.issued_at,
                expires_at=certificate.expires_at,
                revoked_at=0.0,
                ours=certificate.ours,
            )
        )


def _token(row: Any) -> JoinToken:
    return JoinToken(
        row.id, row.device, json.loads(row.labels), row.created_by, row.created_at, row.expires_at,
        row.used_by, row.used_at,
    )  # fmt: skip


def _certificate(row: Any) -> DeviceCertificate:
    return DeviceCertificate(
        row.serial, row.device, bytes.fromhex(row.public_key), row.pem, row.issued_at, row.expires_at,
        row.revoked_at, bool(row.ours),
    )  # fmt: skip
