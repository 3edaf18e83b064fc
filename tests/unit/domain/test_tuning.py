"""Thresholds proposed from measurements: a margin above what is usual, and nothing from too little."""

from __future__ import annotations

import pytest

from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.domain.rollout_metrics import MetricName
from sketchy_orchestration.domain.rollout_plan import Metric, Plan, Step
from sketchy_orchestration.domain.tuning import FEWEST, Measured, Peak, Proposal, proposals


def times(value: float, count: int = 2 * FEWEST) -> Histogram:
    found = Histogram()
    found.add([value] * count)
    return found


BUSY = Measured(
    hours=100,
    times={"lateness": times(4), "delivery": times(50), "trigger": times(0.2), "canary": times(80)},
    peaks={
        "publishes": Peak(6_000, 20_000, 1_000_000),
        "failed_attempts": Peak(30, 61, 200),
        "transitions": Peak(130, 500, 50_000),
        "games_started": Peak(10, 40, 1_000),
    },
    flags={"fanout_concurrency": 100, "publish_rate": 500, "max_games_per_sweep": 50},
    alerts={"pubnub_failures": 20, "canary_slow": 500},
)
QUIET = Measured(1, {}, {}, BUSY.flags, BUSY.alerts)
PLAN = Plan()


def by_name(measured: Measured, plan: Plan = PLAN) -> dict[str, Proposal]:
    found = proposals(measured, plan)
    # A metric may have a limit and a minimum proposed.
    return {f"{each.name} {each.where}": each for each in found}


def test_a_margin_above_what_is_usual() -> None:
    found = {name: each.proposed for name, each in by_name(BUSY).items()}
    assert found == {
        "lateness_p95_ms plan, limit": 12,
        "event_latency_p95_ms plan, limit": 150,
        "trigger_p95_ms plan, limit": 1,
        # Four hours at 25 % see ten games, and forty of their deadlines.
        "timer_accuracy plan, minimum": 30,
        "lateness_p95_ms plan, minimum": 30,
        "completion_gap plan, minimum": 30,
        "pubnub_failures monitoring/rules.py": 92,
        "canary_slow monitoring/rules.py": 160,
        # A hundred publishes a second, 50 ms each: five at once.
        "fanout_concurrency flag": 20,
        "publish_rate flag": 300,
        "max_games_per_sweep flag": 130,
    }
    assert "10.0 games an hour: the step of 25 %" in by_name(BUSY)["completion_gap plan, minimum"].because


def test_a_limit_is_never_loosened() -> None:
    plan = PLAN.model_copy(update={"metrics": (Metric(name=MetricName.lateness_p95_ms, limit=5),)})
    assert by_name(BUSY, plan)["lateness_p95_ms plan, limit"].proposed == 5


def test_too_little_proposes_nothing_and_says_so() -> None:
    found = by_name(QUIET)
    assert {each.proposed for each in found.values()} == {None}
    assert {each.because for each in found.values()} == {f"too little to say: 0 of {FEWEST}"}
    assert not any("minimum" in name for name in found)


@pytest.mark.parametrize("steps", [(Step(percentage=0, hours=2),), (Step(percentage=100, hours=100),)])
def test_a_minimum_that_will_be_reached_or_is_never_asked_stays(steps: tuple[Step, ...]) -> None:
    plan = PLAN.model_copy(update={"steps": steps})
    assert not any("minimum" in name for name in by_name(BUSY, plan))


def test_what_is_not_set_here_gets_no_proposal() -> None:
    bare = Measured(BUSY.hours, BUSY.times, BUSY.peaks, {"publish_rate": 0}, {})
    assert not {each.where for each in proposals(bare, PLAN)} & {"flag", "monitoring/rules.py"}
