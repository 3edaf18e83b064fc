"""Named points at which a test lets a process die or freeze; off, and next to free, everywhere else.

Armed by the environment alone, for one process and the processes it starts, and only in development:

    SKETCHY_CRASH_POINT=relay.published           dies (SIGKILL) when it first gets there
    SKETCHY_CRASH_POINT=relay.published:7         … when it gets there for the seventh time
    SKETCHY_CRASH_POINT=relay.published:7:STOP    freezes there (SIGSTOP) until somebody sends SIGCONT
    SKETCHY_CRASH_POINT=sweep.begin:7:KILL:3.5    … 3.5 ms later: in the middle of what follows
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from typing import Literal, get_args

import structlog

from sketchy_orchestration.errors import SketchyError

VARIABLE = "SKETCHY_CRASH_POINT"

Point = Literal[
    # The timer shift: about to send the sweep (with a delay: in it); the sweep has committed.
    "sweep.begin",
    "sweep.committed",
    # A pass of numbering: events found, not yet numbered; numbered and committed, not yet known in memory.
    "sequencing.read",
    "sequencing.numbered",
    # One publish: about to be sent; accepted, its outcome not yet noted.
    "relay.publish",
    "relay.published",
    # A batch of outcomes: about to be written (with a delay: in it); committed, not yet known in memory.
    "relay.acknowledge",
    "relay.acknowledged",
    # Lanes: locks taken, epochs not; epochs taken, nothing adopted; rows given back, locks not.
    "lease.locked",
    "lease.taken",
    "lease.leaving",
    # One migration: its SQL done, nothing committed; committed; its catalogue kept.
    "migration.before_commit",
    "migration.committed",
    "migration.kept",
    # A step of a rollout: decided and written, not committed; committed, nobody told yet.
    "rollout.before_commit",
    "rollout.committed",
]

POINTS: tuple[Point, ...] = get_args(Point)

_DEFAULTS = ("1", "KILL", "0")

log = structlog.get_logger(__name__)


class CrashPointError(SketchyError):
    """SKETCHY_CRASH_POINT cannot be understood."""


@dataclass(slots=True)
class _Armed:
    point: str
    left: int
    signal: signal.Signals
    delay: float

    def reached(self, point: str) -> None:
        if point != self.point or self.left <= 0:
            return
        self.left -= 1
        if self.left:
            return
        if not self.delay:
            self._strike()
        else:
            timer = threading.Timer(self.delay, self._strike)
            timer.daemon = True
            timer.start()

    def _strike(self) -> None:
        os.kill(os.getpid(), self.signal)


def reach(point: Point) -> None:
    """Say that this point is reached; does nothing unless a test has armed it."""
    if _armed is not None:
        _armed.reached(point)


def _arm(text: str) -> _Armed:
    point, *rest = text.split(":")
    if point not in POINTS:
        raise CrashPointError(f"{VARIABLE} names {point!r}: use one of {', '.join(POINTS)}")
    times, action, delay_ms, *more = [*rest, *_DEFAULTS[len(rest) :]]
    try:
        if more or action not in ("KILL", "STOP") or int(times) < 1 or float(delay_ms) < 0:
            raise ValueError
        return _Armed(point, int(times), signal.Signals[f"SIG{action}"], float(delay_ms) / 1000)
    except ValueError:
        raise CrashPointError(
            f"{VARIABLE} is {text!r}: write POINT:TIMES:KILL or STOP:MILLISECONDS, all but the point optional"
        ) from None


def _from_environment() -> _Armed | None:
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    from sketchy_orchestration.settings import Environment, Settings

    environment = Settings().environment
    if environment is not Environment.development:
        log.error("a crash point is set and ignored", variable=VARIABLE, environment=str(environment))
        return None
    armed = _arm(text)
    log.warning("this process will die or freeze on purpose", crash_point=text)
    return armed


_armed = _from_environment()
