"""Deploy a version to a target, as a durable job, and look after what was deployed."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kepler.core.errors import InvalidInput, NotFound
from kepler.core.jobs import JobRecord
from kepler.ports.clock import Clock
from kepler.ports.deploy import (
    Change,
    Cost,
    DeploymentStore,
    DeployPlan,
    DeployRequest,
    DeployState,
    DeployStatus,
    DeployTarget,
    LogLine,
    TargetInfo,
)
from kepler.ports.jobs import JobRunner, WorkOrder, WorkOutcome, WorkRun
from kepler.ports.security import AuditLog
from kepler.usecases.auditing import audited
from kepler.usecases.identity import Caller
from kepler.usecases.manage import ManageModels

KIND = "deploy"
MAX_OPTIONS = 100
MAX_OPTION_CHARS = 20_000
_ID = re.compile(r"[a-z0-9][a-z0-9-]{3,47}")  # it becomes part of names that devices and clouds know


class TargetRegistry(Protocol):
    """Deploy targets by name."""

    def all(self) -> Sequence[TargetInfo]: ...

    def info(self, name: str) -> TargetInfo: ...

    def get(self, name: str) -> DeployTarget: ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment as its owner sees it. ``job`` is None once its record is gone."""

    request: DeployRequest
    status: DeployStatus
    created_at: float
    job: JobRecord | None = None


class DeployWork:
    """Implements `ports.jobs.Work` for jobs of the kind ``deploy``."""

    def __init__(self, targets: TargetRegistry, deployments: DeploymentStore) -> None:
        self._targets = targets
        self._deployments = deployments

    def run(self, order: WorkOrder, run: WorkRun) -> WorkOutcome:
        request, _, deleted = self._deployments.get(order.job_id)
        if deleted:
            raise NotFound(f"Deployment {request.id} was deleted")
        status = self._targets.get(request.target).deploy(request, run)
        return WorkOutcome(metrics=status.figures)


class DeployModels:
    """Everything one does with deployments. Changes are audited; dry runs change nothing."""

    def __init__(
        self,
        targets: TargetRegistry,
        deployments: DeploymentStore,
        models: ManageModels,
        jobs: JobRunner,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._targets = targets
        self._deployments = deployments
        self._models = models
        self._jobs = jobs
        self._audit = audit
        self._clock = clock

    def targets(self) -> Sequence[TargetInfo]:
        return self._targets.all()

    def request(
        self, caller: Caller, model: str, target: str, to: str, options: Mapping[str, str], deployment_id: str
    ) -> DeployRequest:
        """What is asked for, with the model resolved to one version."""
        if len(options) > MAX_OPTIONS or any(len(text) > MAX_OPTION_CHARS for text in options.values()):
            raise InvalidInput("These options are too many or too long")
        if deployment_id and not _ID.fullmatch(deployment_id):
            raise InvalidInput(
                f"{deployment_id[:60]!r} is no id for a deployment", fix="Use 4 to 48 of a-z, 0-9 and '-'."
            )
        info = self._targets.info(target)
        version = self._models.resolve(caller, model)
        return DeployRequest(
            deployment_id or f"d-{secrets.token_hex(8)}", info.name, str(version.name), version.version, to,
            dict(options), caller.user,
        )  # fmt: skip

    def plan(self, request: DeployRequest) -> tuple[DeployPlan, Cost]:
        """What `deploy` would do and cost."""
        target = self._targets.get(request.target)
        return target.plan(request), target.cost(request)

    def deploy(self, caller: Caller, request: DeployRequest) -> JobRecord:
        """Begin it as a job; asked again with the same id, it gives the same job."""
        try:
            return self._jobs.get(self._known(request).id)
        except NotFound:
            pass
        self._targets.get(request.target).plan(request)  # what cannot work is refused here and not in the job
        with audited(
            self._audit, caller.user, "deploy", f"{request.full_name} to {request.target} {request.to}"[:500]
        ):
            self._deployments.add(request, self._clock.now())
            return self._jobs.submit_work(
                WorkOrder(
                    job_id=request.id,
                    kind=KIND,
                    owner=caller.user,
                    subject=f"{request.full_name} to {request.target} {request.to}".strip()[:300],
                    body=json.dumps({"deployment": request.id}),
                    model=request.full_name,
                    sid=caller.search.sid,
                )
            )

    def list(
        self, caller: Caller, *, target: str = "", limit: int = 100, offset: int = 0
    ) -> list[Deployment]:
        """Newest first; everybody who may deploy sees all."""
        name = self._targets.info(target).name if target else ""
        found = self._deployments.list(target=name, limit=limit, offset=offset)
        return [self._view(request, created_at) for request, created_at in found]

    def get(self, caller: Caller, deployment_id: str) -> Deployment:
        request, created_at, deleted = self._deployments.get(deployment_id)
        if deleted:
            return Deployment(request, DeployStatus(DeployState.DELETED), created_at, self._job(request.id))
        return self._view(request, created_at)

    def logs(self, caller: Caller, deployment_id: str, place: str, limit: int) -> tuple[LogLine, ...]:
        request = self._deployments.get(deployment_id)[0]
        return self._targets.get(request.target).logs(
            request, place=place, limit=max(1, min(limit or 100, 10_000))
        )

    def traffic(
        self, caller: Caller, deployment_id: str, shares: Mapping[int, float], *, dry_run: bool
    ) -> tuple[Change, ...]:
        request = self._deployments.get(deployment_id)[0]
        target = self._targets.get(request.target)
        if dry_run:
            return target.traffic(request, shares, dry_run=True)
        with audited(self._audit, caller.user, "deploy.traffic", deployment_id):
            return target.traffic(request, shares)

    def rollback(self, caller: Caller, deployment_id: str, *, dry_run: bool) -> tuple[Change, ...]:
        request = self._deployments.get(deployment_id)[0]
        target = self._targets.get(request.target)
        if dry_run:
            return target.rollback(request, dry_run=True)
        with audited(self._audit, caller.user, "deploy.rollback", deployment_id):
            return target.rollback(request)

    def delete(self, caller: Caller, deployment_id: str, *, dry_run: bool) -> tuple[Change, ...]:
        request, _, deleted = self._deployments.get(deployment_id)
        if deleted:
            return ()
        target = self._targets.get(request.target)
        if dry_run:
            return target.delete(request, dry_run=True)
        with audited(self._audit, caller.user, "deploy.delete", deployment_id):
            changes = target.delete(request)
            self._deployments.mark_deleted(deployment_id)
            return changes

    def _known(self, request: DeployRequest) -> DeployRequest:
        """The deployment of the same id, when it is the same. Raises `NotFound`, or `Conflict` for another one."""
        self._deployments.get(request.id)
        return self._deployments.add(request, 0.0)

    def _view(self, request: DeployRequest, created_at: float) -> Deployment:
        job = self._job(request.id)
        try:
            status = self._targets.get(request.target).status(request)
        except NotFound:
            # It was never begun: its job waits, or ended before.
            failed = job is not None and job.failure is not None
            reason = job.failure.message if job is not None and job.failure is not None else ""
            status = DeployStatus(DeployState.FAILED if failed else DeployState.PENDING, reason)
        return Deployment(request, status, created_at, job)

    def _job(self, job_id: str) -> JobRecord | None:
        try:
            return self._jobs.get(job_id)
        except NotFound:
            return None
