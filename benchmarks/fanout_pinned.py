"""Beside a transaction that stays open: what a backlog drains at before it, and while it keeps dead rows.

Run by benchmarks.fanout; for half an hour: python -m benchmarks.fanout --pinned 1800
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from uuid import uuid4

import psycopg

from benchmarks.fanout import DATA, GAMES, WRITE, Stack, all_at_work, burst, connected, number, relays, row

BURSTS = 3


@contextmanager
def old_transaction(stack: Stack) -> Iterator[None]:
    """An open transaction with a number and a snapshot: nothing that dies after it can be removed."""
    with psycopg.connect(stack.url) as connection:
        connection.execute("set transaction isolation level repeatable read")
        connection.execute("select pg_current_xact_id()")
        yield


def pinned(stack: Stack, relay_count: int, seconds: float, events: int) -> tuple[float, float]:
    """Events a second drained before and `seconds` after a transaction was opened that is still open then.

    Meanwhile events go on being written and delivered, so that the relays save how far they have come.
    """
    with connected(stack) as connection, relays(stack, relay_count) as working:
        all_at_work(connection, working)
        before = median(burst(connection, events, working) for _ in range(BURSTS))
        with old_transaction(stack):
            games, until = [uuid4() for _ in range(GAMES // 10)], time.monotonic() + seconds
            while time.monotonic() < until:
                connection.execute(WRITE, {"games": games, "data": DATA})
                time.sleep(0.2)
            after = median(burst(connection, events, working) for _ in range(BURSTS))
    return before, after


def measure(stack: Stack, relay_count: int, seconds: float, events: int) -> None:
    """Print the row."""
    before, after = pinned(stack, relay_count, seconds, events)
    with connected(stack) as connection:
        dead = number(
            connection,
            "select sum(n_dead_tup) from pg_stat_user_tables where schemaname = 'orchestration'",
        )
    row(
        f"draining beside a transaction open for {seconds:g} s",
        f"{after:,.0f}/s, {after / before:.2f} of before",
        "≥ 0.95 (30 min)",
        f"before it {before:,.0f}/s; {dead:,.0f} dead rows",
    )
