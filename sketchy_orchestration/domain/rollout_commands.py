"""What an operator may do to a rollout, when, and what comes of it: decisions only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from sketchy_orchestration.domain.analysis import Judged, Verdict
from sketchy_orchestration.domain.rollout import (
    Action,
    Change,
    FlagNow,
    Pause,
    Rollout,
    State,
    at_step,
    ended,
    forward,
    paused,
    told,
)


class RefusedError(ValueError):
    """The rollout's state does not allow it; the message says why and what does."""


class To(StrEnum):
    """Where an abort leaves the flag."""

    zero = "zero"
    last_good = "last_good"
    stay = "stay"


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator asks for.

    Attributes:
        full: promote: past all steps between to the last. to: abort: where the flag is left.
        from_step: retry: begins with the step that it left, not with the first.
        override_freeze: go on although the plan is frozen.
    """

    action: Action
    full: bool = False
    to: To = To.zero
    from_step: bool = False
    override_freeze: bool = False


def command(
    rollout: Rollout, wish: Wish, flag: FlagNow, now: datetime, verdicts: Sequence[Judged] | None = None
) -> Change:
    """The change an operator asks for.

    Args:
        verdicts: of a look taken now; `promote` needs it.

    Raises:
        RefusedError: not in this state.
    """
    allowed = _ALLOWED[wish.action]
    if rollout.state not in allowed:
        raise RefusedError(
            f"rollout {rollout.id} is {rollout.state} and cannot be told to {wish.action}: "
            f"that takes one that is {' or '.join(allowed)}"
        )
    if wish.action in (Action.resume, Action.promote, Action.skip, Action.retry):
        _check_freeze(rollout, wish, now)
    match wish.action:
        case Action.pause:
            said = f"paused at {rollout.percentage:g} %"
            return Change(Action.pause, paused(rollout, Pause.operator, said, now), said)
        case Action.resume:
            return _resume(rollout, now)
        case Action.promote:
            return _promote(rollout, wish, now, verdicts or ())
        case Action.skip:
            change = forward(rollout, now, passed=False)
            said = f"{rollout.percentage:g} % was skipped: {change.said}"
            return replace(change, action=Action.skip, said=said, after=replace(change.after, why=said))
        case Action.abort:
            return _abort(rollout, wish, flag, now)
        case Action.retry:
            step = rollout.step if wish.from_step else 0
            after = at_step(rollout, step, now)
            said = f"attempt {rollout.attempt + 1}, from {after.percentage:g} %"
            good = tuple(each for each in rollout.good if each < step)
            return Change(
                Action.retry, replace(after, attempt=rollout.attempt + 1, good=good, why=said), said
            )
        case _:
            after = replace(ended(rollout, State.undone, now), percentage=rollout.before)
            said = f"{rollout.flag} is back at {rollout.before:g} %, as before the rollout"
            return Change(Action.undo, replace(after, why=said), said)


_ALLOWED: dict[Action, tuple[State, ...]] = {
    Action.pause: (State.running,),
    Action.resume: (State.paused,),
    Action.promote: (State.running, State.paused),
    Action.skip: (State.running, State.paused),
    Action.abort: (State.running, State.paused),
    Action.retry: (State.aborted, State.rolled_back, State.undone, State.paused),
    Action.undo: (State.running, State.paused, State.completed, State.aborted, State.rolled_back),
}


def _check_freeze(rollout: Rollout, wish: Wish, now: datetime) -> None:
    freeze = rollout.plan.frozen(now)
    if freeze is not None and not wish.override_freeze:
        raise RefusedError(f"the plan is frozen now ({freeze.why}): wait, or override the freeze and say why")


def _resume(rollout: Rollout, now: datetime) -> Change:
    if rollout.pause is Pause.gate:
        raise RefusedError(f"rollout {rollout.id} waits at a gate: promote it to let it go on, or abort it")
    assert rollout.paused_at is not None, "a paused rollout knows since when"  # noqa: S101
    said = f"goes on at {rollout.percentage:g} %"
    waited = rollout.paused_seconds + (now - rollout.paused_at).total_seconds()
    after = replace(
        rollout,
        state=State.running,
        pause=None,
        why=said,
        paused_at=None,
        paused_seconds=waited,
        changed_at=now,
        # What made it stop has been looked at by a person: it is counted anew, and looked at at once.
        looked_at=None,
        counts={},
    )
    return Change(Action.resume, after, said)


def _promote(rollout: Rollout, wish: Wish, now: datetime, verdicts: Sequence[Judged]) -> Change:
    failed = [each for each in verdicts if each.decides and each.verdict is Verdict.failed]
    if failed:
        raise RefusedError(f"it would fail: {told(failed)}; abort it, or skip the step if you know better")
    open_ones = [each for each in verdicts if each.decides and each.verdict is not Verdict.passed]
    passed = bool(verdicts) and not open_ones
    to = len(rollout.plan.steps) - 1 if wish.full and not rollout.last else None
    change = forward(rollout, now, passed=passed, verdicts=tuple(verdicts), to=to)
    vouched = f" (vouched for: {told(open_ones)})" if open_ones else ""
    said = f"{change.said}{vouched}"
    action = change.action if change.action is Action.complete else Action.promote
    return Change(action, replace(change.after, why=said), said, tuple(verdicts))


def _abort(rollout: Rollout, wish: Wish, flag: FlagNow, now: datetime) -> Change:
    percentage = 0.0
    if wish.to is To.stay:
        percentage = flag.value
    elif wish.to is To.last_good:
        percentage = max((rollout.plan.steps[step].percentage for step in rollout.good), default=0.0)
        percentage = min(percentage, flag.value)
    said = f"aborted at {rollout.percentage:g} %, {rollout.flag} is at {percentage:g} %"
    after = replace(ended(rollout, State.aborted, now), percentage=percentage, why=said)
    return Change(Action.abort, after, said)
