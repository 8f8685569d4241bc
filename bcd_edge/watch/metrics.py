"""Prometheus metrics of a running watcher, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bcd_edge.errors import ProviderError, UsageError
from bcd_edge.watch.settings import Tally

FIX: Final = 'pip install "bcd-edge[watch]"'


@contextmanager
def served(tally: Tally, port: int, address: str) -> Iterator[None]:
    """Answers `GET /metrics` while the context lasts.

    Raises:
        ProviderError: prometheus-client is not installed.
        UsageError: the address or port cannot be had.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise ProviderError(f"Metrics need the package prometheus-client, which is not installed; fix: {FIX}") from None
    registry = CollectorRegistry()
    registry.register(_Collector(tally))
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

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Any]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        tally = self._tally
        images = CounterMetricFamily("bcd_edge_images", "Images classified since the start, by decision.", labels=["decision"])
        for decision in ("benign", "malignant", "review"):
            images.add_metric([decision], tally.decisions[decision])
        yield images
        yield CounterMetricFamily("bcd_edge_linked", "Further names of images that were answered before.", tally.linked)
        setbacks = CounterMetricFamily("bcd_edge_setbacks", "Files that got no answer at a try, by what became of them.", labels=["state"])
        for state in ("failed", "quarantined", "gone"):
            setbacks.add_metric([state], tally.setbacks[state])
        yield setbacks
        yield CounterMetricFamily("bcd_edge_provider_failures", "Failures of the inference engine.", tally.provider_failures)
        yield GaugeMetricFamily("bcd_edge_waiting_files", "Files that wait for an answer.", tally.waiting)
        yield GaugeMetricFamily("bcd_edge_free_bytes", "Free space where the results are.", tally.free_bytes)
        yield GaugeMetricFamily("bcd_edge_heartbeat_timestamp_seconds", "When the loop was alive last.", tally.beat_at)
        yield InfoMetricFamily("bcd_edge_watch", "What the watcher does now.", {"state": tally.state})
