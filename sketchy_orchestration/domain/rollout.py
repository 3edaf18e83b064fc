"""Where a rollout stands and what happens next: decisions only; the moment is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sketchy_orchestration.domain.analysis import Counts, Judged, Verdict, overall
from sketchy_orchestration.domain.rollout_plan import OnFail, Plan, Step


class State(StrEnum):
    """Where a rollout stands; all but the first two are its end."""

    running = "running"
    paused = "paused"
    completed = "completed"
    aborted = "aborted"
    rolled_back = "rolled_back"
    undone = "undone"


ACTIVE = (State.running, State.paused)


class Pause(StrEnum):
    """Why it is paused: a person, too little to judge by, a gate, a flag set beside it, a failed verdict."""

    operator = "operator"
    inconclusive = "inconclusive"
    gate = "gate"
    flag = "flag"
    failed = "failed"


class Action(StrEnum):
    """Every change of state there is; those before `advance` are a person's."""

    start = "start"
    pause = "pause"
    resume = "resume"
    promote = "promote"
    skip = "skip"
    abort = "abort"
    retry = "retry"
    undo = "undo"
    halt = "halt"
    advance = "advance"
    complete = "complete"
    roll_back = "roll_back"


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout as its row tells it.

    Attributes:
        before: the flag's percentage before it began. good: steps whose checkpoint passed in this attempt.
        step_since, paused_at, paused_seconds: a step's time does not run while it is paused.
        version: of its state; changed by every change. looks: how many looks were taken.
        counts: by metric, within the step.
    """

    id: int
    flag: str
    plan: Plan
    state: State
    pause: Pause | None
    why: str
    step: int
    percentage: float
    before: float
    good: tuple[int, ...]
    attempt: int
    version: int
    started_at: datetime
    started_by: str
    step_since: datetime
    paused_at: datetime | None
    paused_seconds: float
    changed_at: datetime
    looks: int = 0
    looked_at: datetime | None = None
    counts: Mapping[str, Counts] = field(default_factory=dict)
    release: str | None = None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def here(self) -> Step:
        """The plan's step it stands at."""
        return self.plan.steps[self.step]

    @property
    def last(self) -> bool:
        return self.step == len(self.plan.steps) - 1

    def elapsed(self, now: datetime) -> timedelta:
        """How long this step has been watched."""
        return (self.paused_at or now) - self.step_since - timedelta(seconds=self.paused_seconds)

    def left(self, now: datetime) -> timedelta:
        """How long until this step's checkpoint; never below zero."""
        return max(self.here.lasts - self.elapsed(now), timedelta(0))

    def checkpoint(self, now: datetime) -> bool:
        """Whether this step has lasted long enough to be judged."""
        return self.state is State.running and not self.left(now)

    def look_due(self, now: datetime) -> bool:
        """Whether it is to be measured now: every so often, and at once when a checkpoint is reached."""
        if not self.active:
            return False
        if self.looked_at is None or now - self.looked_at >= timedelta(seconds=self.plan.every_seconds):
            return True
        return self.checkpoint(now) and self.checkpoint_at() > self.looked_at

    def checkpoint_at(self) -> datetime:
        """When this step's checkpoint is, if nothing pauses it."""
        return self.step_since + self.here.lasts + timedelta(seconds=self.paused_seconds)


@dataclass(frozen=True, slots=True)
class FlagNow:
    """The flag as it is set at this moment, and by whom."""

    enabled: bool
    value: float
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """A change of state: the rollout as it becomes, and what people are told."""

    action: Action
    after: Rollout
    said: str
    verdicts: tuple[Judged, ...] = ()

    @property
    def grave(self) -> bool:
        """Whether somebody must look at it soon."""
        return self.action in (Action.roll_back, Action.halt, Action.abort) or self.after.pause in (
            Pause.failed,
            Pause.inconclusive,
            Pause.flag,
        )


def decide(
    rollout: Rollout, flag: FlagNow, verdicts: Sequence[Judged] | None, now: datetime
) -> Change | None:
    """What the controller changes now; None: nothing.

    Args:
        verdicts: of the look just taken; None when none was due.
    """
    if not rollout.active:
        return None
    if not flag.enabled or flag.value != rollout.percentage:
        # A person has set the flag beside the rollout: nobody fights over it.
        if rollout.pause is Pause.flag:
            return None
        is_now = f"{flag.value:g} %" if flag.enabled else "off"
        why = f"{rollout.flag} was set to {is_now} by {flag.by} ({flag.reason})"
        return Change(Action.pause, paused(rollout, Pause.flag, why, now), why)
    if verdicts is None:
        return None
    blind = [each for each in verdicts if each.decides and each.blind]
    failed = [each for each in verdicts if each.decides and each.verdict is Verdict.failed]
    if blind and rollout.plan.on_blind == "fail":
        failed += blind
    if failed:
        return _fail(rollout, failed, tuple(verdicts), now)
    if rollout.state is State.paused:
        return None
    if blind:
        why = f"not to be measured: {told(blind)}"
        return Change(Action.pause, paused(rollout, Pause.inconclusive, why, now), why, tuple(verdicts))
    if not rollout.checkpoint(now):
        return None
    return _at_checkpoint(rollout, tuple(verdicts), now)


