"""What a transaction that stays open costs the fan-out: two systems with the same events, one of them pinned.

Each has a Postgres, a local PubNub and relays of its own, so that what is not the transaction's doing (tables
that grow, relays that get old, a noisy machine) happens to both; the backlogs are drained in turns.

Run by benchmarks.fanout; for half an hour: python -m benchmarks.fanout --pinned 1800
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from uuid import uuid4

import psycopg

from benchmarks.fanout import DATA, WRITE, all_at_work, burst, connected, number, relays, row, stack

TURNS = 9
# A hundred events a second in each.
_AT_ONCE, _PAUSE_SECONDS = 50, 0.5
_DEAD = "select sum(n_dead_tup) from pg_stat_user_tables where schemaname = 'orchestration'"


@dataclass(frozen=True, eq=False)
class System:
    """One of the two, with its relays at work."""

    url: str
    connection: psycopg.Connection
    working: list[subprocess.Popen[bytes]]

    def drain(self, events: int) -> float:
        return burst(self.connection, events, self.working)


@contextmanager
def system(relay_count: int) -> Iterator[System]:
    with stack() as there, connected(there) as connection, relays(there, relay_count) as working:
        all_at_work(connection, working)
        yield System(there.url, connection, working)


@contextmanager
def old_transaction(url: str) -> Iterator[None]:
    """An open transaction with a number and a snapshot: nothing that dies after it can be removed."""
    with psycopg.connect(url) as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select pg_current_xact_id()")
        yield


@dataclass(frozen=True)
class Turns:
    """Events a second drained by each, medians; `ratio` is the median of the turns' ratios."""

    free: float
    pinned: float
    ratio: float


def turns(free: System, pinned: System, events: int) -> Turns:
    """Whoever is second in one turn is first in the next."""
    rates: list[tuple[float, float]] = []
    for turn in range(TURNS):
        if turn % 2:
            second = pinned.drain(events)
            rates.append((free.drain(events), second))
        else:
            rates.append((free.drain(events), pinned.drain(events)))
    return Turns(median(a for a, _ in rates), median(b for _, b in rates), median(b / a for a, b in rates))


def measure(relay_count: int, seconds: float, events: int) -> None:
    """Print the row."""
    with ExitStack() as opened:
        free, pinned = (opened.enter_context(system(relay_count)) for _ in range(2))
        free.drain(events), pinned.drain(events)  # so that neither is measured before it is warm
        before = turns(free, pinned, events)
        opened.enter_context(old_transaction(pinned.url))
        games, until = [uuid4() for _ in range(_AT_ONCE)], time.monotonic() + seconds
        while time.monotonic() < until:
            for each in (free, pinned):
                each.connection.execute(WRITE, {"games": games, "data": DATA})
            time.sleep(_PAUSE_SECONDS)
        after = turns(free, pinned, events)
        dead = number(free.connection, _DEAD), number(pinned.connection, _DEAD)
    row(
        f"draining beside a transaction open for {seconds:g} s, against the same without it",
        f"{after.pinned:,.0f}/s, {after.ratio:.2f} of {after.free:,.0f}/s",
        "≥ 0.95 (30 min)",
        f"before it {before.ratio:.2f} of {before.free:,.0f}/s; dead rows {dead[1]:,.0f} to {dead[0]:,.0f}",
    )
