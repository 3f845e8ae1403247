"""JobService, ModelService and AuthService: convert in, call one use case, convert out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import TypeVar

from kepler import __version__
from kepler.adapters.grpc.calls import principal
from kepler.adapters.grpc.convert import (
    caller_from_proto,
    job_to_proto,
    offset_of,
    page_token,
    table_to_proto,
    version_to_proto,
)
from kepler.adapters.grpc.optimizing import OptimizeCalls
from kepler.adapters.grpc.packages import PackageCalls
from kepler.core.jobs import JobRecord
from kepler.ports.jobs import JobRunner
from kepler.usecases.manage import IssueTokens, ManageJobs, ManageModels
from kepler.usecases.summarize import SummarizeModel
from kepler.v1 import auth_pb2, jobs_pb2, models_pb2

_HEARTBEAT_S = 5.0
_SOON_S = 0.02
_POLL_S = 0.5
T = TypeVar("T")


async def _run(pool: Executor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work)


class JobServicer:
    def __init__(self, manage: ManageJobs, jobs: JobRunner, pool: Executor) -> None:
        self._manage = manage
        self._jobs = jobs
        self._pool = pool

    async def GetJob(self, request: jobs_pb2.GetJobRequest) -> jobs_pb2.Job:
        caller = caller_from_proto(request.caller, principal())
        return job_to_proto(await _run(self._pool, lambda: self._manage.get(caller, request.id)))

    async def ListJobs(self, request: jobs_pb2.ListJobsRequest) -> jobs_pb2.ListJobsResponse:
        caller = caller_from_proto(request.caller, principal())
        offset = offset_of(request.page_token)
        found, following = await _run(
            self._pool,
            lambda: self._manage.list(caller, request.state, limit=request.page_size, offset=offset),
        )
        return jobs_pb2.ListJobsResponse(
            jobs=[job_to_proto(job) for job in found], next_page_token=page_token(following)
        )

    async def WatchJob(self, request: jobs_pb2.GetJobRequest) -> AsyncGenerator[jobs_pb2.Job, None]:
        caller = caller_from_proto(request.caller, principal())
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop ended with the service, the job goes on
                loop.call_soon_threadsafe(changed.set)

        stop = self._jobs.on_change(request.id, tell)
        try:
            last: JobRecord | None = None
            sent_at = 0.0
            # Another service on the same database may run the job: its changes are looked for, soon at first
            # because short trainings end within a tenth of a second, then twice a second.
            wait_s = _SOON_S
            while True:
                changed.clear()  # before the look: a change during it is looked at again
                job = await _run(self._pool, lambda: self._manage.get(caller, request.id))
                now = time.monotonic()
                if job != last or now - sent_at >= _HEARTBEAT_S:
                    yield job_to_proto(job)
                    last, sent_at = job, now
                if job.state.final:
                    return
                await asyncio.sleep(_SOON_S)  # however fast the changes come
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s - _SOON_S):
                        await changed.wait()
                wait_s = min(_POLL_S, wait_s * 1.5)
        finally:
            stop()

    async def CancelJob(self, request: jobs_pb2.GetJobRequest) -> jobs_pb2.Job:
        caller = caller_from_proto(request.caller, principal())
        return job_to_proto(await _run(self._pool, lambda: self._manage.cancel(caller, request.id)))


class ModelServicer:
    def __init__(
        self,
        manage: ManageModels,
        summarize: SummarizeModel,
        packages: PackageCalls,
        optimizing: OptimizeCalls,
        pool: Executor,
    ) -> None:
        self._manage = manage
        self._summarize = summarize
        self._packages = packages
        self._optimizing = optimizing
        self._pool = pool

    def ExportVersion(
        self, request: models_pb2.ExportVersionRequest
    ) -> AsyncGenerator[models_pb2.ExportVersionResponse, None]:
        return self._packages.export(request)

    async def ImportVersion(
        self, requests: AsyncIterator[models_pb2.ImportVersionRequest]
    ) -> models_pb2.ImportVersionResponse:
        return await self._packages.take(requests)

    async def OptimizeVersion(
        self, requests: AsyncIterator[models_pb2.OptimizeVersionRequest]
    ) -> models_pb2.OptimizeVersionResponse:
        return await self._optimizing.optimize(requests)

    async def ListModels(self, request: models_pb2.ListModelsRequest) -> models_pb2.ListModelsResponse:
        caller = caller_from_proto(request.caller, principal())
        offset = offset_of(request.page_token)
        found, following = await _run(
            self._pool,
            lambda: self._manage.list(caller, request.pattern, limit=request.page_size, offset=offset),
        )
        return models_pb2.ListModelsResponse(
            models=[version_to_proto(version) for version in found], next_page_token=page_token(following)
        )

    async def GetModel(self, request: models_pb2.GetModelRequest) -> models_pb2.ModelVersion:
        caller = caller_from_proto(request.caller, principal())

        def work() -> models_pb2.ModelVersion:
            version = self._manage.resolve(caller, request.model)
            details = self._summarize.details(version)
            message = version_to_proto(version)
            message.required_fields[:] = details.required_fields
            message.output_columns.extend(details.output_columns)
            message.signature = details.signature
            message.search = details.search
            message.sid = details.sid
            message.data_sha256 = details.data_sha256
            message.params.update(details.params)
            message.manifest_json = details.manifest_json
            return message

        return await _run(self._pool, work)

    async def ListVersions(self, request: models_pb2.GetModelRequest) -> models_pb2.ListVersionsResponse:
        caller = caller_from_proto(request.caller, principal())
        found = await _run(self._pool, lambda: self._manage.versions(caller, request.model))
        return models_pb2.ListVersionsResponse(versions=[version_to_proto(version) for version in found])

    async def Summarize(self, request: models_pb2.SummarizeRequest) -> models_pb2.SummarizeResponse:
        caller = caller_from_proto(request.caller, principal())

        def work() -> models_pb2.SummarizeResponse:
            version = self._manage.resolve(caller, request.model)
            table = self._summarize.table(version, request.view or "default", request.limit)
            return models_pb2.SummarizeResponse(
                version=version_to_proto(version), table=table_to_proto(table)
            )

        return await _run(self._pool, work)

    async def DeleteModel(self, request: models_pb2.GetModelRequest) -> models_pb2.DeleteModelResponse:
        caller = caller_from_proto(request.caller, principal())
        name, gone = await _run(self._pool, lambda: self._manage.delete(caller, request.model))
        return models_pb2.DeleteModelResponse(name=str(name), versions=gone)

    async def SetAlias(self, request: models_pb2.SetAliasRequest) -> models_pb2.ModelVersion:
        caller = caller_from_proto(request.caller, principal())
        return version_to_proto(
            await _run(self._pool, lambda: self._manage.set_alias(caller, request.model, request.alias))
        )

    async def DeleteAlias(self, request: models_pb2.SetAliasRequest) -> models_pb2.ModelVersion:
        caller = caller_from_proto(request.caller, principal())
        return version_to_proto(
            await _run(self._pool, lambda: self._manage.delete_alias(caller, request.model, request.alias))
        )

    async def Rollback(self, request: models_pb2.SetAliasRequest) -> models_pb2.ModelVersion:
        caller = caller_from_proto(request.caller, principal())
        return version_to_proto(
            await _run(self._pool, lambda: self._manage.rollback(caller, request.model, request.alias))
        )


class AuthServicer:
    def __init__(self, issue: IssueTokens, pool: Executor, *, tls: bool) -> None:
        self._issue = issue
        self._pool = pool
        self._tls = tls

    async def IssueToken(self, request: auth_pb2.IssueTokenRequest) -> auth_pb2.IssueTokenResponse:
        parent = principal()
        issued, token = await _run(
            self._pool,
            lambda: self._issue.issue(parent, request.user, list(request.capabilities), request.ttl_s),
        )
        return auth_pb2.IssueTokenResponse(
            token=token, expires_at=issued.expires_at, capabilities=sorted(issued.capabilities)
        )

    async def WhoAmI(self, request: auth_pb2.WhoAmIRequest) -> auth_pb2.WhoAmIResponse:
        who = principal()
        return auth_pb2.WhoAmIResponse(
            user=who.user,
            capabilities=sorted(who.capabilities),
            service_version=__version__,
            api_version="v1",
            tls=self._tls,
            token_expires_at=who.expires_at,
            server_time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
