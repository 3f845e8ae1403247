"""What is counted, as Prometheus reads it. No label holds a user, a model or a value of the data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.process_collector import ProcessCollector

from kepler.core.jobs import JobState

log = structlog.get_logger()

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0)
# Known before they happen: a counter that first appears at 90 has no rate.
CODES = (
    "OK",
    "CANCELLED",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "UNAVAILABLE",
    "INTERNAL",
)


class ServiceMetrics:
    """All metrics of one service, in a registry of its own.

    Parameters
    ----------
    methods
        Full RPC paths (``/kepler.v1.JobService/GetJob``), so that each starts at 0.
    version
        Shown by ``kepler_info``.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, methods: Iterable[str] = (), version: str = "") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._lock = threading.Lock()
        self._job_counts: Callable[[], Mapping[str, int]] | None = None
        self._calls = self._counter("rpc_calls", "Finished calls.", "method", "code")
        self._call_seconds = self._histogram("rpc_seconds", "Duration of finished calls.", "method")
        self._http = self._counter("http_requests", "HTTP requests answered.", "route", "status")
        self._rows = self._counter("predict_rows", "Rows scored.")
        self._slice_seconds = self._histogram("predict_slice_seconds", "Time to score one slice of rows.")
        self._streams = self._gauge("predict_streams", "Prediction streams open now.")
        self._uploaded = self._counter("train_rows", "Rows taken for training.")
        self._jobs = self._gauge("jobs", "Jobs by state.", "state")
        self._finished = self._counter("jobs_finished", "Jobs that ended since the start.", "state")
        self._cache = self._counter("model_cache_reads", "Models asked of the warm cache.", "result")
        self._cache_bytes = self._gauge("model_cache_bytes", "Memory of the loaded models.")
        self._gauge("info", "Always 1.", "version").labels(version).set(1)
        for method in methods:
            self._call_seconds.labels(method)
            for code in CODES:
                self._calls.labels(method, code)
        for state in JobState:
            self._jobs.labels(state.value)
            if state.final:
                self._finished.labels(state.value)
        self._cached = {hit: self._cache.labels("hit" if hit else "miss") for hit in (True, False)}
        self._cache_totals = {True: 0, False: 0}

    def call_finished(self, method: str, code: str, seconds: float) -> None:
        self._calls.labels(method, code).inc()
        self._call_seconds.labels(method).observe(seconds)

    def http_finished(self, route: str, status: int) -> None:
        self._http.labels(route, str(status)).inc()

    def stream_opened(self) -> None:
        self._streams.inc()

    def stream_closed(self) -> None:
        self._streams.dec()

    def rows_scored(self, model: str, rows: int, seconds: float) -> None:
        """One slice was scored. ``model`` is for tracers; here it would be a label without bound."""
        self._rows.inc(rows)
        self._slice_seconds.observe(seconds)

    def rows_uploaded(self, rows: int) -> None:
        self._uploaded.inc(rows)

    def job_finished(self, state: JobState) -> None:
        self._finished.labels(state.value).inc()

    def cache_changed(self, hits: int, misses: int, size_bytes: int) -> None:
        """The warm cache's totals since the start, and what it holds now."""
        with self._lock:
            for hit, total in ((True, hits), (False, misses)):
                self._cached[hit].inc(max(0, total - self._cache_totals[hit]))
                self._cache_totals[hit] = max(total, self._cache_totals[hit])
            self._cache_bytes.set(size_bytes)

    def count_jobs_with(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Ask ``counts`` (number by state) at each scrape."""
        self._job_counts = counts

    def render(self) -> bytes:
        """The text format, as /metrics gives it."""
        with self._lock:
            if self._job_counts is not None:
                try:
                    counts = self._job_counts()
                except Exception:
                    # A scrape shows what it can, most of all while the job store is down.
                    log.warning("metrics.jobs_unknown", exc_info=True)
                    counts = {}
                for state in JobState:
                    self._jobs.labels(state.value).set(
                        counts.get(state.value, float("nan") if not counts else 0)
                    )
            return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"kepler_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"kepler_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"kepler_{name}", text, labels, buckets=SECONDS, registry=self.registry)
