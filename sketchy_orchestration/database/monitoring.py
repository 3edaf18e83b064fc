"""What the watch reads and writes: signals, minutes, observations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import Connection
from psycopg.rows import class_row

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.domain.service_levels import Sums

Signals = Mapping[tuple[str, str], float]
"""Value by (name, label) of what is so at one moment; see migration 0041."""


@dataclass(frozen=True, slots=True)
class MetricSum:
    """A metric's sum over a window, or since the installation; `total` and `largest` in ms."""

    metric: str
    label: str
    count: int
    total: float
    largest: float
    buckets: dict[str, int]

    def histogram(self) -> Histogram:
        found = Histogram(largest=self.largest or float("inf"))
        found.counts.update({int(bucket): count for bucket, count in self.buckets.items()})
        return found


def signals(connection: Connection[Row]) -> Signals:
    """Look once; a few milliseconds."""
    return {(name, label): value for name, label, value in connection.execute(query("monitoring.signals"))}


def roll_up(connection: Connection[Row]) -> int:
    """Roll up the minutes that are over; how many. 0 as well while somebody else does it."""
    row = connection.execute(query("monitoring.roll_up")).fetchone()
    return int(row[0]) if row else 0


def totals(connection: Connection[Row]) -> list[MetricSum]:
    """Everything counted since the installation; never goes back."""
    with connection.cursor(row_factory=class_row(MetricSum)) as cursor:
        return cursor.execute(query("monitoring.totals")).fetchall()


def metric_sums(
    connection: Connection[Row], since: datetime, until: datetime | None = None
) -> list[MetricSum]:
    """What the minutes of [since, until) hold."""
    with connection.cursor(row_factory=class_row(MetricSum)) as cursor:
        return cursor.execute(query("monitoring.sums"), {"since": since, "until": until}).fetchall()


def sums(connection: Connection[Row], window: timedelta, until: datetime | None = None) -> Sums:
    """The sums of a window that ends now, or at `until`."""
    end = until or database_now(connection)
    counts: dict[tuple[str, str], int] = {}
    times: dict[str, Histogram] = {}
    for each in metric_sums(connection, end - window, until):
        counts[each.metric, each.label] = each.count
        if each.buckets:
            times.setdefault(each.metric, Histogram()).merge(each.histogram())
    return Sums(counts, times)


def database_now(connection: Connection[Row]) -> datetime:
    """The database's clock."""
    row = connection.execute(query("monitoring.now")).fetchone()
    assert row is not None, "a select without from answers one row"  # noqa: S101
    moment: datetime = row[0]
    return moment


def observe(
    connection: Connection[Row], name: str, value: float, *, label: str = "", note: str | None = None
) -> None:
    """Record something from outside our tables: a canary, Dagster's state, tickets, satisfaction."""
    values = {"name": name, "label": label, "value": value, "note": note}
    connection.execute(query("monitoring.observe"), values)


@dataclass(frozen=True, slots=True)
class Input:
    """What people reported: support_tickets in all, or satisfaction on average, of one source."""

    name: str
    label: str
    value: float


def inputs(connection: Connection[Row], window: timedelta) -> list[Input]:
    """What was reported within a window that ends now; at most a week is kept."""
    since = database_now(connection) - window
    with connection.cursor(row_factory=class_row(Input)) as cursor:
        return cursor.execute(query("monitoring.inputs"), {"since": since}).fetchall()


@dataclass(frozen=True, slots=True)
class Accounted:
    """Events of the ledger: written, settled (delivered, dead or expired), and lost track of: neither settled
    nor known to wait."""

    written: int
    settled: int
    unaccounted: int


def refresh_ledger(connection: Connection[Row]) -> None:
    """Bring the ledger's open hours up to date; reads the events of two hours at least."""
    connection.execute(query("monitoring.refresh_ledger"))


def accounted(connection: Connection[Row], window: timedelta) -> Accounted:
    """What the ledger says of a window; its open hours are brought up to date first."""
    refresh_ledger(connection)
    since = database_now(connection) - window
    with connection.cursor(row_factory=class_row(Accounted)) as cursor:
        found = cursor.execute(query("monitoring.accounted"), {"since": since}).fetchone()
    assert found is not None, "an aggregate always answers one row"  # noqa: S101
    return found


@contextmanager
def watching_alone(connection: Connection[Row]) -> Iterator[bool]:
    """Whether nobody else evaluates alerts now; if so, nobody does until the block ends."""
    row = connection.execute(query("monitoring.lock_watch")).fetchone()
    alone = bool(row and row[0])
    try:
        yield alone
    finally:
        if alone and not connection.closed:
            connection.execute(query("monitoring.unlock_watch"))


def mean_sweep_ms(connection: Connection[Row]) -> float:
    """How long a sweep takes on average lately, ms; 0 without any."""
    row = connection.execute(query("monitoring.sweep_time")).fetchone()
    return float(row[0]) if row else 0.0
