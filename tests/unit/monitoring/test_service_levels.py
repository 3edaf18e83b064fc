from __future__ import annotations

import pytest

from sketchy_orchestration.domain import burn
from sketchy_orchestration.domain.burn import Pace
from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.domain.service_levels import (
    BY_NAME,
    LEVELS,
    Sums,
    Tally,
    UnknownLevelError,
    overridden,
    standing,
)
from sketchy_orchestration.monitoring.standing import levels_of
from sketchy_orchestration.monitoring.watchdog import CANARY_EVERY, LOOK_EVERY
from sketchy_orchestration.realtime.timer_shift import SLOW_SWEEP
from sketchy_orchestration.settings import Settings


def times(*values: float) -> Histogram:
    found = Histogram()
    found.add(values)
    return found


def test_every_level_of_the_contract_is_there_and_its_ambition_asks_no_less() -> None:
    assert {level.name for level in LEVELS} == {
        "availability",
        "timer_accuracy",
        "event_delivery",
        "error_rate",
        "sweep_duration",
        "event_latency",
        "trigger_duration",
        "global_delivery",
    }
    for level in LEVELS:
        within, wanted = level.contract.within_ms, level.ambition.within_ms
        assert (within is None) == (wanted is None)
        assert wanted is None or wanted < (within or 0)
        assert within is not None or level.ambition.share >= level.contract.share


def test_the_contracts_are_those_that_were_asked_for() -> None:
    found = {level.name: (level.contract.share, level.contract.within_ms) for level in LEVELS}
    assert found == {
        "availability": (0.999, None),
        "timer_accuracy": (0.999, 1_000),
        "event_delivery": (0.995, None),
        "error_rate": (0.995, None),
        "sweep_duration": (0.95, None),  # p95 below 5 s: what counts as slow is counted by the shift
        "event_latency": (0.95, 2_000),
        "trigger_duration": (0.95, 500),
        "global_delivery": (0.99, 1_000),
    }
    assert SLOW_SWEEP == 5
    assert (CANARY_EVERY, LOOK_EVERY) == (10, 10)


def test_nothing_happened_is_no_verdict() -> None:
    for level in LEVELS:
        found = standing(level, Sums())
        assert found.kept is None
        assert found.reached is None
        assert found.budget_left is None


def test_a_time_is_good_within_its_limit() -> None:
    sums = Sums(times={"lateness": times(*[3.0] * 998, 900, 5_000)})
    found = standing(BY_NAME["timer_accuracy"], sums)
    assert found.contract == Tally(999, 1000)
    assert found.kept
    assert found.budget_left == pytest.approx(0, abs=1e-9)
    assert found.ambition == Tally(998, 1000)
    assert found.p95_ms == pytest.approx(3, rel=0.1)


def test_an_early_transition_is_never_good() -> None:
    sums = Sums({("early", ""): 2}, {"lateness": times(0, 0, 1)})
    assert standing(BY_NAME["timer_accuracy"], sums).contract == Tally(1, 3)


def test_slow_sweeps_are_among_the_sweeps() -> None:
    sums = Sums({("shifts", "timer:sweeps"): 100, ("shifts", "timer:slow_sweeps"): 6})
    found = standing(BY_NAME["sweep_duration"], sums)
    assert found.contract == Tally(94, 100)
    assert not found.kept


def test_a_canary_that_was_not_heard_is_bad() -> None:
    sums = Sums({("canary_lost", "local"): 1}, {"canary": times(20, 30, 40)})
    assert standing(BY_NAME["global_delivery"], sums).contract == Tally(3, 4)


def test_contracts_can_be_overridden_by_name() -> None:
    settings = Settings(_env_file=None, service_levels={"availability": 0.99})
    changed = {level.name: level for level in levels_of(settings)}
    assert changed["availability"].contract.share == 0.99
    assert changed["event_delivery"] == BY_NAME["event_delivery"]
    with pytest.raises(UnknownLevelError, match=r"availabilty.*there are: availability"):
        overridden({"availabilty": 0.99})
    with pytest.raises(UnknownLevelError, match="at most 1"):
        overridden({"availability": 99.9})


@pytest.mark.parametrize(
    ("tallies", "expected"),
    [
        ({60: Tally(9_800, 10_000), 5: Tally(800, 1_000)}, Pace.fast),
        ({60: Tally(9_800, 10_000), 5: Tally(1_000, 1_000)}, None),  # it is over
        ({60: Tally(9_990, 10_000), 5: Tally(990, 1_000)}, None),  # it does not matter
        ({60: Tally(0, 2), 5: Tally(0, 2)}, None),  # too few to wake anybody
        ({360: Tally(9_900, 10_000), 30: Tally(980, 1_000)}, Pace.fast),
        ({360: Tally(9_900, 10_000), 30: Tally(1_000, 1_000)}, None),
        ({4320: Tally(9_989, 10_000), 360: Tally(1_000, 1_000)}, None),
        ({4320: Tally(9_989, 10_000), 360: Tally(998, 1_000)}, Pace.slow),
        ({}, None),
    ],
)
def test_a_budget_burns_when_both_windows_do(tallies: dict[int, Tally], expected: Pace | None) -> None:
    assert burn.pace(tallies, 0.999) is expected
