"""A service level without any room for error."""

from __future__ import annotations

import pytest

from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.domain.service_levels import Sums, overridden, standing


@pytest.mark.parametrize(("late", "left"), [(0, 1.0), (1, float("-inf"))])
def test_a_level_that_allows_nothing_has_its_budget_or_has_none(late: int, left: float) -> None:
    level = next(each for each in overridden({"timer_accuracy": 1.0}) if each.name == "timer_accuracy")
    times = Histogram()
    times.add([3.0] * 10 + [5_000.0] * late)
    assert standing(level, Sums(times={"lateness": times})).budget_left == left
