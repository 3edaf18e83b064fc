"""The steps of a deployment: what comes next, what is taken back, when it may begin."""

from __future__ import annotations

from datetime import datetime, time

import pytest

from sketchy_orchestration.domain.deployment import (
    StepName,
    StepState,
    Watched,
    changed,
    in_window,
    next_step,
    to_undo,
    window_of,
)
from sketchy_orchestration.domain.rollback import Change, Risk, of_risk


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("02:00-06:00", ["02:00", "05:59"], ["01:59", "06:00"]),
        ("22:00-04:00", ["23:00", "03:59"], ["04:00", "21:59"]),
    ],
)
def test_the_window_may_go_over_midnight(window: str, inside: list[str], outside: list[str]) -> None:
    def at(text: str) -> bool:
        return in_window(datetime.combine(datetime(2026, 5, 1), time.fromisoformat(text)), window_of(window))

    assert all(at(text) for text in inside)
    assert not any(at(text) for text in outside)


def test_a_broken_off_step_is_done_again_and_only_what_was_begun_is_taken_back() -> None:
    assert next_step({}) is StepName.go
    done = dict.fromkeys(list(StepName)[:5], StepState.done)
    assert next_step(done | {StepName.code: StepState.doing}) is StepName.code
    assert next_step(dict.fromkeys(StepName, StepState.done)) is None
    assert not changed({StepName.go: StepState.done, StepName.window: StepState.failed})
    states = {**done, StepName.code: StepState.done, StepName.shifts: StepState.failed}
    assert to_undo(states) == [StepName.shifts, StepName.code, StepName.settings, StepName.migrations]
    assert to_undo(states | {StepName.shifts: StepState.undone})[0] is StepName.code


@pytest.mark.parametrize(
    ("watched", "said"),
    [
        (Watched("", (), {"timer": 2, "fanout": 2}, 0.1, 0), None),
        (Watched("circuit_open", (), {"timer": 2, "fanout": 2}, 0, 0), "critical alerts fire: circuit_open"),
        (Watched("", ("games (x)",), {"timer": 2, "fanout": 2}, 0, 0), "failing: games (x)"),
        (Watched("", (), {"timer": 0, "fanout": 2}, 0, 0), "no timer shift is at work"),
        (Watched("", (), {"timer": 2, "fanout": 2}, 9, 0), "a game is 9.0 s overdue"),
        (Watched("", (), {"timer": 2, "fanout": 2}, 0, 3), "3 dead letters since the deployment began"),
    ],
)
def test_what_the_watch_calls_wrong(watched: Watched, said: str | None) -> None:
    assert watched.wrong(2) == said


def test_each_risk_changes_only_what_it_must() -> None:
    assert of_risk(Risk.pubnub, {}).changes == (Change("pubnub_broadcasting", enabled=False),)
    assert of_risk(Risk.overlaps, {}).changes == (Change("timer_monitoring", enabled=False),)
    fewer = of_risk(Risk.connections, {"fanout_concurrency": 100.0, "max_games_per_sweep": 1.0})
    assert fewer.changes == (Change("fanout_concurrency", value=25.0),)
    assert fewer.recycle
