"""What devices sent, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kepler.adapters.mqtt.ingest import IngestChannel
from kepler.adapters.mqtt.link import HostLink


class IngestCollector(Collector):
    """Asks the channel at each scrape. No label holds a device: there may be thousands."""

    def __init__(self, channel: IngestChannel, link: HostLink) -> None:
        self._channel, self._link = channel, link

    def collect(self) -> Iterable[Metric]:
        refused = CounterMetricFamily(
            "kepler_ingest_refused", "Messages of devices that failed a check.", labels=["check"]
        )
        for check, count in list(self._channel.refused.items()):
            refused.add_metric([check], count)
        return [
            CounterMetricFamily("kepler_ingest_batches", "Batches taken.", value=self._channel.batches),
            CounterMetricFamily("kepler_ingest_records", "New records taken.", value=self._channel.records),
            GaugeMetricFamily(
                "kepler_ingest_connected", "1 while connected to the broker.", value=float(self._link.online)
            ),
            refused,
        ]

    def describe(self) -> Iterable[Metric]:
        return []
