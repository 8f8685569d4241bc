"""Prometheus metrics of a running watcher, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bcd_edge.errors import ProviderError, UsageError
from bcd_edge.watch.settings import Stats

FIX: Final = 'pip install "bcd-edge[watch]"'


@contextmanager
def served(stats: Stats, port: int, address: str) -> Iterator[None]:
    """Answers `GET /metrics` while the context lasts.

    Raises:
        ProviderError: prometheus-client is not installed.
        UsageError: the address or port is not available.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise ProviderError(f"Metrics need the package prometheus-client, which is not installed; fix: {FIX}") from None
    registry = CollectorRegistry()
    registry.register(_Collector(stats))
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise UsageError(f"Metrics cannot be served on {address}:{port} ({error.strerror or error}); give another --metrics-port.") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector:
    """See prometheus-client's custom collectors: `collect` is called for each scrape."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Any]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        stats = self._stats
        images = CounterMetricFamily("bcd_edge_images", "Images classified since the start, by decision.", labels=["decision"])
        for decision in ("benign", "malignant", "review"):
            images.add_metric([decision], stats.decisions[decision])
        yield images
        yield CounterMetricFamily("bcd_edge_linked", "Further names of images that were answered before.", stats.linked)
        failed = CounterMetricFamily("bcd_edge_failed_attempts", "Attempts that gave no answer, by the file's state afterwards.", labels=["state"])
        for state in ("failed", "quarantined", "gone"):
            failed.add_metric([state], stats.failed_attempts[state])
        yield failed
        yield CounterMetricFamily("bcd_edge_provider_failures", "Failures of the inference engine.", stats.provider_failures)
        yield GaugeMetricFamily("bcd_edge_waiting_files", "Files that wait for an answer.", stats.waiting)
        yield GaugeMetricFamily("bcd_edge_free_bytes", "Free space where the results are.", stats.free_bytes)
        yield GaugeMetricFamily("bcd_edge_heartbeat_timestamp_seconds", "Time of the last heartbeat.", stats.beat_at)
        yield InfoMetricFamily("bcd_edge_watch", "State of the watcher.", {"state": stats.state})
