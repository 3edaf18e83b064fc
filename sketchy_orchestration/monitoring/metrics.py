"""The system's metrics for Prometheus, read from our tables when asked: nothing to keep up to date."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database.connect import Role, Row, look
from sketchy_orchestration.database.monitoring import MetricSum, Signals
from sketchy_orchestration.domain.burn import Pace
from sketchy_orchestration.domain.health import Check, of_failed_database
from sketchy_orchestration.domain.lateness import upper_bound
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.monitoring import standing
from sketchy_orchestration.monitoring.health import checks_of
from sketchy_orchestration.monitoring.metric_names import (
    COUNTS,
    GAUGES,
    MEAN_SWEEP,
    TIMES,
    UP,
    Count,
    Times,
)
from sketchy_orchestration.settings import Settings

FRESH_SECONDS = 5.0
"""A scrape sooner than this after the last one gets the same answer: many scrapers cost no more than one."""

LEVELS_SECONDS = 60.0
"""Seconds for which service levels, a read of a month's minutes, are kept."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read at one moment; `up` is False when the database did not answer, `said` why, and
    `away_seconds` how long it has not."""

    up: bool
    signals: Signals = field(default_factory=dict)
    totals: tuple[MetricSum, ...] = ()
    mean_sweep_ms: float = 0.0
    round_trip_ms: float = 0.0
    read_ms: float | None = None
    said: str = ""
    away_seconds: float | None = None


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(snapshot: Snapshot) -> bytes:
    """In the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(families(snapshot)))
    return generate_latest(registry)


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """The metrics of a snapshot, each with its help."""
    yield GaugeMetricFamily(UP, "1 when the database answered this scrape", float(snapshot.up))
    if not snapshot.up:
        return
    yield GaugeMetricFamily(MEAN_SWEEP, "Average time of a sweep", snapshot.mean_sweep_ms / 1000)
    for signal, gauge in GAUGES.items():
        found = {label: value for (name, label), value in snapshot.signals.items() if name == signal}
        if gauge.label is None:
            if "" in found:
                yield GaugeMetricFamily(gauge.name, gauge.help, found[""] / gauge.divide)
            continue
        family = GaugeMetricFamily(gauge.name, gauge.help, labels=[gauge.label])
        for label, value in sorted(found.items()):
            family.add_metric([label], value / gauge.divide)
        yield family
    for count in COUNTS:
        yield _counter(count, snapshot.totals)
    for times in TIMES:
        yield _histogram(times, snapshot.totals)


def _counter(count: Count, totals: Iterable[MetricSum]) -> Metric:
    found = {each.label: each.count for each in totals if each.metric == count.metric}
    if count.only is not None:
        return CounterMetricFamily(count.name, count.help, found.get(count.only, 0))
    if count.label is None:
        return CounterMetricFamily(count.name, count.help, sum(found.values()))
    family = CounterMetricFamily(count.name, count.help, labels=[count.label])
    for label, value in sorted(found.items()):
        family.add_metric([label], value)
    return family


def _histogram(times: Times, totals: Iterable[MetricSum]) -> Metric:
    labels = [times.label] if times.label else []
    family = HistogramMetricFamily(times.name, times.help, labels=labels)
    found = [each for each in totals if each.metric == times.metric]
    for each in sorted(found, key=lambda one: one.label):
        buckets = {int(bucket): count for bucket, count in each.buckets.items()}
        # What lies across a bound counts as above it: never better than it was.
        cumulated = [
            (f"{bound:g}", float(sum(n for b, n in buckets.items() if upper_bound(b) <= bound * 1000)))
            for bound in times.bounds
        ]
        cumulated.append(("+Inf", float(sum(buckets.values()))))
        family.add_metric([each.label] if labels else [], cumulated, each.total / 1000)
    return family


class Watch:
    """Reads snapshots for whoever scrapes, at most one in FRESH_SECONDS; safe to use from many threads."""

    def __init__(self, settings: Settings, role: Role = Role.gateway) -> None:
        self._settings = settings
        self._role = role
        self._lock = threading.Lock()
        self._last: tuple[float, Snapshot] | None = None
        self._levels: tuple[float, Signals] | None = None
        self._away_since: float | None = None

    def snapshot(self) -> Snapshot:
        """What is so now, or was a moment ago; never raises when the database does not answer."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] >= FRESH_SECONDS:
                self._last = (time.monotonic(), self._read())
            return self._last[1]

    def exposition(self) -> bytes:
        """The snapshot in the text format of Prometheus."""
        return exposition(self.snapshot())

    def checks(self, *, pooler: str = "none") -> list[Check]:
        """What is well and what is not, of the same snapshot."""
        found = self.snapshot()
        if not found.up:
            return [of_failed_database(found.said, found.away_seconds)]
        return checks_of(found.round_trip_ms, found.signals, pooler=pooler, read_ms=found.read_ms)

    def _read(self) -> Snapshot:
        try:
            # The gateway may sit behind a pooler in transaction mode.
            with look(
                self._settings, self._role, application_name="sketchy metrics", statement_timeout=10.0
            ) as connection:
                found = read(connection, self._with_levels(connection))
        except (SketchyError, psycopg.Error) as error:
            said = " ".join(str(error).split())
            log.warning("metrics_without_database", error=said)
            now = time.monotonic()
            self._away_since = now if self._away_since is None else self._away_since
            return Snapshot(up=False, said=said, away_seconds=now - self._away_since)
        self._away_since = None
        return found

    def _with_levels(self, connection: psycopg.Connection[Row]) -> Signals:
        if self._levels is None or time.monotonic() - self._levels[0] >= LEVELS_SECONDS:
            self._levels = (time.monotonic(), level_signals(connection, self._settings))
        return self._levels[1]


def read(connection: psycopg.Connection[Row], more: Signals | None = None) -> Snapshot:
    """Look once, on this connection."""
    began = time.perf_counter()
    mean = monitoring.mean_sweep_ms(connection)
    round_trip = (time.perf_counter() - began) * 1000
    began = time.perf_counter()
    signals = {**monitoring.signals(connection), **(more or {})}
    read_ms = (time.perf_counter() - began) * 1000
    return Snapshot(True, signals, tuple(monitoring.totals(connection)), mean, round_trip, read_ms)


def level_signals(connection: psycopg.Connection[Row], settings: Settings) -> Signals:
    """Service levels, their budgets and the month's publishes as signals; reads a month of minutes."""
    levels = standing.levels_of(settings)
    burning = standing.burning(connection, levels)
    found: dict[tuple[str, str], float] = {}
    for each in standing.standings(connection, levels):
        name = each.level.name
        if each.contract.share is not None:
            found["service_level_ratio", name] = each.contract.share
        if each.budget_left is not None:
            found["error_budget_left_ratio", name] = each.budget_left
        if each.level.budget:
            found["budget_burning_fast", name] = float(burning.get(name) is Pace.fast)
            found["budget_burning_slow", name] = float(burning.get(name) is Pace.slow)
    if settings.pubnub_monthly_limit:
        month = monitoring.sums(connection, timedelta(days=30)).count("publishes")
        found["publish_month_used_ratio", ""] = month / settings.pubnub_monthly_limit
    return found
