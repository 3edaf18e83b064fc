"""Each metric of the default plan sees its own fault in the tables, and nothing else does."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.delivery.rollout_measuring import measure
from sketchy_orchestration.domain.analysis import Verdict
from sketchy_orchestration.domain.rollout_metrics import MetricName
from sketchy_orchestration.domain.rollout_plan import Plan
from tests.integration.rollout.simulation import Simulation


def minutes(metric: str, label: str, count: int, ms: float | None = None) -> str:
    """Rows of a minute of the hour that has just passed."""
    buckets = "'{}'" if ms is None else f"jsonb_build_object(orchestration.bucket_of({ms}), {count})"
    return (
        "insert into orchestration.metric_minutes (minute, metric, label, count, total, largest, buckets)"
        f" values (date_trunc('minute', %(at)s::timestamptz), '{metric}', '{label}', {count},"
        f" {count * (ms or 0)}, {ms or 0}, {buckets})"
        " on conflict (minute, metric, label) do update"
        " set (count, total, largest, buckets)"
        " = row (excluded.count, excluded.total, excluded.largest, excluded.buckets)"
    )


LATE = "lateness_p95_ms"
FAULTS: dict[str, tuple[str, set[str]]] = {
    "error_rate": (minutes("failed_attempts", "timeout", 300), {"error_rate"}),
    "timer_accuracy": (minutes("lateness", "voting", 20, 1500), {"timer_accuracy"}),
    "event_delivery": (minutes("outcomes", "dead", 60), {"event_delivery"}),
    LATE: (minutes("lateness", "voting", 900, 1500), {"timer_accuracy", LATE}),
    "event_latency_p95_ms": (minutes("delivery", "", 3000, 2500), {"event_latency_p95_ms"}),
    "trigger_p95_ms": (minutes("trigger", "", 900, 700), {"trigger_p95_ms"}),
    "slow_sweeps": (minutes("shifts", "timer:slow_sweeps", 400), {"slow_sweeps"}),
    "critical_alerts": (
        "insert into orchestration.alerts (rule, severity, state, value, fired_at)"
        " values ('x', 'critical', 'firing', 1, %(at)s)",
        {"critical_alerts"},
    ),
    "completion_gap": (
        "update orchestration.transitions set to_phase = 'cancelled'"
        " where from_phase = 'results' and handler = 'orchestration'",
        {"completion_gap", "compare_completed"},
    ),
    "compare_overrun_ms": (
        "update orchestration.transitions set deadline = deadline - interval '1 minute'"
        " where handler = 'orchestration'",
        {"compare_overrun_ms"},
    ),
}


def test_each_metric_sees_its_own_fault(simulation: Simulation, connection: psycopg.Connection) -> None:
    plan = Plan()
    asked = {str(metric.name) for metric in plan.metrics} | {f"compare_{c.measure}" for c in plan.comparisons}
    assert asked - FAULTS.keys() == {"compare_completed", MetricName.control_games}
    simulation.start()
    simulation.until_percentage(50)
    simulation.pass_time()

    def failing() -> set[str]:
        looked = measure(connection, rollouts.newest(connection, "enrolment"), simulation.now)
        assert {each.metric for each in looked} == asked - {MetricName.control_games}
        return {each.metric for each in looked if each.verdict is Verdict.failed}

    assert failing() == set()
    found = {}
    for name, (fault, _) in FAULTS.items():
        with connection.transaction(force_rollback=True):
            connection.execute(fault, {"at": simulation.now - timedelta(minutes=30)})
            found[name] = failing()
    assert found == {name: seen for name, (_, seen) in FAULTS.items()}


@pytest.mark.parametrize("games", [0, 40])
def test_without_a_control_group_nothing_begins(simulation: Simulation, games: int) -> None:
    """At 0 % it is measured before anything is at stake."""
    simulation.play.games = games
    simulation.start()
    simulation.tick()
    simulation.tick()
    rollout = simulation.rollout()
    assert (rollout.pause, simulation.percentage()) == ("inconclusive", 0)
    assert "control_games" in rollout.why
