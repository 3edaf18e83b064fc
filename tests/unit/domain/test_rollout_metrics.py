"""Which metrics say something at a percentage, and on which side of its limit a value is."""

from __future__ import annotations

import pytest

from sketchy_orchestration.domain.rollout_metrics import METRICS, MetricName, applies


@pytest.mark.parametrize(
    ("name", "below", "limit", "above"),
    [
        (MetricName.error_rate, True, False, False),
        (MetricName.timer_accuracy, False, False, True),
        (MetricName.lateness_p95_ms, True, True, False),
        (MetricName.control_games, False, True, True),
    ],
)
def test_the_limit_itself_is_good_where_it_may_be_reached(
    name: MetricName, below: bool, limit: bool, above: bool
) -> None:
    kind = METRICS[name]
    told = [kind.keeps(value, kind.limit) for value in (kind.limit / 2, kind.limit, kind.limit * 2)]
    assert told == [below, limit, above]


def test_at_zero_only_what_needs_no_game_of_ours() -> None:
    assert {name for name in MetricName if applies(name, 0)} == {"critical_alerts", "control_games"}
    assert {name for name in MetricName if not applies(name, 25)} == {"control_games"}
