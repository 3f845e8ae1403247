"""TrainingService: rows up, a durable job back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from kepler.adapters.grpc.calls import principal
from kepler.adapters.grpc.convert import (
    algorithm_to_proto,
    caller_from_proto,
    notice_to_proto,
    order_from_proto,
)
from kepler.adapters.storage.arrow_rows import PredictionsFile
from kepler.core.errors import Cancelled, InvalidInput, NotReady, Overloaded
from kepler.core.jobs import JobState
from kepler.ports.algorithms import Algorithms
from kepler.ports.jobs import JobRunner
from kepler.usecases.manage import ManageJobs
from kepler.usecases.train import TrainModel, Upload
from kepler.v1 import jobs_pb2, prediction_pb2
from kepler.v1 import training_pb2 as pb

T = TypeVar("T")


class TrainingServicer:
    def __init__(
        self,
        train: TrainModel,
        manage: ManageJobs,
        jobs: JobRunner,
        algorithms: Algorithms,
        pool: Executor,
        count_rows: Callable[[int], None] | None = None,
        *,
        max_uploads: int = 32,
    ) -> None:
        self._train = train
        self._manage = manage
        self._jobs = jobs
        self._algorithms = algorithms
        self._pool = pool
        self._count_rows = count_rows
        self._max_uploads = max_uploads
        self._uploads = 0

    async def Train(self, requests: AsyncIterator[pb.TrainRequest]) -> AsyncGenerator[pb.TrainResponse, None]:
        first = await anext(requests, None)
        if first is None or first.WhichOneof("kind") != "open":
            raise InvalidInput(
                "The first message of a training must say what to train", fix="Send `open` first."
            )
        loop = asyncio.get_running_loop()
        caller = caller_from_proto(first.open.caller, principal())
        order = order_from_proto(first.open)
        if self._uploads >= self._max_uploads:
            raise Overloaded(
                f"The service takes {self._max_uploads} uploads already",
                fix="Run the search again in a moment, or raise KEPLER_TRAINING__MAX_UPLOADS.",
                retry_after_s=5,
            )
        self._uploads += 1
        upload: Upload | None = None
        work: asyncio.Future[Any] | None = None

        async def run(function: Callable[..., T], *arguments: Any) -> T:
            # Shielded: a thread cannot be stopped, and what it does must be over before anything is dropped.
            nonlocal work
            future = loop.run_in_executor(self._pool, function, *arguments)
            work = future
            return await asyncio.shield(future)

        try:
            upload = await run(self._train.open, caller, order)
            yield pb.TrainResponse(
                accepted=pb.TrainAccepted(
                    algorithm=upload.info.name,
                    model=upload.spec.model,
                    used_fields=upload.used_fields,
                    notices=[notice_to_proto(notice) for notice in upload.notices],
                )
            )
            if upload.dry_run:
                return
            slices, complete = 0, False
            async for request in requests:
                kind = request.WhichOneof("kind")
                if complete or kind not in ("rows", "end"):
                    raise InvalidInput(
                        "A training stream holds one `open`, then rows, then one `end`",
                        fix="Send them in order.",
                    )
                if kind == "end":
                    complete = request.end.slices == slices
                    if not complete:
                        break
                else:
                    await run(upload.write, request.rows)
                    slices += 1
            if not complete:
                # A caller that died looks like one that has no more rows: only its own word counts.
                raise Cancelled(
                    f"The upload ended after {slices:,} slices without saying that it was complete",
                    cause="The search was cancelled or its connection broke.",
                    fix="Run the search again; nothing was trained.",
                )
            record = await run(upload.finish)
            if self._count_rows is not None:
                self._count_rows(record.rows)
            yield pb.TrainResponse(queued=pb.TrainQueued(job_id=record.id, rows=record.rows))
        finally:
            self._uploads -= 1
            if work is not None:
                await asyncio.wait({work})
                if upload is None and not work.cancelled() and work.exception() is None:
                    upload = work.result()  # opened while the caller went away
            if upload is not None:
                await loop.run_in_executor(self._pool, upload.abort)  # nothing, once it has become a job

    async def ReadPredictions(
        self, request: jobs_pb2.GetJobRequest
    ) -> AsyncGenerator[prediction_pb2.PredictResponse, None]:
        caller = caller_from_proto(request.caller, principal())
        loop = asyncio.get_running_loop()
        job = await loop.run_in_executor(self._pool, self._manage.get, caller, request.id)
        if job.state is not JobState.SUCCEEDED:
            raise NotReady(f"Job {job.id} is {job.state}", fix="Read its predictions once it has succeeded.")
        file = await loop.run_in_executor(self._pool, PredictionsFile.open, self._jobs.folder(job.id))
        try:
            yield prediction_pb2.PredictResponse(
                opened=prediction_pb2.PredictOpened(model=job.model, output_columns=file.columns)
            )
            for index in range(file.slices):
                values, rows, one_line = await loop.run_in_executor(self._pool, file.read, index)
                yield prediction_pb2.PredictResponse(
                    scored=prediction_pb2.Scored(rows=rows, values=values, one_line_per_row=one_line)
                )
        finally:
            file.close()

    async def ListAlgorithms(self, request: pb.ListAlgorithmsRequest) -> pb.ListAlgorithmsResponse:
        infos = [self._algorithms.find(request.name)] if request.name else self._algorithms.all()
        return pb.ListAlgorithmsResponse(
            algorithms=[algorithm_to_proto(info, self._algorithms.available(info)) for info in infos]
        )
