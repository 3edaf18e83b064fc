"""A shift: a long run whose loop works in a thread of its own until it is relieved or stopped."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID, uuid4

import structlog

from sketchy_orchestration import __version__
from sketchy_orchestration.realtime.stop import Stop
from sketchy_orchestration.settings import Settings

REPORT_EVERY = 300.0
"""Seconds between the reports of a shift."""

log = structlog.get_logger(__name__)


class ShiftKind(StrEnum):
    """What a shift does: sweep, or relay."""

    timer = "timer"
    fanout = "fanout"


class EndReason(StrEnum):
    """Why a shift left."""

    relieved = "relieved"
    stopped = "stopped"
    ended_by_supervisor = "ended_by_supervisor"
    hard_bound = "hard_bound"
    failed = "failed"


@dataclass(frozen=True, slots=True)
class ShiftIdentity:
    """Who is at work: one row of orchestration.shifts."""

    shift_id: UUID
    kind: ShiftKind
    version: str
    host: str
    pid: int
    dagster_run_id: str | None


@dataclass(frozen=True, slots=True)
class ShiftReport:
    """What a shift did since its last report; `numbers` by name, milliseconds where the name ends in _ms."""

    identity: ShiftIdentity
    since: datetime
    until: datetime
    numbers: dict[str, float]


def new_identity(kind: ShiftKind, dagster_run_id: str | None = None) -> ShiftIdentity:
    """An identity for a shift of this process."""
    return ShiftIdentity(uuid4(), kind, __version__, socket.gethostname(), os.getpid(), dagster_run_id)


class RunningShift:
    """A shift at work in a thread of its own; the caller's thread only waits and passes reports on."""

    def __init__(self, identity: ShiftIdentity, work: Callable[[RunningShift], EndReason]) -> None:
        self.identity = identity
        self.stopping = Stop()
        self.error: BaseException | None = None
        self.end_reason: EndReason | None = None
        self._reports: queue.SimpleQueue[ShiftReport | None] = queue.SimpleQueue()
        self._reported_at = datetime.now(UTC)
        self._next_report = time.monotonic() + REPORT_EVERY
        self._work = work
        name = f"{identity.kind}-shift"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.end_reason = self._work(self)
        except BaseException as error:
            self.error, self.end_reason = error, EndReason.failed
            log.error("shift failed", kind=self.identity.kind, error=str(error))
        finally:
            self._reports.put(None)

    def report_due(self) -> bool:
        """Whether the loop should hand in a report now."""
        return time.monotonic() >= self._next_report

    def hand_in(self, numbers: dict[str, float]) -> None:
        """Called by the loop: a report, to be passed on by the waiting thread."""
        now = datetime.now(UTC)
        self._reports.put(ShiftReport(self.identity, self._reported_at, now, numbers))
        self._reported_at, self._next_report = now, time.monotonic() + REPORT_EVERY

    def reports(self) -> Iterator[ShiftReport]:
        """Reports as they come in, every five minutes and at the end; ends when the shift has ended."""
        while True:
            # A time-out, because an uninterruptible wait would also hold back signals.
            try:
                report = self._reports.get(timeout=0.5)
            except queue.Empty:
                continue
            if report is None:
                return
            yield report

    def stop(self) -> None:
        """Ask the shift to leave; it does so within a second."""
        self.stopping.set(EndReason.stopped)

    def join(self, timeout: float) -> bool:
        """Wait for the end; True when the shift has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()


def start_shift(identity: ShiftIdentity, settings: Settings) -> RunningShift:
    """Start a shift of the identity's kind.

    Raises:
        SketchyError: it cannot start: database or keyset unreachable, migrations missing.
    """
    if identity.kind is ShiftKind.timer:
        from sketchy_orchestration.realtime.timer_shift import start_timer_shift

        return start_timer_shift(identity, settings)
    from sketchy_orchestration.realtime.fanout_shift import start_fanout_shift

    return start_fanout_shift(identity, settings)
