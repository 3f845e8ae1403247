"""A service that speaks kepler.v1 over real gRPC and learns nothing: for tests of clients.

Its "model" answers each record with the first value and a mark, so that order and joining show. It
stands for the protocol of proto/kepler/v1 only; what a real service computes is tested with the real one.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc

from kepler.client.constants import SERVER_OPTIONS
from kepler.client.errors import abort_arguments
from kepler.core.errors import (
    Cancelled,
    Conflict,
    InvalidInput,
    KeplerError,
    NotFound,
    NotReady,
    Unauthenticated,
    nearest,
)
from kepler.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    common_pb2,
    deploy_pb2,
    deploy_pb2_grpc,
    edge_pb2,
    edge_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    prediction_pb2,
    prediction_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
)

ALGORITHMS = {
    "LogisticRegression": "classification",
    "LightGBMClassifier": "classification",
    "LightGBMRegressor": "regression",
    "RandomForestClassifier": "classification",
    "RandomForestRegressor": "regression",
    "KMeans": "clustering",
}


def parse(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline="")))


def render(rows: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


class ServiceDouble(
    auth_pb2_grpc.AuthServiceServicer,
    deploy_pb2_grpc.DeployServiceServicer,
    edge_pb2_grpc.EdgeServiceServicer,
    jobs_pb2_grpc.JobServiceServicer,
    models_pb2_grpc.ModelServiceServicer,
    prediction_pb2_grpc.PredictionServiceServicer,
    training_pb2_grpc.TrainingServiceServicer,
):
    """Start with ``with ServiceDouble() as service``; ``service.address`` is where it listens.

    ``fail`` maps a method's name to the error it answers with; ``seen`` holds the requests' openings.
    ``still_running`` makes GetJob show every job so; WatchJob shows its end.
    """

    def __init__(self, *, token: str = "", port: int = 0) -> None:
        self.token = token
        self.fail: dict[str, KeplerError] = {}
        self.seen: list[Any] = []
        self.rows: list[list[str]] = []
        self.jobs: dict[str, jobs_pb2.Job] = {}
        self.versions: dict[str, list[models_pb2.ModelVersion]] = {}
        self.earlier: dict[str, list[int]] = {}
        self.job_error: KeplerError | None = None
        self.swallow_slices = False
        self.still_running = False
        self._server = grpc.server(ThreadPoolExecutor(8), options=SERVER_OPTIONS)
        for register in (
            auth_pb2_grpc.add_AuthServiceServicer_to_server,
            deploy_pb2_grpc.add_DeployServiceServicer_to_server,
            edge_pb2_grpc.add_EdgeServiceServicer_to_server,
            jobs_pb2_grpc.add_JobServiceServicer_to_server,
            models_pb2_grpc.add_ModelServiceServicer_to_server,
            prediction_pb2_grpc.add_PredictionServiceServicer_to_server,
            training_pb2_grpc.add_TrainingServiceServicer_to_server,
        ):
            register(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def _begin(self, method: str, context: grpc.ServicerContext) -> None:
        if self.token and dict(context.invocation_metadata()).get("authorization") != f"Bearer {self.token}":
            self._abort(Unauthenticated("The token is not known", fix="Set KEPLER_TOKEN"), context)
        if method in self.fail:
            self._abort(self.fail[method], context)

    def _abort(self, error: KeplerError, context: grpc.ServicerContext) -> Any:
        code, details, trailers = abort_arguments(error)
        context.set_trailing_metadata(trailers)
        context.abort(code, details)

    # AuthService

    def WhoAmI(self, request: Any, context: Any) -> auth_pb2.WhoAmIResponse:
        self._begin("WhoAmI", context)
        return auth_pb2.WhoAmIResponse(
            user="ana", capabilities=["predict", "train"], service_version="0.1.0", api_version="v1"
        )

    # DeployService and EdgeService: a service with one target, and no device yet

    def ListTargets(self, request: Any, context: Any) -> deploy_pb2.ListTargetsResponse:
        self._begin("ListTargets", context)
        return deploy_pb2.ListTargetsResponse(
            targets=[deploy_pb2.Target(name="edge", description="Gateways that run kepler-edge.")]
        )

    def ListDevices(self, request: Any, context: Any) -> edge_pb2.ListDevicesResponse:
        self._begin("ListDevices", context)
        return edge_pb2.ListDevicesResponse()

    # TrainingService

    def Train(self, requests: Iterator[Any], context: Any) -> Iterator[training_pb2.TrainResponse]:
        self._begin("Train", context)
        open_ = next(requests).open
        self.seen.append(open_)
        if open_.algorithm not in ALGORITHMS:
            near = nearest(open_.algorithm, list(ALGORITHMS))
            self._abort(
                InvalidInput(
                    f"There is no algorithm {open_.algorithm!r}", fix=f"The nearest are {', '.join(near)}"
                ),
                context,
            )
        name = f"app.{open_.caller.app}/{open_.into.removeprefix('app:')}" if open_.into else ""
        notice = common_pb2.Notice(level=common_pb2.Notice.INFO, text="The seed is 42.")
        yield training_pb2.TrainResponse(
            accepted=training_pb2.TrainAccepted(
                algorithm=open_.algorithm, model=name, used_fields=open_.columns, notices=[notice]
            )
        )
        if open_.options.dry_run:
            return
        sent = list(requests)
        if not sent or not sent[-1].HasField("end") or sent[-1].end.slices != len(sent) - 1:
            self._abort(Cancelled("The upload ended without saying that it was complete"), context)
        self.rows = [row for request in sent[:-1] for row in parse(request.rows)]
        job = self._job(open_, name)
        yield training_pb2.TrainResponse(queued=training_pb2.TrainQueued(job_id=job.id, rows=len(self.rows)))

    def _job(self, open_: training_pb2.TrainOpen, name: str) -> jobs_pb2.Job:
        job = jobs_pb2.Job(
            id=f"job-{len(self.jobs) + 1}",
            kind="train",
            state=jobs_pb2.Job.SUCCEEDED,
            owner=open_.caller.user,
            subject=f"{open_.algorithm} into {name}" if name else open_.algorithm,
            progress=1.0,
            created_at=1_760_000_000.0,
            started_at=1_760_000_001.0,
            finished_at=1_760_000_002.5,
            rows=len(self.rows),
            metrics=[common_pb2.Metric(name="accuracy", value=0.97)],
            notices=[common_pb2.Notice(level=common_pb2.Notice.WARN, text="2 rows were dropped.")],
            attempt=1,
        )
        if self.job_error:
            job.state = jobs_pb2.Job.FAILED
            job.error = self.job_error.sentence
            job.error_detail.code = self.job_error.code
            job.error_detail.cause, job.error_detail.fix = self.job_error.cause, self.job_error.fix
        elif name:
            known = self.versions.setdefault(name, [])
            known.insert(
                0,
                models_pb2.ModelVersion(
                    name=name,
                    version=len(known) + 1,
                    algorithm=open_.algorithm,
                    task=ALGORITHMS[open_.algorithm],
                    target=open_.target,
                    required_fields=[column for column in open_.columns if column != open_.target],
                    output_columns=[f"predicted({open_.target})"],
                    owner=open_.caller.user,
                    created_at=1_760_000_002.5,
                    job_id=job.id,
                    format="onnx",
                    size_bytes=1234,
                    rows=len(self.rows),
                    metrics=job.metrics,
                    params=open_.params,
                ),
            )
            job.model = f"{name}@{len(known)}"
        self.jobs[job.id] = job
        return job

    def ListAlgorithms(self, request: Any, context: Any) -> training_pb2.ListAlgorithmsResponse:
        self._begin("ListAlgorithms", context)
        param = training_pb2.AlgorithmParam(
            name="n_estimators",
            type="int",
            default_value="100",
            low="1",
            high="10000",
            description="Number of trees",
        )
        if request.name and request.name not in ALGORITHMS:
            near = ", ".join(nearest(request.name, list(ALGORITHMS)))
            self._abort(
                NotFound(f"There is no algorithm {request.name!r}", fix=f"The nearest are {near}"), context
            )
        return training_pb2.ListAlgorithmsResponse(
            algorithms=[
                training_pb2.Algorithm(
                    name=name,
                    aliases=["rf"] if name.startswith("RandomForest") else [],
                    tasks=[task],
                    description=f"{name}, as known.",
                    params=[param],
                    available=True,
                )
                for name, task in ALGORITHMS.items()
                if request.name in ("", name)
            ]
        )

    def ReadPredictions(self, request: Any, context: Any) -> Iterator[prediction_pb2.PredictResponse]:
        self._begin("ReadPredictions", context)
        yield prediction_pb2.PredictResponse(
            opened=prediction_pb2.PredictOpened(
                model=self._find_job(request.id, context).model, output_columns=["predicted(y)"]
            )
        )
        values = render([[f"{row[0]}!"] for row in self.rows])
        yield prediction_pb2.PredictResponse(scored=prediction_pb2.Scored(rows=len(self.rows), values=values))

    # PredictionService

    def Predict(self, requests: Iterator[Any], context: Any) -> Iterator[prediction_pb2.PredictResponse]:
        self._begin("Predict", context)
        open_ = next(requests).open
        self.seen.append(open_)
        found = self._version(open_.model, context)
        columns = [open_.options.__getattribute__("as") or found.output_columns[0]]
        if open_.options.probabilities:
            columns.append(f"probability({found.target}=1)")
        yield prediction_pb2.PredictResponse(
            opened=prediction_pb2.PredictOpened(
                model=f"{found.name}@{found.version}",
                required_fields=found.required_fields,
                output_columns=columns,
                notices=[common_pb2.Notice(level=common_pb2.Notice.WARN, text="Field x is missing.")],
            )
        )
        for request in requests:
            if self.swallow_slices:
                return
            rows = parse(request.rows)
            values = render([[f"{row[0]}!", "0.5"][: len(columns)] for row in rows])
            yield prediction_pb2.PredictResponse(
                scored=prediction_pb2.Scored(rows=len(rows), values=values, one_line_per_row=True)
            )

    def Score(self, requests: Iterator[Any], context: Any) -> prediction_pb2.ScoreResponse:
        self._begin("Score", context)
        open_ = next(requests).open
        self.seen.append(open_)
        rows = [row for request in requests for row in parse(request.rows)]
        left = list(open_.columns).index(open_.actual[0])
        right = list(open_.columns).index(open_.predicted[0])
        same = sum(row[left] == row[right] for row in rows) / len(rows)
        table = common_pb2.Table(columns=["method", "score"])
        for method in open_.methods:
            table.rows.add(cells=[method, f"{same:g}"])
        return prediction_pb2.ScoreResponse(table=table)

    # JobService

    def _find_job(self, job_id: str, context: Any) -> jobs_pb2.Job:
        if job_id not in self.jobs:
            self._abort(
                NotFound(f"There is no job {job_id!r}", fix="List them with `kepler jobs list`"), context
            )
        return self.jobs[job_id]

    def GetJob(self, request: Any, context: Any) -> jobs_pb2.Job:
        self._begin("GetJob", context)
        job = jobs_pb2.Job()
        job.CopyFrom(self._find_job(request.id, context))
        if self.still_running:
            job.state, job.model = jobs_pb2.Job.RUNNING, ""
        return job

    def ListJobs(self, request: Any, context: Any) -> jobs_pb2.ListJobsResponse:
        self._begin("ListJobs", context)
        jobs = [
            job
            for job in reversed(self.jobs.values())
            if request.state in ("", jobs_pb2.Job.State.Name(job.state).lower())
        ]
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        return jobs_pb2.ListJobsResponse(
            jobs=jobs[begin:end], next_page_token=str(end) if end < len(jobs) else ""
        )

    def WatchJob(self, request: Any, context: Any) -> Iterator[jobs_pb2.Job]:
        self._begin("WatchJob", context)
        job = self._find_job(request.id, context)
        for fraction, phase in ((0.1, "loading"), (0.6, "fitting")):
            running = jobs_pb2.Job()
            running.CopyFrom(job)
            running.state, running.progress, running.phase = jobs_pb2.Job.RUNNING, fraction, phase
            yield running
            time.sleep(0.01)
        yield job

    def CancelJob(self, request: Any, context: Any) -> jobs_pb2.Job:
        self._begin("CancelJob", context)
        job = self._find_job(request.id, context)
        if job.state in (jobs_pb2.Job.QUEUED, jobs_pb2.Job.RUNNING):
            job.state = jobs_pb2.Job.CANCELLED
        return job

    # ModelService

    def _version(self, text: str, context: Any) -> models_pb2.ModelVersion:
        name, _, selector = text.partition("@")
        name = name if "/" in name else f"app.search/{name.removeprefix('app:')}"
        for version in self.versions.get(name, ()):
            if selector in ("", "latest", str(version.version)) or selector in version.aliases:
                return version
        fix = f"Train it with `kepler train ... --into {text.partition('@')[0]}`"
        return self._abort(NotFound(f"There is no model {text!r}", fix=fix), context)

    def ListModels(self, request: Any, context: Any) -> models_pb2.ListModelsResponse:
        self._begin("ListModels", context)
        newest = [versions[0] for versions in self.versions.values() if versions]
        begin = int(request.page_token or 0)
        following = str(begin + 1) if begin + 1 < len(newest) else ""
        return models_pb2.ListModelsResponse(models=newest[begin : begin + 1], next_page_token=following)

    def GetModel(self, request: Any, context: Any) -> models_pb2.ModelVersion:
        self._begin("GetModel", context)
        return self._version(request.model, context)

    def ListVersions(self, request: Any, context: Any) -> models_pb2.ListVersionsResponse:
        self._begin("ListVersions", context)
        return models_pb2.ListVersionsResponse(
            versions=self.versions[self._version(request.model, context).name]
        )

    def Summarize(self, request: Any, context: Any) -> models_pb2.SummarizeResponse:
        self._begin("Summarize", context)
        self.seen.append(request)
        table = common_pb2.Table(columns=["feature", "coefficient"])
        table.rows.add(cells=["a", "1.5"])
        return models_pb2.SummarizeResponse(version=self._version(request.model, context), table=table)

    def DeleteModel(self, request: Any, context: Any) -> models_pb2.DeleteModelResponse:
        self._begin("DeleteModel", context)
        found = self._version(request.model, context)
        gone = [found] if "@" in request.model else list(self.versions[found.name])
        for version in gone:
            self.versions[found.name].remove(version)
        return models_pb2.DeleteModelResponse(name=found.name, versions=[version.version for version in gone])

    def SetAlias(self, request: Any, context: Any) -> models_pb2.ModelVersion:
        self._begin("SetAlias", context)
        found = self._version(request.model, context)
        if request.alias == "latest":
            self._abort(Conflict("'latest' cannot be an alias"), context)
        self._move(found, request.alias)
        self.earlier.setdefault(request.alias, []).append(found.version)
        return found

    def _move(self, to: models_pb2.ModelVersion, alias: str) -> None:
        for version in self.versions[to.name]:
            if alias in version.aliases:
                version.aliases.remove(alias)
        to.aliases.append(alias)

    def DeleteAlias(self, request: Any, context: Any) -> models_pb2.ModelVersion:
        self._begin("DeleteAlias", context)
        found = self._version(f"{request.model}@{request.alias}", context)
        found.aliases.remove(request.alias)
        return found

    def Rollback(self, request: Any, context: Any) -> models_pb2.ModelVersion:
        self._begin("Rollback", context)
        history = self.earlier.get(request.alias, [])
        if len(history) < 2:
            self._abort(NotReady(f"Alias {request.alias!r} has nothing to go back to"), context)
        history.pop()
        found = self._version(f"{request.model}@{history[-1]}", context)
        self._move(found, request.alias)
        return found
