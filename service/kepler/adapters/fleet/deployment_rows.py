"""Deployments in the database: implements `ports.deploy.DeploymentStore`."""

from __future__ import annotations

import builtins
import json
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy import exc

from kepler.adapters.fleet.tables import DEPLOYMENTS, Tables, dump
from kepler.core.errors import Conflict, NotFound
from kepler.ports.deploy import DeployRequest


class DeploymentRows:
    """See `ports.deploy.DeploymentStore`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def add(self, request: DeployRequest, created_at: float) -> DeployRequest:
        row = {
            "id": request.id, "target": request.target, "model": request.full_name, "created_at": created_at,
            "deleted": False, "body": dump(_plain(request)),
        }  # fmt: skip
        try:
            with self._tables.writing() as connection:
                connection.execute(sa.insert(DEPLOYMENTS).values(row))
        except exc.IntegrityError as error:
            known = self.get(request.id)[0]
            if _plain(known) != _plain(request):
                raise Conflict(
                    f"Deployment {request.id} is another one", fix="Leave the id out, or choose another."
                ) from error
        return request

    def get(self, deployment_id: str) -> tuple[DeployRequest, float, bool]:
        with self._tables.reading() as connection:
            found = connection.execute(
                sa.select(DEPLOYMENTS).where(DEPLOYMENTS.c.id == deployment_id)
            ).one_or_none()
        if found is None:
            raise NotFound(
                f"There is no deployment {deployment_id[:80]!r}", fix="`kepler deploy --list` lists them."
            )
        return DeployRequest(**json.loads(found.body)), found.created_at, bool(found.deleted)

    def list(
        self, *, target: str = "", limit: int = 100, offset: int = 0
    ) -> builtins.list[tuple[DeployRequest, float]]:
        query = sa.select(DEPLOYMENTS).where(sa.not_(DEPLOYMENTS.c.deleted))
        if target:
            query = query.where(DEPLOYMENTS.c.target == target)
        query = query.order_by(DEPLOYMENTS.c.created_at.desc(), DEPLOYMENTS.c.id).limit(limit).offset(offset)
        with self._tables.reading() as connection:
            return [
                (DeployRequest(**json.loads(row.body)), row.created_at) for row in connection.execute(query)
            ]

    def mark_deleted(self, deployment_id: str) -> None:
        with self._tables.writing() as connection:
            connection.execute(
                sa.update(DEPLOYMENTS).where(DEPLOYMENTS.c.id == deployment_id).values(deleted=True)
            )


def _plain(request: DeployRequest) -> dict[str, object]:
    return {**asdict(request), "options": dict(request.options)}
