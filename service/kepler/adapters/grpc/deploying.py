"""DeployService: convert in, call one use case, convert out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from kepler.adapters.grpc.calls import principal
from kepler.adapters.grpc.convert import (
    caller_from_proto,
    job_to_proto,
    metrics_to_proto,
    notice_to_proto,
    offset_of,
    page_token,
)
from kepler.ports.deploy import Change
from kepler.usecases.deploy import Deployment, DeployModels
from kepler.v1 import deploy_pb2 as pb

MAX_PAGE = 1000
T = TypeVar("T")


class DeployServicer:
    def __init__(self, deploy: DeployModels, pool: Executor) -> None:
        self._deploy = deploy
        self._pool = pool

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def ListTargets(self, request: pb.ListTargetsRequest) -> pb.ListTargetsResponse:
        found = await self._run(self._deploy.targets)
        return pb.ListTargetsResponse(
            targets=[
                pb.Target(name=info.name, aliases=info.aliases, description=info.doc, extra=info.extra)
                for info in found
            ]
        )

    async def Plan(self, request: pb.DeployRequest) -> pb.PlanResponse:
        caller = caller_from_proto(request.caller, principal())

        def work() -> pb.PlanResponse:
            asked = self._deploy.request(
                caller, request.model, request.target, request.to, dict(request.options), request.id
            )
            plan, cost = self._deploy.plan(asked)
            return pb.PlanResponse(
                model=asked.full_name,
                target=asked.target,
                steps=[pb.PlannedStep(name=step.name, text=step.text) for step in plan.steps],
                changes=_changes(plan.changes),
                notices=[notice_to_proto(notice) for notice in plan.notices],
                cost=cost.text,
                cost_per_month=cost.per_month or 0.0,
                currency=cost.currency,
                cost_known=cost.per_month is not None,
            )

        return await self._run(work)

    async def Deploy(self, request: pb.DeployRequest) -> pb.Deployment:
        caller = caller_from_proto(request.caller, principal())

        def work() -> pb.Deployment:
            asked = self._deploy.request(
                caller, request.model, request.target, request.to, dict(request.options), request.id
            )
            self._deploy.deploy(caller, asked)
            return _deployment(self._deploy.get(caller, asked.id))

        return await self._run(work)

    async def ListDeployments(self, request: pb.ListDeploymentsRequest) -> pb.ListDeploymentsResponse:
        caller = caller_from_proto(request.caller, principal())
        offset, size = offset_of(request.page_token), min(request.page_size or 100, MAX_PAGE)
        found = await self._run(
            lambda: self._deploy.list(caller, target=request.target, limit=size + 1, offset=offset)
        )
        return pb.ListDeploymentsResponse(
            deployments=[_deployment(item) for item in found[:size]],
            next_page_token=page_token(offset + size if len(found) > size else 0),
        )

    async def GetDeployment(self, request: pb.GetDeploymentRequest) -> pb.Deployment:
        caller = caller_from_proto(request.caller, principal())
        return _deployment(await self._run(lambda: self._deploy.get(caller, request.id)))

    async def Logs(self, request: pb.DeployLogsRequest) -> pb.DeployLogsResponse:
        caller = caller_from_proto(request.caller, principal())
        lines = await self._run(lambda: self._deploy.logs(caller, request.id, request.place, request.limit))
        return pb.DeployLogsResponse(
            lines=[pb.LogLine(ts=line.ts, where=line.where, text=line.text) for line in lines]
        )

    async def Traffic(self, request: pb.TrafficRequest) -> pb.ChangesResponse:
        caller = caller_from_proto(request.caller, principal())
        shares = dict(request.shares)
        changes = await self._run(
            lambda: self._deploy.traffic(caller, request.id, shares, dry_run=request.dry_run)
        )
        return pb.ChangesResponse(changes=_changes(changes))

    async def Rollback(self, request: pb.ChangeDeploymentRequest) -> pb.ChangesResponse:
        caller = caller_from_proto(request.caller, principal())
        changes = await self._run(lambda: self._deploy.rollback(caller, request.id, dry_run=request.dry_run))
        return pb.ChangesResponse(changes=_changes(changes))

    async def Delete(self, request: pb.ChangeDeploymentRequest) -> pb.ChangesResponse:
        caller = caller_from_proto(request.caller, principal())
        changes = await self._run(lambda: self._deploy.delete(caller, request.id, dry_run=request.dry_run))
        return pb.ChangesResponse(changes=_changes(changes))


def _changes(changes: tuple[Change, ...]) -> list[pb.Change]:
    return [pb.Change(what=change.what, text=change.text) for change in changes]


def _deployment(found: Deployment) -> pb.Deployment:
    request, status = found.request, found.status
    return pb.Deployment(
        id=request.id,
        target=request.target,
        model=request.full_name,
        to=request.to,
        owner=request.owner,
        created_at=found.created_at,
        state=status.state.value,
        reason=status.reason,
        url=status.url,
        places=[
            pb.Place(name=item.name, state=item.state, detail=item.detail, updated_at=item.updated_at)
            for item in status.places
        ],
        figures=metrics_to_proto(status.figures),
        options=dict(request.options),
        job=job_to_proto(found.job) if found.job is not None else None,
    )
