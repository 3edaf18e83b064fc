"""Keeps shifts at work, whoever runs them: looks, decides by `domain.supervision`, acts.

The host of the runs (Dagster) is behind `Runs`, so that all of it works and is tested without one.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

import psutil
import psycopg
import structlog

from sketchy_orchestration.database import shifts, supervision
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.domain.supervision import Overdue, Plan, Policy, Run, Shift, plan
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.realtime.shift import ShiftKind
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.version import this_version

GAMES_OVERDUE_BY = 2.0
"""Seconds after which a game that has not moved on is the backstop's business; shifts need milliseconds."""

EVENTS_OVERDUE_BY = 10.0
"""Seconds after which an event without an outcome is: longer than an attempt and its first retries."""

RECENT = timedelta(minutes=10)
"""How far the frequent look at events goes back: what waits was recent once, and then it was seen."""

RETENTION = timedelta(hours=24)
"""How far the look of every minute goes back: about a second for a million events."""

POLICY = Policy(wanted=shifts.WANTED, soft_bound=shifts.SOFT_BOUND.total_seconds())

log = structlog.get_logger(__name__)


class SupervisionError(SketchyError):
    """The database cannot be asked what is at work or overdue."""


class Runs(Protocol):
    """The runs in which shifts are hosted."""

    def unfinished(self, kind: ShiftKind) -> Sequence[Run]:
        """Runs for shifts of this kind that have not finished."""
        ...

    def has_finished(self, run_id: str) -> bool:
        """Whether this run is known here and has finished."""
        ...

    def end(self, run_id: str, why: str) -> None:
        """End a run in which no shift lives; one that cannot be reached any more is recorded as failed."""
        ...


def supervise(settings: Settings, kind: ShiftKind, runs: Runs, suspected: Mapping[str, str]) -> Plan:
    """Look at the shifts of one kind, end what is dead, and say what to start.

    Args:
        suspected: `Plan.suspects` of the last look.

    Raises:
        SketchyError: the database cannot be reached or lacks our schema.
    """
    # Runs before rows: a run that comes to work in between is then seen with its row.
    unfinished = runs.unfinished(kind)
    with _asking(settings) as connection:
        own = this_version(settings).label
        rows = supervision.shift_rows(connection, kind, [run.run_id for run in unfinished], own)
        found = plan(
            [_judged(row, unfinished, runs) for row in rows],
            unfinished,
            suspected=dict(suspected),
            paused=_paused(connection, kind),
            policy=POLICY,
        )
        for ending in found.endings:
            shift = ending.shift
            if supervision.end_shift(connection, shift.shift_id, shift.heartbeat, ending.reason):
                log.warning(
                    "shift declared ended",
                    kind=str(kind),
                    shift_id=str(shift.shift_id),
                    reason=str(ending.reason),
                    silent_seconds=round(shift.silence, 1),
                )
    for run_id in found.end_runs:
        runs.end(run_id, f"no {kind} shift lives in this run any more")
    return found


def overdue_games(settings: Settings) -> Overdue:
    """Games that should have moved on.

    Raises:
        SketchyError: the database cannot be reached or lacks our schema.
    """
    with _asking(settings) as connection:
        return supervision.overdue_games(connection, by=GAMES_OVERDUE_BY)


def overdue_events(settings: Settings, window: timedelta = RETENTION) -> Overdue:
    """Events of the last `window` that should have been heard.

    They are not counted while fan-out shifts are at work: those hold the lanes, and nobody else could send.

    Raises:
        SketchyError: the database cannot be reached or lacks our schema.
    """
    with _asking(settings) as connection:
        return supervision.overdue_events(connection, by=EVENTS_OVERDUE_BY, window=window)


@contextmanager
def _asking(settings: Settings) -> Iterator[psycopg.Connection[Row]]:
    try:
        with connect(
            settings, Role.operator, application_name="sketchy supervision", statement_timeout=10.0
        ) as connection:
            yield connection
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise SupervisionError("the database lacks our schema: run `sketchy migrate up`") from None
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise SupervisionError(f"the database did not say what is at work: {said}") from None


def _paused(connection: psycopg.Connection[Row], kind: ShiftKind) -> str | None:
    stopped = supervision.switch(connection, "emergency_stop")
    if stopped is not None and stopped.enabled:
        return f"an emergency stop of {stopped.changed_by} stands ({stopped.reason})"
    # Relays go on sequencing while broadcasting is off; a sweeper would have nothing to do.
    if kind is not ShiftKind.timer:
        return None
    flag = supervision.switch(connection, "timer_monitoring")
    if flag is None or flag.enabled:
        return None
    return f"the flag timer_monitoring was switched off by {flag.changed_by} ({flag.reason})"


def _judged(row: supervision.ShiftRow, unfinished: Sequence[Run], runs: Runs) -> Shift:
    return Shift(
        shift_id=row.shift_id,
        run_id=row.run_id,
        heartbeat=row.heartbeat,
        age=row.age,
        silence=row.silence,
        relieved=row.relieved,
        gone=row.silence >= POLICY.gone_after and _is_gone(row, unfinished, runs),
        ended_for=row.ended_for,
        outranks=row.outranks,
    )


def _is_gone(row: supervision.ShiftRow, unfinished: Sequence[Run], runs: Runs) -> bool:
    if row.host == socket.gethostname() and not psutil.pid_exists(row.pid):
        return True
    if row.run_id is None or any(run.run_id == row.run_id for run in unfinished):
        return False
    return runs.has_finished(row.run_id)
