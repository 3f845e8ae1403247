"""`KeplerClient`: every call of kepler.v1, synchronous, with our errors and records."""

from __future__ import annotations

import getpass
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from kepler.client import constants, convert, optimizing, packages, requests
from kepler.client.address import Access, Address
from kepler.client.channel import open_channel
from kepler.client.discovery import find_or_start
from kepler.client.errors import error_from_rpc
from kepler.client.fleet import DeployCalls, EdgeCalls
from kepler.client.hec import SpoolCalls
from kepler.client.optimizing import OptimizedVersion
from kepler.client.packages import MovedVersion
from kepler.client.records import (
    AlgorithmDescription,
    Identity,
    ModelVersion,
    PredictChoice,
    ScoreOrder,
    Table,
    TrainOrder,
    TrainTicket,
)
from kepler.client.streams import WINDOW, Feed, ScoredStream, failure_of
from kepler.core.errors import InternalError, Unavailable
from kepler.core.jobs import JobRecord, Notice
from kepler.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    common_pb2,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    prediction_pb2,
    prediction_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
)

PAGE_SIZE = 500
STREAM_TIMEOUT_S = 6 * 3600.0
"""Deadline of a stream of rows. A dead peer is noticed long before, by keepalive."""
RECONNECT_FOR_S = 60.0
"""How long `watch_job` waits for a service that restarts: the job itself survives that."""


