"""Sweeping game by game, after a statement was cut off by its time-out: finds the game that hangs.

Somebody's trigger may sleep or loop. No exception handler inside the database ends that, so its whole batch
is undone by the time-out. Then each due game gets a statement, and a short time-out, of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

import psycopg
import structlog
from psycopg import Connection

from sketchy_orchestration.database import timer
from sketchy_orchestration.database.connect import Row

SWEEP_TIMEOUT = 3.0
"""Seconds a sweep may take: thirty times what its largest batch does."""

LOCK_TIMEOUT = 0.2
"""Seconds a sweep waits for a table or a switch: less than GAME_TIMEOUT, or the game would be blamed."""

GAME_TIMEOUT = 0.25
"""Seconds one game may take by itself: a hundred times what it does."""

AT_ONCE = 500
"""Most games in one such pass."""

log = structlog.get_logger(__name__)


def sweep_one_by_one(
    connection: Connection[Row], games: Iterable[UUID], next_one: Callable[[], bool] = lambda: True
) -> timer.Swept:
    """Sweep each game by itself and set aside those that hang; what was done, in one.

    Args:
        next_one: asked before each game, as each may take its time: whether to go on.

    Raises:
        psycopg.Error: what is no single game's fault.
    """
    whole = timer.Swept(0, 0, 0, 0, 0, False, True, [], None, "")
    with timer.statement_timeout(connection, GAME_TIMEOUT, afterwards=SWEEP_TIMEOUT):
        for game in games:
            if not next_one():
                break
            try:
                swept = timer.sweep(connection, limit=1, window=SWEEP_TIMEOUT, only=[game])
            except psycopg.errors.QueryCanceled:
                if not next_one():
                    raise  # by a stop, and no fault of the game
                why = f"hangs: not moved within {GAME_TIMEOUT:g} s"
                timer.set_aside(connection, game, why)
                log.warning("game set aside", game_id=str(game), error=why)
                whole = whole.and_then(set_aside=1)
                continue
            whole = whole.and_then(
                moved=swept.moved,
                extended=swept.extended,
                set_aside=swept.set_aside,
                lateness_ms=swept.lateness_ms,
                switched_off=swept.switched_off,
            )
    return whole


def sweep_after_time_out(
    connection: Connection[Row],
    *,
    lag: float = 0.0,
    candidates: Iterable[UUID] = (),
    next_one: Callable[[], bool] = lambda: True,
) -> timer.Swept:
    """As `sweep_one_by_one`, for all that is due and for games that may end drawing early."""
    due = timer.due(connection, lag=lag, limit=AT_ONCE)
    return sweep_one_by_one(connection, dict.fromkeys([*due, *candidates]), next_one)


def try_hanging_again(connection: Connection[Row]) -> timer.Swept | None:
    """One game that hung and whose backoff is over, by itself; None when there is none."""
    again = timer.hanging(connection, limit=1)
    return sweep_one_by_one(connection, again) if again else None
