"""The timer shift: sleeps until exactly the next deadline, sweeps, beats, repairs its connection."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import structlog
from psycopg import Connection

from sketchy_orchestration import crash_points
from sketchy_orchestration.database import shifts, timer
from sketchy_orchestration.database.connect import Role, Row, connect
from sketchy_orchestration.domain import timer as decide
from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.realtime.breaking_off import breaking_off, unless_stopped
from sketchy_orchestration.realtime.one_by_one import (
    LOCK_TIMEOUT,
    SWEEP_TIMEOUT,
    sweep_after_time_out,
    try_hanging_again,
)
from sketchy_orchestration.realtime.shift import EndReason, RunningShift, ShiftIdentity
from sketchy_orchestration.realtime.stop import Stop
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.version import this_version

HEARTBEAT = 1.0
"""Seconds between heartbeats; no row of ours is updated more often."""

RELIEVE_EVERY = 30.0
"""Seconds between looks whether an older shift should be relieved; the first with the first heartbeat."""

LIMIT = 500
"""Most games in one statement; the flag max_games_per_sweep may lower it."""

LONGEST_RECONNECT = 1.0

LONGEST_PAUSE = 0.5
"""After a statement that fails again and again (disk full, time-outs): 20, 40 … ms, at most this."""

LINGER = 1.5
"""Seconds a relieved shift works on: until each of the others has had a heartbeat and moved up a rank."""

REMEMBERED = 3.0
"""Seconds a game is tried again whose last drawing came in: somebody may hold its row at first."""

SLOW_SWEEP = 5.0
"""Seconds after which a sweep counts as slow, as the service level has it; one cut off counts, too."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Tally:
    """What the shift did since its last report."""

    sweeps: int = 0
    slow_sweeps: int = 0
    sweep_ms: float = 0.0
    sweep_max_ms: float = 0.0
    transitions: int = 0
    extended: int = 0
    set_aside: int = 0
    errors: int = 0
    lateness: Histogram = field(default_factory=Histogram)

    def add(self, swept: timer.Swept, seconds: float) -> None:
        self.sweeps += 1
        self.slow_sweeps += seconds >= SLOW_SWEEP
        self.sweep_ms += seconds * 1000
        self.sweep_max_ms = max(self.sweep_max_ms, seconds * 1000)
        self.transitions += swept.moved
        self.extended += swept.extended
        self.set_aside += swept.set_aside
        self.lateness.add(swept.lateness_ms)

    def cut_off(self, seconds: float) -> None:
        """A sweep ended by its time-out is a slow one, however long it would have taken."""
        self.sweeps += 1
        self.slow_sweeps += 1
        self.sweep_ms += seconds * 1000
        self.sweep_max_ms = max(self.sweep_max_ms, seconds * 1000)

    def numbers(self) -> dict[str, float]:
        return {
            "sweeps": self.sweeps,
            "slow_sweeps": self.slow_sweeps,
            "sweep_ms": round(self.sweep_ms, 3),
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
        self._rank = 1  # until the first heartbeat tells: a newcomer gets in nobody's way
        self._seen: str | None = None
        self._candidates: dict[UUID, float] = {}
        self._leave_at: float | None = None
        self._reason: EndReason | None = None
        self._locked_passes = 0
        self._next_beat = 0.0
        self._next_relief = time.monotonic() + HEARTBEAT
        self._next_whole_look = 0.0
        self._next_hanging = 0.0

    def work(self, running: RunningShift) -> EndReason:
        """Sweep until relieved, stopped or ended; the reason."""
        stopping = running.stopping
        with breaking_off(stopping, lambda: self._connection):
            self._work(running)
        return self._leave(running, self._reason or EndReason(stopping.reason))

    def _work(self, running: RunningShift) -> None:
        stopping = running.stopping
        failures = 0
        while self._goes_on(stopping):
            try:
                if self._connection.closed:
                    self._reconnect(stopping)
                    if failures <= 1:  # only this session was cut: others are at work meanwhile
                        timer.warm_up(self._connection)
                sleep = self._sweep_or_single_out(stopping)
                self._beat()
                failures = 0
                if self._reason is None and not stopping.wait(sleep, self._connection.fileno()):
                    self._hear()
            except (psycopg.Error, SketchyError) as error:
                if stopping.is_set():
                    log.info("broken off by the stop", error=" ".join(str(error).split()))
                    return
                failures += 1
                self._tally.errors += 1
                stopping.wait(self._pause_after(error, failures))
            if running.report_due():
                running.hand_in(self._tally.numbers())
                self._tally = Tally()

    def _goes_on(self, stopping: Stop) -> bool:
        return self._reason is None and not stopping.is_set()

    def _reconnect(self, stopping: Stop) -> None:
        connection = unless_stopped(stopping, lambda: open_connection(self._settings))
        if connection is None:
            raise SketchyError("not connected any more, because of the stop")
        self._connection = connection

    def _pause_after(self, error: Exception, failures: int) -> float:
        """Seconds to wait after so many failures in a row; not in step with other shifts."""
        said = " ".join(str(error).split())
        if self._connection.closed:
            longest: float = min(LONGEST_RECONNECT, 0.05 * 2 ** min(failures - 1, 8))
            pause = longest * random.uniform(0.5, 1)
            log.warning("timer shift has no database", error=said, retry_in=round(pause, 3))
        else:
            # For a lock the statement itself has waited; and when it is free, no time is to be lost.
            doubled = 0 if isinstance(error, psycopg.errors.LockNotAvailable) else min(failures - 1, 8)
            pause = min(LONGEST_PAUSE, decide.LONGEST_RETRY * 2**doubled)
            log.warning("sweep failed", error=said, retry_in=pause)
        return pause

    def _sweep_or_single_out(self, stopping: Stop) -> float:
        """Sweep; when that was cut off by its time-out, game by game; seconds to sleep."""
        began = time.monotonic()
        try:
            sleep = self._sweep()
            if began >= self._next_hanging:
                self._next_hanging = began + decide.LOOK_AHEAD
                if (again := try_hanging_again(self._connection)) is not None:
                    self._tally.add(again, time.monotonic() - began)
                    sleep = 0.0
        except psycopg.errors.QueryCanceled as error:
            if stopping.is_set():
                raise
            self._tally.errors += 1
            self._tally.cut_off(time.monotonic() - began)
            log.warning("sweep cut off, goes on game by game", error=error.diag.message_primary)
            again_at = time.monotonic()

            def next_one() -> bool:
                self._beat()
                return self._goes_on(stopping)

            swept = sweep_after_time_out(
                self._connection, lag=decide.lag(self._rank), candidates=self._candidates, next_one=next_one
            )
            self._tally.add(swept, time.monotonic() - again_at)
            if swept.moved + swept.extended + swept.set_aside == 0:
                # No game's fault: then it was the look at everything, which can wait.
                self._next_whole_look = began + decide.whole_look_pause(SWEEP_TIMEOUT)
                raise
            sleep = 0.0
        return sleep

    def _sweep(self) -> float:
        now = time.monotonic()
        whole = now >= self._next_whole_look
        self._candidates = {game: until for game, until in self._candidates.items() if until > now}
        crash_points.reach("sweep.begin")
        swept = timer.sweep(
            self._connection,
            limit=LIMIT,
            lag=decide.lag(self._rank),
            window=None if whole else decide.WINDOW,
            candidates=list(self._candidates),
            look=whole,
            seen=self._seen,
        )
        if swept.moved:
            crash_points.reach("sweep.committed")
        self._tally.add(swept, time.monotonic() - now)
        if whole and not swept.switched_off:
            # Not while switched off: the drawings of that time are to be found afterwards.
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
                self._candidates[UUID(notification.payload)] = time.monotonic() + REMEMBERED

    def _beat(self) -> None:
        """Once a second: say that we are there, hear whether we are to leave."""
        now = time.monotonic()
        if self._leave_at is not None and now >= self._leave_at:
            self._reason = EndReason.relieved
        if self._reason is not None or now < self._next_beat:
            return
        self._next_beat = now + HEARTBEAT
        beat = shifts.beat(self._connection, self._identity.shift_id, self._tally.numbers())
        if beat is None:
            self._reason = EndReason.ended_by_supervisor
            return
        if beat.relieved and self._leave_at is None:
            self._leave_at = now + LINGER
        if beat.too_long:
            self._reason = EndReason.hard_bound
            return
        self._rank = beat.rank
        if now >= self._next_relief:
            self._next_relief = now + RELIEVE_EVERY
            relieved = shifts.relieve(self._connection, self._identity.shift_id, self._identity.kind)
            if relieved is not None:
                log.info("relieves an older shift", relieved=str(relieved))

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
        statement_timeout=SWEEP_TIMEOUT,
        lock_timeout=LOCK_TIMEOUT,
    )
    try:
        timer.listen(connection)
    except psycopg.Error:
        connection.close()
        raise
    return connection


def start_timer_shift(identity: ShiftIdentity, settings: Settings) -> RunningShift:
    """Start a timer shift.

    Raises:
        SketchyError: the database cannot be reached, or lacks our schema or role.
    """
    connection = open_connection(settings)
    timer.warm_up(connection)
    shifts.start(
        connection,
        identity.shift_id,
        identity.kind,
        identity.version,
        identity.host,
        identity.pid,
        identity.dagster_run_id,
        this_version(settings).label,
    )
    return RunningShift(identity, TimerShift(identity, settings, connection).work)