class KeplerClient:
    """A connection to the service, for one user.

    Parameters
    ----------
    access
        Where and how; see `Access.resolve`. Without an address the service of the home is found or started.
    user, app
        Who asks, and from which Splunk app; they decide what short model names mean. With a token the
        token's user counts. The user is the operating system's when left out.
    timeout_s
        Deadline of each call that is not a stream.
    """

    def __init__(
        self,
        access: Access | None = None,
        *,
        user: str = "",
        app: str = "search",
        timeout_s: float = constants.UNARY_TIMEOUT_S,
        find: Callable[[Access], Address] = find_or_start,
    ) -> None:
        access = access or Access.resolve()
        address = find(access)
        self.address = str(address)
        self.user, self.app = user or getpass.getuser(), app
        self._timeout_s = timeout_s
        self._trace_id = secrets.token_hex(16)
        self._metadata = (("authorization", f"Bearer {access.token}"),) if access.token else ()
        self._channel = open_channel(access, address)
        self._auth = auth_pb2_grpc.AuthServiceStub(self._channel)
        self._jobs = jobs_pb2_grpc.JobServiceStub(self._channel)
        self._models = models_pb2_grpc.ModelServiceStub(self._channel)
        self._prediction = prediction_pb2_grpc.PredictionServiceStub(self._channel)
        self._training = training_pb2_grpc.TrainingServiceStub(self._channel)
        self.deployments = DeployCalls(self._channel, self._unary, lambda: self.caller)
        self.edge = EdgeCalls(self._channel, self._unary, lambda: self.caller, self._metadata, self.address)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def caller(self) -> common_pb2.Caller:
        return common_pb2.Caller(user=self.user, app=self.app, trace_id=self._trace_id)

    @property
    def spool(self) -> SpoolCalls:
        """The spool into Splunk; for administrators."""
        return SpoolCalls(self._channel, self._unary, self.caller)

    def _unary(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_from_rpc(error, address=self.address) from error

    # Identity

    def who_am_i(self) -> Identity:
        """Who the service takes us for."""
        return convert.identity_from_proto(self._unary(self._auth.WhoAmI, auth_pb2.WhoAmIRequest()))

    # Training

    def train(
        self,
        order: TrainOrder,
        slices: Iterable[bytes],
        *,
        on_accepted: Callable[[TrainTicket], None] | None = None,
    ) -> TrainTicket:
        """Send rows to train on; back when rows and job are safe on the service's disk.

        ``on_accepted`` is told as soon as algorithm, parameters and names are known to be right, before
        any row is sent. A dry run sends none.
        """
        feed = Feed(
            training_pb2.TrainRequest(open=requests.train_open_to_proto(order, self.caller)),
            () if order.dry_run else slices,
            lambda rows: training_pb2.TrainRequest(rows=rows),
            last=None
            if order.dry_run
            else lambda slices: training_pb2.TrainRequest(end=training_pb2.TrainEnd(slices=slices)),
        )
        call: Any = self._training.Train(iter(feed), timeout=STREAM_TIMEOUT_S, metadata=self._metadata)
        feed.call = call
        ticket: TrainTicket | None = None
        try:
            for response in call:
                if response.WhichOneof("kind") == "accepted":
                    accepted = response.accepted
                    ticket = TrainTicket(
                        "",
                        0,
                        accepted.algorithm,
                        accepted.model,
                        tuple(accepted.used_fields),
                        convert.notices_from_proto(accepted.notices),
                    )
                    if on_accepted:
                        on_accepted(ticket)
                    feed.start()
                elif ticket:
                    queued = response.queued
                    return TrainTicket(
                        queued.job_id,
                        queued.rows,
                        ticket.algorithm,
                        ticket.model,
                        ticket.used_fields,
                        ticket.notices,
                    )
        except grpc.RpcError as error:
            raise failure_of(feed, error, self.address) from error
        finally:
            feed.stop()
            call.cancel()
        if ticket is None or not order.dry_run:
            raise InternalError("The service ended the training stream without queueing a job")
        return ticket

    def algorithms(self, name: str = "") -> list[AlgorithmDescription]:
        """All algorithms, or the one called ``name``."""
        reply = self._unary(self._training.ListAlgorithms, training_pb2.ListAlgorithmsRequest(name=name))
        return [convert.algorithm_from_proto(item) for item in reply.algorithms]

    def read_predictions(self, job_id: str) -> ScoredStream:
        """What a finished job computed for its own rows, when it was asked to keep it."""
        request = jobs_pb2.GetJobRequest(caller=self.caller, id=job_id)
        call = self._training.ReadPredictions(request, timeout=STREAM_TIMEOUT_S, metadata=self._metadata)
        return ScoredStream(call, None, self.address)

    # Prediction

    def predict(
        self,
        model: str,
        columns: tuple[str, ...],
        slices: Iterable[bytes],
        choice: PredictChoice | None = None,
    ) -> ScoredStream:
        """Score slices with one version of ``model``, resolved once for the stream."""
        opening = prediction_pb2.PredictOpen(
            caller=self.caller,
            model=model,
            columns=columns,
            options=requests.predict_options_to_proto(choice or PredictChoice()),
        )
        feed = Feed(
            prediction_pb2.PredictRequest(open=opening),
            slices,
            lambda rows: prediction_pb2.PredictRequest(rows=rows),
            window=WINDOW,
        )
        call = self._prediction.Predict(iter(feed), timeout=STREAM_TIMEOUT_S, metadata=self._metadata)
        feed.call = call
        return ScoredStream(call, feed, self.address)

    def score(self, order: ScoreOrder, slices: Iterable[bytes]) -> tuple[Table, tuple[Notice, ...]]:
        """Compare columns of the rows with each other."""
        feed = Feed(
            prediction_pb2.ScoreRequest(open=requests.score_open_to_proto(order, self.caller)),
            slices,
            lambda rows: prediction_pb2.ScoreRequest(rows=rows),
        )
        call: Any = self._prediction.Score.future(
            iter(feed), timeout=STREAM_TIMEOUT_S, metadata=self._metadata
        )
        feed.call = call
        feed.start()
        try:
            reply = call.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            if isinstance(error, grpc.RpcError):
                raise failure_of(feed, error, self.address) from error
            raise feed.failure or error_from_rpc(call, address=self.address) from error
        finally:
            feed.stop()
            call.cancel()
        return convert.table_from_proto(reply.table), convert.notices_from_proto(reply.notices)

    # Jobs

    def job(self, job_id: str) -> JobRecord:
        request = jobs_pb2.GetJobRequest(caller=self.caller, id=job_id)
        return convert.job_from_proto(self._unary(self._jobs.GetJob, request))

    def jobs(self, state: str = "", *, limit: int = 100) -> list[JobRecord]:
        """The newest ``limit`` jobs, newest first."""
        found: list[JobRecord] = []
        token = ""
        while len(found) < limit:
            request = jobs_pb2.ListJobsRequest(
                caller=self.caller,
                state=state,
                page_size=min(limit - len(found), PAGE_SIZE),
                page_token=token,
            )
            page = self._unary(self._jobs.ListJobs, request)
            found += [convert.job_from_proto(job) for job in page.jobs]
            token = page.next_page_token
            if not token:
                break
        return found[:limit]

    def cancel_job(self, job_id: str) -> JobRecord:
        """Cancel a job; a finished one comes back unchanged."""
        request = jobs_pb2.GetJobRequest(caller=self.caller, id=job_id)
        return convert.job_from_proto(self._unary(self._jobs.CancelJob, request))

    def watch_job(self, job_id: str, *, reconnect_for_s: float = RECONNECT_FOR_S) -> Iterator[JobRecord]:
        """The job whenever it changed, until its final state; goes on after a restart of the service."""
        request = jobs_pb2.GetJobRequest(caller=self.caller, id=job_id)
        lost_at = 0.0
        pause = 0.1
        while True:
            call: Any = self._jobs.WatchJob(request, timeout=STREAM_TIMEOUT_S, metadata=self._metadata)
            try:
                for message in call:
                    lost_at, pause = 0.0, 0.1
                    job = convert.job_from_proto(message)
                    yield job
                    if job.state.final:
                        return
                failure: Exception = InternalError("The service stopped reporting on the job before its end")
            except grpc.RpcError as error:
                failure = error_from_rpc(error, address=self.address)
                if not isinstance(failure, Unavailable):
                    raise failure from error
            finally:
                call.cancel()
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at + pause > reconnect_for_s:
                raise failure
            time.sleep(pause)
            pause = min(pause * 2, 5.0)

    # Models

    def models(self, pattern: str = "") -> list[ModelVersion]:
        """Newest version of every model the caller may see and whose full name matches ``pattern``."""
        found: list[ModelVersion] = []
        token = ""
        while True:
            request = models_pb2.ListModelsRequest(
                caller=self.caller, pattern=pattern, page_size=PAGE_SIZE, page_token=token
            )
            page = self._unary(self._models.ListModels, request)
            found += [convert.version_from_proto(item) for item in page.models]
            token = page.next_page_token
            if not token:
                return found

    def _get_model(self, model: str) -> models_pb2.GetModelRequest:
        return models_pb2.GetModelRequest(caller=self.caller, model=model)

    def model(self, model: str) -> ModelVersion:
        return convert.version_from_proto(self._unary(self._models.GetModel, self._get_model(model)))

    def versions(self, model: str) -> list[ModelVersion]:
        """All versions, newest first."""
        reply = self._unary(self._models.ListVersions, self._get_model(model))
        return [convert.version_from_proto(item) for item in reply.versions]

    def summarize(self, model: str, *, view: str = "default", limit: int = 0) -> tuple[ModelVersion, Table]:
        """What the model learned. Views: default, params, importance, metrics, schema."""
        request = models_pb2.SummarizeRequest(caller=self.caller, model=model, view=view, limit=limit)
        reply = self._unary(self._models.Summarize, request)
        return convert.version_from_proto(reply.version), convert.table_from_proto(reply.table)

    def delete_model(self, model: str) -> tuple[str, tuple[int, ...]]:
        """Delete ``m@3`` or all of ``m``; gives the full name and the versions that went."""
        reply = self._unary(self._models.DeleteModel, self._get_model(model))
        return reply.name, tuple(reply.versions)

    def export_version(self, model: str, path: str | os.PathLike[str]) -> MovedVersion:
        """Save one version as a ``.kepler`` package at ``path``, which must not exist yet."""
        request = models_pb2.ExportVersionRequest(caller=self.caller, model=model)
        call = self._models.ExportVersion(request, timeout=STREAM_TIMEOUT_S, metadata=self._metadata)
        return packages.save_package(call, Path(path), self.address)

    def import_version(self, path: str | os.PathLike[str], *, into: str = "") -> MovedVersion:
        """Make the ``.kepler`` package at ``path`` a new version of ``into``, or of the name it carries."""
        return packages.send_package(
            lambda requests: self._models.ImportVersion.future(
                requests, timeout=STREAM_TIMEOUT_S, metadata=self._metadata
            ),
            Path(path),
            into,
            self.caller,
            self.address,
        )

    def optimize_version(
        self,
        model: str,
        *,
        target: str = "edge",
        columns: tuple[str, ...] = (),
        slices: Iterable[bytes] = (),
        thresholds: Mapping[str, float] | None = None,
        dry_run: bool = False,
    ) -> OptimizedVersion:
        """Make the next version of ``model`` in the form that gateways run fastest, calibrated on ``slices``."""
        return optimizing.optimize(
            lambda requests: self._models.OptimizeVersion.future(
                requests, timeout=STREAM_TIMEOUT_S, metadata=self._metadata
            ),
            optimizing.opening(self.caller, model, target, columns, thresholds or {}, dry_run),
            slices,
            self.address,
        )

    def _alias_call(self, method: Any, model: str, alias: str) -> ModelVersion:
        request = models_pb2.SetAliasRequest(caller=self.caller, model=model, alias=alias)
        return convert.version_from_proto(self._unary(method, request))

    def set_alias(self, model: str, alias: str) -> ModelVersion:
        """Point ``alias`` at the version ``model`` names."""
        return self._alias_call(self._models.SetAlias, model, alias)

    def delete_alias(self, model: str, alias: str) -> ModelVersion:
        return self._alias_call(self._models.DeleteAlias, model, alias)

    def rollback(self, model: str, alias: str) -> ModelVersion:
        """Move ``alias`` back to the version it pointed at before."""
        return self._alias_call(self._models.Rollback, model, alias)
