"""Wires ports to adapters. The only place that knows all of them; it alone reads the settings' meaning."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from kepler import __version__
from kepler import registry as plugins
from kepler.adapters.formats.edge_optimizer import OnnxEdgeOptimizer
from kepler.adapters.formats.onnx_scorer import load_runtime
from kepler.adapters.formats.safe import SafeModelFormats
from kepler.adapters.grpc.admin import AuthServicer, JobServicer, ModelServicer
from kepler.adapters.grpc.calls import CAPABILITIES, CallContext, handlers
from kepler.adapters.grpc.deploying import DeployServicer
from kepler.adapters.grpc.edge import EdgeServicer
from kepler.adapters.grpc.hec import HecServicer
from kepler.adapters.grpc.optimizing import OptimizeCalls
from kepler.adapters.grpc.packages import PackageCalls
from kepler.adapters.grpc.prediction import PredictionServicer
from kepler.adapters.grpc.server import GrpcServer
from kepler.adapters.grpc.training import TrainingServicer
from kepler.adapters.hec.forwarder import HecForwarder
from kepler.adapters.hec.metrics import SpoolCollector
from kepler.adapters.jobs.dbos_jobs import DbosJobRunner, JobSettings
from kepler.adapters.jobs.limits import WorkerLimits
from kepler.adapters.jobs.process_worker import ProcessTrainWorker
from kepler.adapters.mlflow.record import version_path
from kepler.adapters.mlflow.store import MlflowModelStore
from kepler.adapters.mqtt.ingest_metrics import IngestCollector
from kepler.adapters.scoring.methods import SklearnScoring
from kepler.adapters.security.home import HomeSecurity
from kepler.adapters.storage import version_folder
from kepler.adapters.storage.csv_slices import ArrowRowSpools
from kepler.adapters.storage.package_files import PackageFiles
from kepler.adapters.telemetry.metrics import ServiceMetrics
from kepler.adapters.telemetry.redaction import REDACTOR
from kepler.bootstrap_fleet import FleetParts, broker_options, build_fleet
from kepler.bootstrap_splunk import Ingest, RegisteredKeys, build_spool
from kepler.core.group_table import GROUP_LIST, GroupTable
from kepler.core.jobs import JobRecord
from kepler.core.manifest import Manifest
from kepler.serving.cache import ModelCache
from kepler.serving.loader import FolderModelLoader
from kepler.settings import Settings
from kepler.usecases.deploy import KIND as DEPLOY
from kepler.usecases.deploy import DeployModels
from kepler.usecases.job_events import job_event
from kepler.usecases.manage import IssueTokens, ManageJobs, ManageModels
from kepler.usecases.optimize import OptimizeVersion
from kepler.usecases.packages import MovePackages
from kepler.usecases.predict import PredictRows
from kepler.usecases.score import ScoreRows
from kepler.usecases.spool import ManageSpool
from kepler.usecases.summarize import SummarizeModel
from kepler.usecases.train import TrainLimits, TrainModel
from kepler.v1 import (
    auth_pb2,
    deploy_pb2,
    edge_pb2,
    hec_pb2,
    jobs_pb2,
    models_pb2,
    prediction_pb2,
    training_pb2,
)

_MIB = 2**20
SERVICES = (
    prediction_pb2.DESCRIPTOR.services_by_name["PredictionService"],
    training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
    jobs_pb2.DESCRIPTOR.services_by_name["JobService"],
    models_pb2.DESCRIPTOR.services_by_name["ModelService"],
    auth_pb2.DESCRIPTOR.services_by_name["AuthService"],
    deploy_pb2.DESCRIPTOR.services_by_name["DeployService"],
    edge_pb2.DESCRIPTOR.services_by_name["EdgeService"],
    hec_pb2.DESCRIPTOR.services_by_name["HecService"],
)


class SystemClock:
    """Implements `ports.clock.Clock`."""

    def now(self) -> float:
        return time.time()


@dataclass(slots=True)
class Parts:
    """The wired service. `service.KeplerService` starts and stops it."""

    settings: Settings
    security: HomeSecurity
    models: MlflowModelStore
    jobs: DbosJobRunner
    worker: ProcessTrainWorker
    cache: ModelCache
    packages: PackageFiles
    fleet: FleetParts
    ingest: Ingest | None
    spool: HecForwarder
    metrics: ServiceMetrics
    grpc_server: GrpcServer
    predict_pool: ThreadPoolExecutor
    work_pool: ThreadPoolExecutor

    def warm(self) -> None:
        """Load, once ready, what nothing needs before the first search and that search would wait for."""
        self.worker.prewarm()
        load_runtime()
        root = self.settings.home / "models"
        self.packages.sweep(self.models.list_versions, lambda name, job_id: version_path(root, name, job_id))

    def close(self) -> None:
        """Let go of everything, in the order that nothing is used after it is closed."""
        if self.ingest is not None:
            self.ingest.stop()
        self.spool.stop()
        self.fleet.close()
        self.worker.close()
        self.models.close()
        self.security.close()
        self.predict_pool.shutdown(wait=True, cancel_futures=True)
        self.work_pool.shutdown(wait=True, cancel_futures=True)


def build(settings: Settings) -> Parts:
    """Everything of one service, wired and not yet started."""
    clock = SystemClock()
    security = HomeSecurity(settings.home, settings.secrets.key, clock, on_reveal=REDACTOR.learn)
    metrics = ServiceMetrics(CAPABILITIES, __version__)
    spool = build_spool(settings.home, settings.hec, lambda: security.secrets)
    metrics.registry.register(SpoolCollector(spool.states))
    database = settings.database_url.get_secret_value()
    models = MlflowModelStore(settings.home, security.signer, clock, url=database)
    worker = ProcessTrainWorker(
        WorkerLimits(
            memory_bytes=settings.worker.memory_mb * _MIB,
            time_s=settings.worker.time_s,
            cpu_s=settings.worker.cpu_s,
            processes=settings.worker.processes,
            scratch_bytes=settings.worker.scratch_mb * _MIB,
            threads=settings.worker.threads,
        )
    )

    def tell_end(record: JobRecord) -> None:
        metrics.job_finished(record.state)
        if settings.hec.url:
            spool.put([job_event(record)])

    fleet = build_fleet(settings, security, models, clock)
    ingest = None
    if settings.mqtt.address:
        ingest = Ingest(
            settings.home,
            broker_options(settings, fleet.authority, "ingest"),
            settings.edge.tenant,
            RegisteredKeys(fleet.enrolment.keys_of, clock),
            security.signer.sign,
            spool,
            clock,
            database,
        )
        metrics.registry.register(IngestCollector(ingest.channel, ingest.link))
    jobs = DbosJobRunner(
        settings.home,
        worker,
        models,
        database_url=database,
        settings=JobSettings(
            concurrency=settings.jobs.concurrency,
            max_active=settings.jobs.queue_limit,
            max_attempts=settings.jobs.max_attempts,
            results_ttl_s=settings.jobs.results_ttl_s,
        ),
        clock=clock,
        works={DEPLOY: fleet.work},
        on_final=tell_end,
    )
    metrics.count_jobs_with(jobs.counts)
    algorithms = plugins.default_registry()

    def verify(folder: Path, full_name: str = "") -> Manifest:
        return version_folder.verify_folder(folder, security.signer, full_name)

    def read_manifest(folder: Path) -> Manifest:
        return version_folder.read_manifest(folder, security.signer)

    def read_groups(folder: Path, manifest: Manifest) -> GroupTable:
        return GroupTable.from_bytes(version_folder.read_listed(folder, manifest, GROUP_LIST))

    cache = ModelCache(
        FolderModelLoader(SafeModelFormats(), verify),
        max_bytes=settings.predict.cache_mb * _MIB,
        on_change=lambda stats: metrics.cache_changed(stats.hits, stats.misses, stats.bytes),
    )
    predict_pool = ThreadPoolExecutor(settings.predict.threads, thread_name_prefix="kepler-predict")
    work_pool = ThreadPoolExecutor(8, thread_name_prefix="kepler-work")
    audit = security.audit
    tokens = security.tokens if settings.tokens_required else None
    manage_jobs = ManageJobs(jobs, audit)
    train = TrainModel(
        algorithms,
        models,
        jobs,
        ArrowRowSpools(settings.training.min_free_disk_bytes),
        worker,
        audit,
        TrainLimits(
            max_upload_bytes=settings.training.max_upload_bytes,
            queue_limit=settings.jobs.queue_limit,
            threads=settings.worker.threads,
        ),
        verify,
    )
    packages = PackageFiles(
        settings.home / "imports",
        security.signer,
        security.trust,
        min_free_bytes=settings.training.min_free_disk_bytes,
    )
    manage_models = ManageModels(models, audit, cache.drop)
    moves = MovePackages(
        manage_models,
        models,
        packages,
        # As it will be served, but for the signature, which is not this home's yet.
        FolderModelLoader(
            SafeModelFormats(), lambda folder: version_folder.verify_folder(folder, security.trust)
        ),
        audit,
    )
    optimize = OptimizeVersion(
        manage_models, models, OnnxEdgeOptimizer(), packages, verify, version_folder.read_listed, audit
    )
    deploy = DeployModels(fleet.targets, fleet.deployments, manage_models, jobs, audit, clock)
    prediction = PredictionServicer(
        PredictRows(models, cache),
        ScoreRows(SklearnScoring()),
        predict_pool,
        max_streams=settings.predict.max_streams,
        loading=work_pool,
        score_bytes=settings.predict.score_mb * _MIB,
        metrics=metrics,
    )
    servicers = (
        prediction,
        TrainingServicer(
            train,
            manage_jobs,
            jobs,
            algorithms,
            work_pool,
            metrics.rows_uploaded,
            max_uploads=settings.training.max_uploads,
        ),
        JobServicer(manage_jobs, jobs, work_pool),
        ModelServicer(
            manage_models,
            SummarizeModel(read_manifest, read_groups),
            PackageCalls(moves, work_pool),
            OptimizeCalls(optimize, work_pool),
            work_pool,
        ),
        AuthServicer(IssueTokens(tokens, audit), work_pool, tls=settings.tls.enabled),
        DeployServicer(deploy, work_pool),
        EdgeServicer(fleet.devices, fleet.enrol, fleet.manage, fleet.commands, work_pool),
        HecServicer(ManageSpool(spool, audit), work_pool),
    )
    calls = CallContext(tokens, metrics, settings.predict.idle_timeout_s, settings.training.idle_timeout_s)
    server = GrpcServer(
        settings.grpc,
        [handlers(service, servicer, calls) for service, servicer in zip(SERVICES, servicers, strict=True)],
        _credentials(settings),
        [service.full_name for service in SERVICES],
    )
    return Parts(
        settings,
        security,
        models,
        jobs,
        worker,
        cache,
        packages,
        fleet,
        ingest,
        spool,
        metrics,
        server,
        predict_pool,
        work_pool,
    )


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    tls = settings.tls
    if tls.cert_file is None or tls.key_file is None:
        return None
    # Only here: reading certificates loads a library that a service without TLS has no use for.
    from kepler.adapters.security.tls import load_server_credentials

    loaded = load_server_credentials(tls.cert_file, tls.key_file, tls.client_ca_file)
    return grpc.ssl_server_credentials(
        [(loaded.key, loaded.certificate)],
        root_certificates=loaded.client_ca,
        require_client_auth=loaded.client_ca is not None,
    )
