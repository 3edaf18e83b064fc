"""The timer shift: sleeps until exactly the next deadline, sweeps, beats, repairs its connection."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import structlog
from psycopg import Connection

from sketchy_orchestration.database import shifts, timer
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.domain import timer as decide
from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.realtime.shift import EndReason, RunningShift, ShiftIdentity
from sketchy_orchestration.settings import Settings

HEARTBEAT = 1.0
"""Seconds between heartbeats; no row of ours is updated more often."""

RELIEVE_EVERY = 30.0
"""Seconds between looks whether an older shift should be relieved; the first with the first heartbeat."""

LIMIT = 500
"""Most games in one statement; the flag max_games_per_sweep may lower it."""

LONGEST_RECONNECT = 2.0

SLOW_SWEEP = 5.0
"""Seconds after which a sweep counts as slow, as the service level has it."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Tally:
    """What the shift did since its last report."""

    sweeps: int = 0
    slow_sweeps: int = 0
    sweep_max_ms: float = 0.0
    transitions: int = 0
    extended: int = 0
    set_aside: int = 0
    errors: int = 0
    lateness: Histogram = field(default_factory=Histogram)

    def add(self, swept: timer.Swept, seconds: float) -> None:
        self.sweeps += 1
        self.slow_sweeps += seconds >= SLOW_SWEEP
        self.sweep_max_ms = max(self.sweep_max_ms, seconds * 1000)
        self.transitions += swept.moved
        self.extended += swept.extended
        self.set_aside += swept.set_aside
        self.lateness.add(swept.lateness_ms)

    def numbers(self) -> dict[str, float]:
        return {
            "sweeps": self.sweeps,
            "slow_sweeps": self.slow_sweeps,
            "sweep_max_ms": round(self.sweep_max_ms, 3),
            "transitions": self.transitions,
            "extended": self.extended,
            "set_aside": self.set_aside,
            "errors": self.errors,
            "lateness_p50_ms": round(self.lateness.percentile(0.5), 3),
            "lateness_p99_ms": round(self.lateness.percentile(0.99), 3),
            "lateness_max_ms": round(self.lateness.largest, 3),
        }


class TimerShift:
    """One loop on one connection; nothing in it reads the worker's wall clock."""

    def __init__(self, identity: ShiftIdentity, settings: Settings, connection: Connection[Row]) -> None:
        self._identity = identity
        self._settings = settings
        self._connection = connection
        self._tally = Tally()
        self._rank = 0
        self._seen: str | None = None
        self._candidates: list[UUID] = []
        self._locked_passes = 0
        self._next_beat = time.monotonic() + HEARTBEAT
        self._next_relief = time.monotonic() + HEARTBEAT
        self._next_whole_look = 0.0

    def work(self, running: RunningShift) -> EndReason:
        """Sweep until relieved, stopped or ended; the reason."""
        reconnect = 0.05
        reason: EndReason | None = None
        while reason is None and not running.stopping.is_set():
            try:
                sleep = self._sweep()
                reason = self._beat()
                reconnect = 0.05
            except psycopg.OperationalError as error:
                self._tally.errors += 1
                sleep = 0.0
                if self._connection.broken or self._connection.closed:
                    log.warning("timer shift lost its database", error=str(error).strip(), retry_in=reconnect)
                    if running.stopping.wait(reconnect * random.uniform(0.5, 1)):
                        break
                    reconnect = min(reconnect * 2, LONGEST_RECONNECT)
                    self._reconnect()
                    continue
                log.warning("sweep failed", error=str(error).strip())
                sleep = decide.LONGEST_RETRY
            if running.report_due():
                running.hand_in(self._tally.numbers())
                self._tally = Tally()
            if reason is None and not running.stopping.wait(sleep, self._connection.fileno()):
                self._hear()
        return self._leave(running, reason or EndReason(running.stopping.reason))

    def _sweep(self) -> float:
        now = time.monotonic()
        whole = now >= self._next_whole_look
        candidates, self._candidates = self._candidates, []
        swept = timer.sweep(
            self._connection,
            limit=LIMIT,
            lag=decide.lag(self._rank),
            window=None if whole else decide.WINDOW,
            candidates=candidates,
            look=whole,
            seen=self._seen,
        )
        self._tally.add(swept, time.monotonic() - now)
        if whole:
            self._seen = swept.seen
            took = time.monotonic() - now
            self._next_whole_look = now + decide.whole_look_pause(took if not swept.moved else 0.0)
        self._locked_passes = self._locked_passes + 1 if swept.locked else 0
        found = decide.Pass(
            swept.more and swept.moved + swept.extended + swept.set_aside > 0,
            swept.locked,
            swept.switched_off,
            swept.next_in,
        )
        return decide.sleep_after(found, rank=self._rank, locked_passes=self._locked_passes)

    def _hear(self) -> None:
        """Take in notifications; one about a last drawing names its game."""
        for notification in self._connection.notifies(timeout=0):
            if notification.channel == "orchestration_all_submitted":
                self._candidates.append(UUID(notification.payload))

    def _beat(self) -> EndReason | None:
        now = time.monotonic()
        if now < self._next_beat:
            return None
        self._next_beat = now + HEARTBEAT
        beat = shifts.beat(self._connection, self._identity.shift_id, self._tally.numbers())
        if beat is None:
            return EndReason.ended_by_supervisor
        if beat.relieved:
            return EndReason.relieved
        if beat.too_long:
            return EndReason.hard_bound
        self._rank = beat.rank
        if now >= self._next_relief:
            self._next_relief = now + RELIEVE_EVERY
            relieved = shifts.relieve(self._connection, self._identity.shift_id, self._identity.kind)
            if relieved is not None:
                log.info("relieves an older shift", relieved=str(relieved))
        return None

    def _reconnect(self) -> None:
        try:
            self._connection = open_connection(self._settings)
        except SketchyError as error:
            log.warning("no database yet", error=str(error))

    def _leave(self, running: RunningShift, reason: EndReason) -> EndReason:
        numbers = self._tally.numbers()
        running.hand_in(numbers)
        try:
            shifts.end(self._connection, self._identity.shift_id, reason, numbers)
            self._connection.close()
        except psycopg.Error as error:
            log.warning("could not record the end of the shift", error=str(error).strip())
        log.info("timer shift ended", reason=str(reason), **numbers)
        return reason


def open_connection(settings: Settings) -> Connection[Row]:
    """A listening connection of role sketchy_timer, every statement bounded."""
    connection = connect(
        settings,
        Role.timer,
        application_name="sketchy timer shift",
        statement_timeout=10.0,
        lock_timeout=0.2,
    )
    timer.listen(connection)
    return connection


def start_timer_shift(identity: ShiftIdentity, settings: Settings) -> RunningShift:
    """Start a timer shift.

    Raises:
        SketchyError: the database cannot be reached, or lacks our schema or role.
    """
    connection = open_connection(settings)
    shifts.start(
        connection,
        identity.shift_id,
        identity.kind,
        identity.version,
        identity.host,
        identity.pid,
        identity.dagster_run_id,
    )
    return RunningShift(identity, TimerShift(identity, settings, connection).work)
