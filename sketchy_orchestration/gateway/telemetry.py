"""The gateway's own metrics; one registry an application, so that two in one process do not mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Pool(Collector):
    """Reads the pool when asked: nothing to keep up to date."""

    def __init__(self, stats: Callable[[], Mapping[str, int]]) -> None:
        self._stats = stats

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        connections = GaugeMetricFamily(
            "sketchy_gateway_connections", "Database connections of this process", labels=["state"]
        )
        connections.add_metric(["idle"], stats["idle"])
        connections.add_metric(["busy"], stats["size"] - stats["idle"])
        yield connections
        yield GaugeMetricFamily(
            "sketchy_gateway_connections_limit", "Most database connections of this process", stats["limit"]
        )
        yield GaugeMetricFamily(
            "sketchy_gateway_connections_waiting", "Requests that wait for a connection", stats["waiting"]
        )


class Telemetry:
    """Counts and times of requests, by function; unknown paths are one function, `other`."""

    def __init__(self, pool: Callable[[], Mapping[str, int]]) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "sketchy_gateway_requests",
            "Requests answered",
            ["function", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "sketchy_gateway_request_duration_seconds",
            "From a request's head to the end of its answer",
            ["function"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "sketchy_gateway_requests_in_flight", "Requests at work", registry=self.registry
        )
        self.registry.register(_Pool(pool))

    def answered(self, function: str, status: int, seconds: float) -> None:
        """One more answer."""
        self._requests.labels(function, str(status)).inc()
        self._seconds.labels(function).observe(seconds)

    def exposition(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self.registry)
