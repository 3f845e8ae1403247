"""Proto messages to our types and back. Proto types stop here."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from kepler.core.algorithms import AlgorithmInfo, SummaryTable
from kepler.core.errors import InvalidInput
from kepler.core.jobs import JobRecord, JobState, Notice
from kepler.core.training import DEFAULT_SEED, SearchContext, TrainOrder
from kepler.core.versions import VersionRecord
from kepler.ports.security import Principal
from kepler.ports.serving import PredictOptions
from kepler.usecases.identity import Caller, caller_of
from kepler.v1 import common_pb2, jobs_pb2, models_pb2, prediction_pb2, training_pb2

_LEVELS = {"info": common_pb2.Notice.INFO, "warn": common_pb2.Notice.WARN}
_STATES: dict[JobState, Any] = {state: jobs_pb2.Job.State.Value(state.name) for state in JobState}


def caller_from_proto(message: common_pb2.Caller, principal: Principal) -> Caller:
    search = SearchContext(
        sid=message.sid,
        search=message.search,
        app=message.app,
        user=message.user,
        trace_id=message.trace_id,
        earliest=message.earliest,
        latest=message.latest,
    )
    return caller_of(principal, user=message.user, app=message.app, search=search)


def notice_to_proto(notice: Notice) -> common_pb2.Notice:
    return common_pb2.Notice(level=_LEVELS[notice.level], text=notice.text)


def table_to_proto(table: SummaryTable) -> common_pb2.Table:
    return common_pb2.Table(
        columns=table.columns, rows=[common_pb2.Table.Row(cells=cells) for cells in table.rows]
    )


def options_from_proto(message: prediction_pb2.PredictOptions) -> PredictOptions:
    return PredictOptions(
        probabilities=message.probabilities,
        as_name=getattr(message, "as"),
        on_missing=message.on_missing or "warn",
        overrides=dict(message.overrides),
    )


def order_from_proto(message: training_pb2.TrainOpen) -> TrainOrder:
    options = message.options
    return TrainOrder(
        algorithm=message.algorithm,
        columns=tuple(message.columns),
        features=tuple(message.features),
        target=message.target,
        by=tuple(message.by),
        into=message.into,
        as_name=getattr(message, "as"),
        params=dict(message.params),
        output=options.output or "predictions",
        nulls=options.nulls or "drop",
        categoricals=options.categoricals or "onehot",
        seed=options.seed if options.has_seed else DEFAULT_SEED,
        test_size=options.test_size,
        kfold_cv=options.kfold_cv,
        partial_fit=options.partial_fit,
        probabilities=options.probabilities,
        tags=tuple(options.tags),
        dry_run=options.dry_run,
        request_id=message.request_id,
    )


def metrics_to_proto(metrics: tuple[tuple[str, float], ...]) -> list[common_pb2.Metric]:
    return [common_pb2.Metric(name=name, value=value) for name, value in metrics]


def job_to_proto(job: JobRecord) -> jobs_pb2.Job:
    message = jobs_pb2.Job(
        id=job.id,
        kind=job.kind,
        state=_STATES[job.state],
        owner=job.owner,
        subject=job.subject,
        progress=job.progress,
        phase=job.phase,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        model=job.model,
        rows=job.rows,
        metrics=metrics_to_proto(job.metrics),
        notices=[notice_to_proto(notice) for notice in job.notices],
        attempt=job.attempt,
        sid=job.sid,
    )
    if job.failure is not None:
        message.error = job.failure.to_error().sentence
        message.error_detail.CopyFrom(
            common_pb2.ErrorDetail(code=job.failure.code, cause=job.failure.cause, fix=job.failure.fix)
        )
    return message


def version_to_proto(version: VersionRecord) -> models_pb2.ModelVersion:
    """What the registry knows without opening the version's folder."""
    return models_pb2.ModelVersion(
        name=str(version.name),
        version=version.version,
        aliases=version.aliases,
        algorithm=version.algorithm,
        task=version.task,
        target=version.target,
        owner=version.owner,
        created_at=version.created_at,
        job_id=version.job_id,
        run_id=version.run_id,
        format=version.format,
        size_bytes=version.size_bytes,
        rows=version.rows,
        metrics=metrics_to_proto(version.metrics),
        tags=version.tags,
        params=version.params,
        required_fields=version.fields,
    )


def algorithm_to_proto(info: AlgorithmInfo, available: bool) -> training_pb2.Algorithm:
    return training_pb2.Algorithm(
        name=info.name,
        aliases=info.aliases,
        tasks=[str(info.task)],
        description=info.doc.split("\n\n")[0].replace("\n", " "),
        extra=info.extra,
        available=available,
        params=[
            training_pb2.AlgorithmParam(
                name=param.name,
                type=param.kind,
                default_value="" if param.default is None else str(param.default),
                low="" if param.low is None else f"{param.low:g}",
                high="" if param.high is None else f"{param.high:g}",
                choices=param.choices,
                description=param.help,
            )
            for param in info.params.values()
        ],
    )


def page_token(offset: int) -> str:
    """Opaque token of the page that starts at ``offset``; empty for none."""
    return base64.urlsafe_b64encode(str(offset).encode()).decode() if offset else ""


def offset_of(token: str) -> int:
    """Raises `InvalidInput` for a token this service did not give."""
    if not token:
        return 0
    try:
        return max(0, int(base64.urlsafe_b64decode(token.encode()).decode()))
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(
            "The page token is not one of this service's", fix="Start from the first page."
        ) from error
