"""The life of one service: start, say ready, serve until asked to stop, drain."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from kepler import __version__
from kepler.adapters.http.app import create_app
from kepler.adapters.http.server import HttpServer
from kepler.adapters.telemetry.logs import configure_logging
from kepler.adapters.telemetry.redaction import REDACTOR
from kepler.bootstrap import Parts, build
from kepler.core.errors import Conflict, KeplerError
from kepler.ports.health import Check, ServiceState
from kepler.settings import Settings
from kepler.settings_sections import split_address

log = structlog.get_logger()


class KeplerService:
    """Runs the wired parts. Implements `ports.health.ServiceHealth` for the HTTP side."""

    def __init__(self, settings: Settings, announce: Callable[[str], None]) -> None:
        self._settings = settings
        self._announce = announce
        self._state = ServiceState.STARTING
        self._parts: Parts | None = None
        self._stop = asyncio.Event()

    @property
    def state(self) -> ServiceState:
        return self._state

    def checks(self) -> list[Check]:
        """What readiness stands on, each with what it found."""
        parts = self._parts
        if parts is None:
            return [Check("service", False, "starting")]
        free = shutil.disk_usage(self._settings.home).free
        reserve = self._settings.training.min_free_disk_bytes
        return [
            Check(
                "registry",
                parts.models.ready,
                "model registry" if parts.models.ready else parts.models.failure or "is being prepared",
            ),
            self._job_check(parts),
            Check("disk", free >= reserve, f"{free // 2**20} MB free, {reserve // 2**20} MB reserved"),
        ]

    def _http(self, parts: Parts) -> HttpServer:
        settings = self._settings
        host, port = split_address(settings.http)
        app = create_app(
            self,
            parts.metrics,
            parts.security.tokens if settings.tokens_required else None,
            version=__version__,
            loopback=settings.loopback,
            allowed_hosts=settings.allowed_hosts,
            tls=settings.tls.enabled,
            edge=parts.fleet.endpoints,
        )
        return HttpServer(app, host, port, cert_file=settings.tls.cert_file, key_file=settings.tls.key_file)

    def _job_check(self, parts: Parts) -> Check:
        try:
            parts.jobs.list(limit=1)
        except KeplerError as error:
            return Check("jobs", False, error.sentence)
        return Check("jobs", True, "job store")

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; what is in flight then ends before it returns."""
        with _only_one(self._settings.home):
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            parts = build(self._settings)
            http = self._http(parts)
            try:
                await loop.run_in_executor(None, parts.models.start)
                self._parts = parts
                parts.spool.start()
                await loop.run_in_executor(None, parts.jobs.start)
                await loop.run_in_executor(None, parts.fleet.start)
                if parts.ingest is not None:
                    await loop.run_in_executor(None, parts.ingest.start)
                grpc_address = await parts.grpc_server.start()
                host, port = await loop.run_in_executor(None, http.start)
                await parts.grpc_server.ready()
                self._state = ServiceState.READY
                self._write_service_file(grpc_address, f"{host}:{port}")
                access = (
                    ""
                    if self._settings.tokens_required
                    else " (open: every caller on this machine may do all)"
                )
                self._announce(f"kepler ready grpc={grpc_address} http={host}:{port}{access}")
                loop.run_in_executor(parts.work_pool, parts.warm)
                await self._stop.wait()
                self._state = ServiceState.DRAINING
                log.info("service.draining", grace_s=self._settings.drain_s)
                await parts.grpc_server.stop(self._settings.drain_s)
                await loop.run_in_executor(None, parts.jobs.drain, self._settings.drain_s)
            finally:
                self._state = ServiceState.STOPPED
                self._settings.service_file.unlink(missing_ok=True)
                await loop.run_in_executor(None, http.stop, 2.0)
                parts.close()

    def _write_service_file(self, grpc_address: str, http_address: str) -> None:
        path = self._settings.service_file
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps({"pid": os.getpid(), "grpc": grpc_address, "http": http_address}))
        draft.replace(path)


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Two services on one home would run each other's jobs."""
    with (home / "service.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(
                f"Another kepler serve runs on {home}", fix="Use that one, or serve another home with --home."
            ) from error
        yield


def serve(settings: Settings) -> int:
    """Run a service in this process; gives its exit code."""

    def announce(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    # A dump of this process would hold tokens, keys and rows.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    REDACTOR.learn(settings.database_url.get_secret_value())
    logs = configure_logging(
        level=settings.log.level,
        format=settings.log.format,
        file=settings.log_file,
        file_mb=settings.log.file_mb,
        file_count=settings.log.file_count,
    )
    try:
        asyncio.run(KeplerService(settings, announce).run())
    except KeplerError as error:
        log.error("service.failed", code=error.code, error=error.sentence)
        return 1
    finally:
        logs.close()
    return 0
