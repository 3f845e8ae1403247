"""Tables of the fleet, beside the service's others: ``fleet.sqlite`` in the home, or the database of the settings.

Every change that could race is one conditional statement, so two services on one database have one winner.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from kepler.adapters.jobs.job_records import database_errors, open_engine

METADATA = sa.MetaData()
WHAT = "fleet database"

DEVICES = sa.Table(
    "kepler_fleet_devices",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("enrolled_at", sa.Float(53), nullable=False),
    sa.Column("online", sa.Boolean, nullable=False, default=False),
    sa.Column("bd", sa.BigInteger, nullable=False, default=-1),
    sa.Column("seen_at", sa.Float(53), nullable=False, default=0.0),
    sa.Column("agent", sa.String(40), nullable=False, default=""),
    sa.Column("epoch", sa.String(32), nullable=False, default=""),
    sa.Column("caps", sa.Text, nullable=False, default="[]"),
    sa.Column("models", sa.Text, nullable=False, default="[]"),
    sa.Column("rev", sa.BigInteger, nullable=False, default=0),
    sa.Column("doc", sa.Text, nullable=False, default='{"releases":[]}'),
    sa.Column("published_rev", sa.BigInteger, nullable=False, default=0),
    sa.Column("published_at", sa.Float(53), nullable=False, default=0.0),
    sa.Column("rev_seen", sa.BigInteger, nullable=False, default=0),
    sa.Column("rev_applied", sa.BigInteger, nullable=False, default=0),
    sa.Column("status", sa.String(16), nullable=False, default=""),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Column("command_n", sa.BigInteger, nullable=False, default=0),
)
TOKENS = sa.Table(
    "kepler_fleet_tokens",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("device", sa.String(64), nullable=False),
    sa.Column("labels", sa.Text, nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("expires_at", sa.Float(53), nullable=False),
    sa.Column("used_by", sa.String(64), nullable=False, default=""),
    sa.Column("used_at", sa.Float(53), nullable=False, default=0.0),
)
CERTIFICATES = sa.Table(
    "kepler_fleet_certificates",
    METADATA,
    sa.Column("serial", sa.String(64), primary_key=True),
    sa.Column("device", sa.String(64), nullable=False),
    sa.Column("public_key", sa.String(64), nullable=False),  # hexadecimal
    sa.Column("pem", sa.Text, nullable=False),
    sa.Column("issued_at", sa.Float(53), nullable=False),
    sa.Column("expires_at", sa.Float(53), nullable=False),
    sa.Column("revoked_at", sa.Float(53), nullable=False, default=0.0),
    sa.Column("ours", sa.Boolean, nullable=False, default=True),
    sa.Index("kepler_fleet_certificates_by_device", "device", "issued_at"),
    sa.Index("kepler_fleet_certificates_by_key", "public_key"),
)
ROLLOUTS = sa.Table(
    "kepler_fleet_rollouts",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("model", sa.String(220), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("n", sa.Integer, nullable=False, default=0),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("release", sa.Text, nullable=False),  # as the desired documents name it
    sa.Index("kepler_fleet_rollouts_by_time", "created_at"),
)
PARTS = sa.Table(
    "kepler_fleet_rollout_devices",
    METADATA,
    sa.Column("rollout", sa.String(64), primary_key=True),
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("release", sa.String(64), nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("part", sa.String(16), nullable=False),
    sa.Column("step", sa.String(20), nullable=False, default=""),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("offered_at", sa.Float(53), nullable=False, default=0.0),
    sa.Column("ended_at", sa.Float(53), nullable=False, default=0.0),
    sa.Column("n", sa.BigInteger, nullable=False, default=0),
    sa.Column("before", sa.Text, nullable=False, default=""),  # JSON of the release before, empty for none
    sa.Index("kepler_fleet_rollout_devices_by_release", "device", "release"),
)
STEPS = sa.Table(
    "kepler_fleet_steps",
    METADATA,
    sa.Column("device", sa.String(64), primary_key=True),
    sa.Column("release", sa.String(64), primary_key=True),
    sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("received_at", sa.Float(53), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("kepler_fleet_steps_by_release", "release", "received_at"),
)
DEPLOYMENTS = sa.Table(
    "kepler_deployments",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("target", sa.String(64), nullable=False),
    sa.Column("model", sa.String(250), nullable=False),
    sa.Column("created_at", sa.Float(53), nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False, default=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Index("kepler_deployments_by_time", "created_at"),
)


class Tables:
    """The open database. ``url`` empty means SQLite in ``home``."""

    def __init__(self, home: Path, url: str = "") -> None:
        self.engine = open_engine(url, home / "fleet.sqlite")
        with self.errors():
            METADATA.create_all(self.engine)

    def errors(self) -> AbstractContextManager[None]:
        return database_errors(WHAT)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        with self.errors(), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction; its first statement should be a write, which takes SQLite's lock."""
        with self.errors(), self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()


def dump(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
