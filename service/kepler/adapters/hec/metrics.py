"""The spool as Prometheus reads it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kepler.ports.hec import SpoolState


class SpoolCollector(Collector):
    """Asks for the states at each scrape."""

    def __init__(self, states: Callable[[], Sequence[SpoolState]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        label = ["destination"]
        depth = GaugeMetricFamily("kepler_hec_spool_events", "Events that wait for Splunk.", labels=label)
        size = GaugeMetricFamily("kepler_hec_spool_bytes", "Their size.", labels=label)
        age = GaugeMetricFamily("kepler_hec_spool_age_seconds", "Age of the oldest of them.", labels=label)
        dead = GaugeMetricFamily("kepler_hec_dead_letters", "Events that Splunk refused.", labels=label)
        blocked = GaugeMetricFamily("kepler_hec_failing", "1 while posts fail.", labels=label)
        sent = CounterMetricFamily("kepler_hec_sent", "Events delivered.", labels=label)
        resent = CounterMetricFamily("kepler_hec_resent", "Events posted again.", labels=label)
        dropped = CounterMetricFamily("kepler_hec_dropped", "Events dropped to make room.", labels=label)
        failed = CounterMetricFamily(
            "kepler_hec_failed_posts", "Posts that failed.", labels=[*label, "reason"]
        )
        for state in self._states():
            name = [state.destination.value]
            depth.add_metric(name, state.events)
            size.add_metric(name, state.bytes)
            age.add_metric(name, max(0.0, time.time() - state.oldest_at) if state.oldest_at else 0.0)
            dead.add_metric(name, state.dead)
            blocked.add_metric(name, float(bool(state.problem)))
            sent.add_metric(name, state.sent)
            resent.add_metric(name, state.resent)
            dropped.add_metric(name, state.dropped)
            for reason, count in state.failures.items():
                failed.add_metric([*name, reason], count)
        return [depth, size, age, dead, blocked, sent, resent, dropped, failed]

    def describe(self) -> Iterable[Metric]:
        return []
