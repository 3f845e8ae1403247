"""Metrics: present from the start, bounded in labels, and readable while parts fail."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from kepler.adapters.telemetry.metrics import CODES, ServiceMetrics
from kepler.core.jobs import JobState

METHOD = "/kepler.v1.JobService/GetJob"


def samples(metrics: ServiceMetrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def test_everything_known_starts_at_zero() -> None:
    found = samples(ServiceMetrics([METHOD], "1.2"))
    for code in CODES:
        assert found["kepler_rpc_calls_total", code, METHOD] == 0
    assert found["kepler_jobs_finished_total", "failed"] == 0
    assert found["kepler_model_cache_reads_total", "miss"] == 0
    assert found["kepler_info", "1.2"] == 1
    assert ("process_resident_memory_bytes",) in found


def test_what_happens_is_counted() -> None:
    metrics = ServiceMetrics()
    metrics.call_finished(METHOD, "OK", 0.2)
    metrics.http_finished("/readyz", 503)
    metrics.stream_opened()
    metrics.stream_opened()
    metrics.stream_closed()
    metrics.rows_scored("user.ana/x", 50_000, 0.1)
    metrics.rows_uploaded(10)
    metrics.job_finished(JobState.FAILED)
    metrics.cache_changed(hits=1, misses=0, size_bytes=512)
    metrics.cache_changed(hits=1, misses=0, size_bytes=1024)
    found = samples(metrics)
    assert found["kepler_rpc_calls_total", "OK", METHOD] == 1
    assert found["kepler_rpc_seconds_sum", METHOD] == 0.2
    assert found["kepler_http_requests_total", "/readyz", "503"] == 1
    assert found["kepler_predict_streams",] == 1
    assert found["kepler_predict_rows_total",] == 50_000
    assert found["kepler_train_rows_total",] == 10
    assert found["kepler_jobs_finished_total", "failed"] == 1
    assert found["kepler_model_cache_reads_total", "hit"] == 1
    assert found["kepler_model_cache_bytes",] == 1024
    assert "ana" not in metrics.render().decode()


def test_jobs_are_asked_at_each_scrape_and_may_fail() -> None:
    metrics = ServiceMetrics()
    counts: dict[str, int] = {"running": 2}
    metrics.count_jobs_with(lambda: counts)
    found = samples(metrics)
    assert (found["kepler_jobs", "running"], found["kepler_jobs", "queued"]) == (2, 0)

    def broken() -> Mapping[str, int]:
        raise RuntimeError("store is down")

    metrics.count_jobs_with(broken)
    value = samples(metrics)["kepler_jobs", "running"]
    assert value != value  # not a number: unknown
