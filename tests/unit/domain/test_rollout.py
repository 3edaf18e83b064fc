"""What a rollout does next and what it may be told, in every state; plans that make sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sketchy_orchestration.domain.analysis import Counts, Judged, Verdict
from sketchy_orchestration.domain.rollout import Action, Change, FlagNow, Pause, Rollout, State, decide
from sketchy_orchestration.domain.rollout_commands import RefusedError, To, Wish, command
from sketchy_orchestration.domain.rollout_plan import Freeze, OnFail, Plan, Step, Weekday

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)


def rollout(**more: object) -> Rollout:
    beginning = Rollout(
        id=1,
        flag="enrolment",
        plan=Plan(),
        state=State.running,
        pause=None,
        why="x",
        step=2,
        percentage=50.0,
        before=0.0,
        good=(0, 1),
        attempt=1,
        version=3,
        started_at=START,
        started_by="ann",
        step_since=START,
        paused_at=None,
        paused_seconds=0.0,
        changed_at=START,
    )
    return replace(beginning, **more)  # type: ignore[arg-type]


def judged(verdict: Verdict = Verdict.passed, **more: object) -> Judged:
    return replace(Judged("error_rate", verdict, 0.1, 5000, "0.1 %", Counts()), **more)  # type: ignore[arg-type]


PASS, FAIL, OPEN = judged(), judged(Verdict.failed), judged(Verdict.inconclusive)


def test_it_is_looked_at_every_so_often_and_at_a_checkpoint() -> None:
    seen = START + 6 * HOUR - timedelta(seconds=10)
    one = rollout(looked_at=seen)
    assert rollout().look_due(START)
    assert not one.look_due(seen + timedelta(seconds=9))
    assert one.look_due(one.checkpoint_at())
    assert not replace(one, looked_at=one.checkpoint_at()).look_due(one.checkpoint_at())
    assert one.look_due(seen + timedelta(seconds=60))
    assert not rollout(state=State.completed).look_due(START)


def next_change(
    at: timedelta, verdicts: Sequence[Judged] | None, of: Rollout | None = None, flag: FlagNow | None = None
) -> Change | None:
    one = of or rollout()
    return decide(one, flag or FlagNow(True, one.percentage, "controller", "x"), verdicts, START + at)


def test_nothing_happens_before_the_checkpoint_unless_it_fails() -> None:
    for verdicts in ([PASS], [OPEN], [judged(Verdict.inconclusive, waits=True)], None):
        assert next_change(5 * HOUR, verdicts) is None
    change = next_change(HOUR, [PASS, FAIL])
    assert change is not None
    assert (change.action, change.after.state, change.after.percentage) == (
        Action.roll_back,
        State.rolled_back,
        0,
    )
    assert change.grave


def test_at_the_checkpoint_it_goes_on_waits_or_pauses() -> None:
    on = next_change(6 * HOUR, [PASS])
    assert on is not None
    assert (on.after.percentage, on.after.step, on.after.good, on.after.counts) == (100, 3, (0, 1, 2), {})
    paused = next_change(6 * HOUR, [PASS, OPEN])
    assert paused is not None
    assert (paused.after.pause, paused.after.percentage) == (Pause.inconclusive, 50)
    assert next_change(6 * HOUR, [PASS, judged(Verdict.inconclusive, waits=True)]) is None
    nothing = next_change(6 * HOUR, [judged(dry_run=True)])
    assert nothing is not None
    assert nothing.after.pause is Pause.inconclusive


def test_time_does_not_run_while_paused() -> None:
    paused = rollout(state=State.paused, pause=Pause.operator, paused_at=START + HOUR)
    assert paused.left(START + 50 * HOUR) == 5 * HOUR
    assert next_change(50 * HOUR, [PASS], paused) is None
    flag = FlagNow(True, 50, "x", "x")
    on = command(paused, Wish(Action.resume), flag, START + 50 * HOUR).after
    assert on.left(START + 50 * HOUR) == 5 * HOUR
    assert next_change(54 * HOUR, [PASS], on) is None
    assert next_change(55 * HOUR, [PASS], on) is not None


def test_blind_pauses_at_once_or_fails_as_the_plan_says() -> None:
    blind = judged(Verdict.inconclusive, blind=True)
    paused = next_change(HOUR, [PASS, blind])
    assert paused is not None
    assert paused.after.pause is Pause.inconclusive
    strict = next_change(HOUR, [blind], rollout(plan=Plan(on_blind="fail")))
    assert strict is not None
    assert strict.action is Action.roll_back


def test_where_a_failure_goes() -> None:
    good = next_change(HOUR, [FAIL], rollout(plan=Plan(on_fail=OnFail.last_good)))
    assert good is not None
    assert (good.after.percentage, good.after.step, good.after.pause) == (25, 1, Pause.failed)
    # A step that was skipped was never good.
    none = next_change(HOUR, [FAIL], rollout(plan=Plan(on_fail=OnFail.last_good), good=(0,)))
    assert none is not None
    assert none.after.state is State.rolled_back
    held = next_change(HOUR, [FAIL], rollout(plan=Plan(on_fail=OnFail.hold)))
    assert held is not None
    assert (held.after.percentage, held.after.pause) == (50, Pause.failed)
    assert next_change(2 * HOUR, [FAIL], held.after) is None


def test_a_flag_set_by_somebody_else_pauses_once_and_is_left_alone() -> None:
    for flag in (FlagNow(True, 10, "bob", "careful"), FlagNow(False, 50, "bob", "careful")):
        change = next_change(HOUR, None, flag=flag)
        assert change is not None
        assert change.after.pause is Pause.flag
        assert next_change(HOUR, [FAIL], change.after, flag) is None


def test_gates_and_freezes() -> None:
    gated = Plan(steps=(Step(percentage=50, hours=6, gate=True), Step(percentage=100, hours=1)))
    one = rollout(plan=gated, step=0, good=())
    waits = next_change(6 * HOUR, [PASS], one)
    assert waits is not None
    assert waits.after.pause is Pause.gate
    flag = FlagNow(True, 50, "x", "x")
    with pytest.raises(RefusedError, match="waits at a gate"):
        command(waits.after, Wish(Action.resume), flag, START + 7 * HOUR)
    on = command(waits.after, Wish(Action.promote), flag, START + 7 * HOUR, [PASS])
    assert (on.after.state, on.after.percentage, on.after.good) == (State.running, 100, (0,))

    frozen = Plan(freeze=(Freeze(why="the weekend party", since=START, until=START + 24 * HOUR),))
    assert next_change(6 * HOUR, [PASS], rollout(plan=frozen)) is None
    assert next_change(HOUR, [FAIL], rollout(plan=frozen)) is not None
    assert next_change(25 * HOUR, [PASS], rollout(plan=frozen)) is not None
    with pytest.raises(RefusedError, match="the weekend party"):
        command(rollout(plan=frozen), Wish(Action.skip), flag, START)
    assert command(rollout(plan=frozen), Wish(Action.skip, override_freeze=True), flag, START)
    assert command(rollout(plan=frozen), Wish(Action.abort), flag, START)


def test_a_weekly_freeze_goes_over_midnight() -> None:
    night = Freeze.model_validate({"why": "x", "days": ["monday"], "begin": "22:00", "end": "06:00"})
    hours = [hour for hour in range(-24, 72) if night.holds(START + hour * HOUR)]
    assert hours == list(range(10, 18))
    assert Freeze(why="x", days=(Weekday.monday,)).holds(START)
    for wrong in ({"why": "x"}, {"why": "x", "since": START}, {"why": "", "days": ["monday"]}):
        with pytest.raises(ValidationError):
            Freeze.model_validate(wrong)


def test_promote_looks_first_and_says_what_it_vouches_for() -> None:
    flag = FlagNow(True, 50, "x", "x")
    with pytest.raises(RefusedError, match="it would fail: error_rate"):
        command(rollout(), Wish(Action.promote), flag, START, [FAIL])
    vouched = command(rollout(), Wish(Action.promote), flag, START, [OPEN])
    assert vouched.after.good == (0, 1)
    assert "vouched for: error_rate" in vouched.said
    first = rollout(step=0, percentage=0.0, good=())
    full = command(first, Wish(Action.promote, full=True), FlagNow(True, 0, "x", "x"), START, [PASS])
    assert (full.after.percentage, full.after.good) == (100, (0,))
    last = rollout(step=3, percentage=100.0)
    assert command(last, Wish(Action.promote), flag, START, [PASS]).after.state is State.completed


def test_abort_leaves_the_flag_where_it_is_told() -> None:
    flag = FlagNow(True, 50, "x", "x")
    for to, percentage in ((To.zero, 0), (To.last_good, 25), (To.stay, 50)):
        assert command(rollout(), Wish(Action.abort, to=to), flag, START).after.percentage == percentage


_STATES = [
    rollout(),
    *(rollout(state=State.paused, pause=pause, paused_at=START) for pause in Pause),
    *(rollout(state=state) for state in (State.completed, State.aborted, State.undone)),
    rollout(state=State.rolled_back, percentage=0.0),
]


@given(
    st.sampled_from(_STATES),
    st.lists(st.sampled_from([*Action, None]), max_size=12),
    st.lists(st.sampled_from([PASS, FAIL, OPEN]), min_size=1, max_size=3),
)
def test_whatever_is_done_it_never_gets_stuck(
    one: Rollout, actions: list[Action | None], verdicts: list[Judged]
) -> None:
    """Flag and state agree, an active one can always be aborted, an ended one always be begun again."""
    now = START
    for action in actions:
        now += 3 * HOUR
        flag = FlagNow(True, one.percentage, "x", "x")
        try:
            if action is None:
                change = decide(one, flag, verdicts, now)
            else:
                change = command(one, Wish(action), flag, now, verdicts)
        except (RefusedError, KeyError):
            continue
        if change is not None:
            one = replace(change.after, version=one.version + 1)
        assert (one.state is State.paused) == (one.pause is not None) == (one.paused_at is not None)
        assert one.state is not State.rolled_back or one.percentage == 0
        if one.active:
            assert one.percentage == one.here.percentage
    flag = FlagNow(True, one.percentage, "x", "x")
    if one.active:
        one = command(one, Wish(Action.abort), flag, now).after
    if one.state is not State.completed:
        assert command(one, Wish(Action.retry), flag, now).after.state is State.running
    elif one.state is State.completed:
        assert command(one, Wish(Action.undo), flag, now).after.percentage == one.before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": [{"percentage": 50, "hours": 1}, {"percentage": 25, "hours": 1}]}, "must rise"),
        ({"steps": []}, "at least 1"),
        ({"version": 2}, "Input should be 1"),
        ({"surprise": 1}, "Extra inputs"),
        ({"flag": "other"}, "has a control group: leave out completion_gap"),
        ({"metrics": [{"name": "error_rate"}, {"name": "error_rate"}]}, "stands there twice"),
        ({"metrics": [{"name": "nonsense"}]}, "Input should be 'error_rate'"),
    ],
)
def test_a_plan_that_makes_no_sense_says_why(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Plan.model_validate(wrong)


def test_a_flag_without_a_control_group_takes_what_needs_none() -> None:
    plan = Plan.model_validate({"flag": "other", "metrics": [{"name": "error_rate"}], "comparisons": []})
    assert plan.flag == "other"


def test_the_default_plan_is_that_of_the_contract_and_survives_writing() -> None:
    plan = Plan()
    assert [(step.percentage, step.hours) for step in plan.steps] == [(0, 2), (25, 4), (50, 6), (100, 12)]
    again = Plan.model_validate(plan.model_dump(mode="json"))
    assert (again, again.fingerprint) == (plan, plan.fingerprint)
    limits = {metric.name: metric.at for metric in plan.metrics}
    assert (limits["error_rate"], limits["timer_accuracy"], limits["event_delivery"]) == (0.005, 0.999, 0.995)