def _at_checkpoint(rollout: Rollout, verdicts: tuple[Judged, ...], now: datetime) -> Change | None:
    open_ones = [each for each in verdicts if each.decides and each.verdict is Verdict.inconclusive]
    missing = [each for each in open_ones if not each.waits]
    if missing or (overall(verdicts) is not Verdict.passed and not open_ones):
        why = f"inconclusive: {told(missing) or 'the plan measures nothing here that decides'}"
        return Change(Action.pause, paused(rollout, Pause.inconclusive, why, now), why, verdicts)
    if open_ones:
        return None  # the next look may tell
    if rollout.here.gate:
        why = f"{rollout.percentage:g} % has passed and waits at its gate for somebody to promote it"
        return Change(Action.pause, paused(rollout, Pause.gate, why, now), why, verdicts)
    if not rollout.last and rollout.plan.frozen(now) is not None:
        return None
    return forward(rollout, now, passed=True, verdicts=verdicts)


def forward(
    rollout: Rollout, now: datetime, *, passed: bool, verdicts: tuple[Judged, ...] = (), to: int | None = None
) -> Change:
    """The change to the next step, or past the last one to completed."""
    good = tuple(sorted({*rollout.good, rollout.step})) if passed else rollout.good
    target = rollout.step + 1 if to is None else to
    if target >= len(rollout.plan.steps):
        said = f"completed at {rollout.percentage:g} %"
        after = replace(at_step(rollout, rollout.step, now), state=State.completed, good=good, why=said)
        return Change(Action.complete, after, said, verdicts)
    after = replace(at_step(rollout, target, now), good=good)
    said = f"{rollout.percentage:g} % {'passed' if passed else 'was left'}: now {after.percentage:g} %"
    return Change(Action.advance, replace(after, why=said), said, verdicts)


def _fail(
    rollout: Rollout, failed: Sequence[Judged], verdicts: tuple[Judged, ...], now: datetime
) -> Change | None:
    plan, why = rollout.plan, told(failed)
    if plan.on_fail is OnFail.hold:
        if rollout.pause is Pause.failed:
            return None
        said = f"failed at {rollout.percentage:g} % and holds there: {why}"
        return Change(Action.pause, paused(rollout, Pause.failed, said, now), said, verdicts)
    back = [step for step in rollout.good if step < rollout.step and plan.steps[step].percentage > 0]
    if plan.on_fail is OnFail.last_good and back:
        target = max(back)
        percentage = plan.steps[target].percentage
        said = f"failed at {rollout.percentage:g} %, rolled back to {percentage:g} %: {why}"
        after = paused(at_step(rollout, target, now), Pause.failed, said, now)
        good = tuple(step for step in rollout.good if step < target)
        return Change(Action.roll_back, replace(after, good=good), said, verdicts)
    said = f"failed at {rollout.percentage:g} %, rolled back to 0 %: {why}"
    after = replace(ended(rollout, State.rolled_back, now), percentage=0.0, why=said)
    return Change(Action.roll_back, after, said, verdicts)


def paused(rollout: Rollout, pause: Pause, why: str, now: datetime) -> Rollout:
    """Waiting for a person or for measures; a pause that goes on keeps its beginning."""
    since = rollout.paused_at or now
    return replace(rollout, state=State.paused, pause=pause, why=why, paused_at=since, changed_at=now)


def at_step(rollout: Rollout, step: int, now: datetime) -> Rollout:
    """At the beginning of a step."""
    return replace(
        rollout,
        state=State.running,
        pause=None,
        step=step,
        percentage=rollout.plan.steps[step].percentage,
        step_since=now,
        paused_at=None,
        paused_seconds=0.0,
        changed_at=now,
        looked_at=None,
        counts={},
    )


def ended(rollout: Rollout, state: State, now: datetime) -> Rollout:
    """Over, in one of the states that end it."""
    return replace(rollout, state=state, pause=None, paused_at=None, changed_at=now)


def told(judged: Sequence[Judged]) -> str:
    """What was judged, in one line."""
    return "; ".join(f"{each.metric} {each.said}" for each in judged)
