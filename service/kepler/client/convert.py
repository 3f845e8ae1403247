"""From protobuf messages to the client's records. Protobuf stops here."""

from __future__ import annotations

from collections.abc import Iterable

from kepler.client.records import (
    AlgorithmDescription,
    AlgorithmParam,
    Identity,
    ModelVersion,
    Opened,
    ScoredSlice,
    Table,
)
from kepler.core.jobs import Failure, JobRecord, JobState, Notice
from kepler.v1 import auth_pb2, common_pb2, jobs_pb2, models_pb2, prediction_pb2, training_pb2

_STATES: dict[int, JobState] = {
    jobs_pb2.Job.QUEUED: JobState.QUEUED,
    jobs_pb2.Job.RUNNING: JobState.RUNNING,
    jobs_pb2.Job.SUCCEEDED: JobState.SUCCEEDED,
    jobs_pb2.Job.FAILED: JobState.FAILED,
    jobs_pb2.Job.CANCELLED: JobState.CANCELLED,
}


def notices_from_proto(notices: Iterable[common_pb2.Notice]) -> tuple[Notice, ...]:
    return tuple(
        Notice("warn" if notice.level == common_pb2.Notice.WARN else "info", notice.text)
        for notice in notices
    )


def _failure_from_proto(job: jobs_pb2.Job) -> Failure | None:
    if not job.error and not job.error_detail.code:
        return None
    # The sentence is taken apart as it is for a failed call: see client.errors.
    from kepler.client.errors import error_from_detail

    return Failure.of(error_from_detail(job.error or "The job failed", job.error_detail))


def job_from_proto(job: jobs_pb2.Job) -> JobRecord:
    return JobRecord(
        id=job.id,
        kind=job.kind,
        state=_STATES.get(job.state, JobState.QUEUED),
        owner=job.owner,
        subject=job.subject,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        progress=job.progress,
        phase=job.phase,
        model=job.model,
        rows=job.rows,
        metrics=tuple((metric.name, metric.value) for metric in job.metrics),
        notices=notices_from_proto(job.notices),
        failure=_failure_from_proto(job),
        attempt=max(job.attempt, 1),
        sid=job.sid,
    )


def version_from_proto(version: models_pb2.ModelVersion) -> ModelVersion:
    return ModelVersion(
        name=version.name,
        version=version.version,
        aliases=tuple(version.aliases),
        algorithm=version.algorithm,
        task=version.task,
        target=version.target,
        required_fields=tuple(version.required_fields),
        output_columns=tuple(version.output_columns),
        signature=version.signature,
        owner=version.owner,
        created_at=version.created_at,
        job_id=version.job_id,
        run_id=version.run_id,
        format=version.format,
        size_bytes=version.size_bytes,
        rows=version.rows,
        metrics={metric.name: metric.value for metric in version.metrics},
        search=version.search,
        sid=version.sid,
        data_sha256=version.data_sha256,
        params=dict(version.params),
        tags=dict(version.tags),
        manifest_json=version.manifest_json,
    )


def table_from_proto(table: common_pb2.Table) -> Table:
    return Table(tuple(table.columns), tuple(tuple(row.cells) for row in table.rows))


def algorithm_from_proto(algorithm: training_pb2.Algorithm) -> AlgorithmDescription:
    return AlgorithmDescription(
        name=algorithm.name,
        tasks=tuple(algorithm.tasks),
        description=algorithm.description,
        aliases=tuple(algorithm.aliases),
        params=tuple(
            AlgorithmParam(
                item.name,
                item.type,
                item.default_value,
                item.low,
                item.high,
                tuple(item.choices),
                item.description,
            )
            for item in algorithm.params
        ),
        extra=algorithm.extra,
        available=algorithm.available,
    )


def opened_from_proto(opened: prediction_pb2.PredictOpened) -> Opened:
    return Opened(
        opened.model,
        opened.signature,
        tuple(opened.required_fields),
        tuple(opened.output_columns),
        notices_from_proto(opened.notices),
    )


def scored_from_proto(scored: prediction_pb2.Scored) -> ScoredSlice:
    return ScoredSlice(scored.rows, scored.values, notices_from_proto(scored.notices))


def identity_from_proto(reply: auth_pb2.WhoAmIResponse) -> Identity:
    return Identity(
        reply.user,
        tuple(reply.capabilities),
        reply.service_version,
        reply.api_version,
        reply.tls,
        reply.token_expires_at,
        reply.server_time,
    )
