from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from sketchy_orchestration.database.monitoring import MetricSum
from sketchy_orchestration.monitoring.metric_names import COUNTS, GAUGES, TIMES, all_names
from sketchy_orchestration.monitoring.metrics import Snapshot, exposition

TOTALS = (
    MetricSum("lateness", "drawing", 4, 1_010.0, 0, {"0": 1, "49": 2, "97": 1}),
    MetricSum("outcomes", "delivered", 7, 0, 0, {}),
    MetricSum("outcomes", "dead", 1, 0, 0, {}),
    MetricSum("shifts", "timer:sweeps", 90, 0, 0, {}),
    MetricSum("shifts", "timer:errors", 2, 0, 0, {}),
    MetricSum("failed_attempts", "throttled", 3, 0, 0, {}),
)


def samples(snapshot: Snapshot) -> dict[tuple[str, tuple[str, ...]], float]:
    text = exposition(snapshot).decode()
    return {
        (
            sample.name,
            tuple(sample.labels[name] for name in sorted(sample.labels, reverse=True)),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counts_times_and_signals_are_exposed() -> None:
    found = samples(Snapshot(True, {("games_live", "voting"): 3.0, ("games_overdue", ""): 1.0}, TOTALS, 20.0))
    assert found["sketchy_up", ()] == 1
    assert found["sketchy_games_live", ("voting",)] == 3
    assert found["sketchy_games_overdue", ()] == 1
    assert found["sketchy_timer_monitoring_executions_total", ()] == 90
    assert found["sketchy_event_broadcasting_success_total", ()] == 7
    assert found["sketchy_event_broadcasting_failures_total", ("throttled",)] == 3
    assert found["sketchy_average_execution_time_seconds", ()] == 0.02
    assert found["sketchy_lateness_seconds_count", ("drawing",)] == 4
    assert found["sketchy_lateness_seconds_sum", ("drawing",)] == 1.01
    assert found["sketchy_lateness_seconds_bucket", ("drawing", "0.001")] == 1
    assert found["sketchy_lateness_seconds_bucket", ("drawing", "0.015")] == 3
    assert found["sketchy_lateness_seconds_bucket", ("drawing", "+Inf")] == 4


def test_the_five_counters_that_were_asked_for_are_there_by_name() -> None:
    found = samples(Snapshot(True, {("error_ratio_5m", ""): 0.25}, TOTALS, 20.0))
    asked = {
        "timerMonitoringExecutions": ("_total", 90),
        "eventBroadcastingSuccess": ("_total", 7),
        "eventBroadcastingFailures": ("_total", 3),
        "averageExecutionTime": ("_seconds", 0.02),
    }
    for name, (ending, value) in asked.items():
        words = re.sub(r"([A-Z])", r"_\1", name).lower()
        assert sum(v for (one, _), v in found.items() if one == f"sketchy_{words}{ending}") == value
    assert found["sketchy_error_ratio", ()] == 0.25  # errorRate
    assert found["sketchy_timer_monitoring_failures_total", ()] == 2


def test_without_a_database_only_that_is_said() -> None:
    assert samples(Snapshot(False)) == {("sketchy_up", ()): 0}


def test_names_follow_the_conventions() -> None:
    for gauge in GAUGES.values():
        assert re.fullmatch(r"sketchy_[a-z][a-z0-9_]*", gauge.name)
        assert not gauge.name.endswith(("_total", "_count", "_sum", "_bucket", "_milliseconds"))
    for count in COUNTS:
        assert not count.name.endswith("_total")
    for times in TIMES:
        assert times.name.endswith("_seconds")
        assert list(times.bounds) == sorted(times.bounds)
    names = [gauge.name for gauge in GAUGES.values()] + [c.name for c in COUNTS] + [t.name for t in TIMES]
    assert len(names) == len(set(names))
    assert "sketchy_event_broadcasting_failures_total" in all_names()
