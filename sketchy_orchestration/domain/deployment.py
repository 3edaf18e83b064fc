"""A deployment: its steps, when it may begin, and what is undone when one of them fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from enum import StrEnum

WINDOW = (time(2, 0), time(6, 0))
"""UTC; when the fewest play."""


class StepName(StrEnum):
    """The steps, in their order; the first five change nothing that players or shifts could notice."""

    go = "go"  # a fresh go for this very version
    window = "window"  # within the window, or overridden with a reason
    backup = "backup"  # where a restore without this deployment ends
    migrations = "migrations"  # expand only
    settings = "settings"  # the fingerprint is the validated one
    code = "code"  # the new code server, beside the old one
    shifts = "shifts"  # two shifts of each kind of the new version are at work
    relieve = "relieve"  # the old ones leave, each relieved by a new one
    current = "current"  # the new release is the current one
    schedules = "schedules"  # sensors and schedules on, the legacy cron's switch-off recorded
    smoke = "smoke"  # the smoke tests
    watch = "watch"  # nothing critical for a while
    rollout = "rollout"  # the rollout begins


class StepState(StrEnum):
    """Where a step stands."""

    doing = "doing"
    done = "done"
    failed = "failed"
    undoing = "undoing"
    undone = "undone"
    not_undone = "not_undone"


FIRST_CHANGE = StepName.migrations
"""A failure before it is a refusal; from it on it is rolled back."""


def in_window(now: datetime, window: tuple[time, time] = WINDOW) -> bool:
    """Whether `now` (UTC) lies in the window; one that ends before it begins goes over midnight."""
    begin, end = window
    moment = now.time()
    return begin <= moment < end if begin < end else moment >= begin or moment < end


def window_of(text: str) -> tuple[time, time]:
    """A window written like 02:00-06:00.

    Raises:
        ValueError: it is not.
    """
    begin, _, end = text.partition("-")
    return time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())


def next_step(states: Mapping[StepName, StepState]) -> StepName | None:
    """What to do next; a step that was begun and not ended is done again. None: all is done."""
    return next((step for step in StepName if states.get(step) is not StepState.done), None)


def to_undo(states: Mapping[StepName, StepState]) -> list[StepName]:
    """The steps to take back, the last first: all that were begun from the first change on."""
    begun = [
        step
        for step in StepName
        if states.get(step) not in (None, StepState.undone) and list(StepName).index(step) >= _FIRST
    ]
    return begun[::-1]


def changed(states: Mapping[StepName, StepState]) -> bool:
    """Whether anything was changed, so that a failure is rolled back rather than a refusal."""
    return bool(to_undo(states))


@dataclass(frozen=True, slots=True)
class Watched:
    """What the watch after a deployment sees; `critical` names the critical alerts that fire."""

    critical: str
    failing: tuple[str, ...]
    shifts: Mapping[str, int]
    overdue: float
    dead: int

    def wrong(self, wanted: int) -> str | None:
        """What makes it fail; None while all is well."""
        if self.critical:
            return f"critical alerts fire: {self.critical}"
        if self.failing:
            return f"failing: {', '.join(self.failing)}"
        if few := [kind for kind, count in self.shifts.items() if count < min(1, wanted)]:
            return f"no {' and no '.join(few)} shift is at work"
        if self.overdue > 5:
            return f"a game is {self.overdue:.1f} s overdue"
        if self.dead:
            return f"{self.dead} dead letters since the deployment began"
        return None


_FIRST = list(StepName).index(FIRST_CHANGE)
