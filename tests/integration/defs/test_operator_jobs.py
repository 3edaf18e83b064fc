"""Operators' jobs in this process: what each takes, does, and leaves on record."""

from __future__ import annotations

from typing import Any

import dagster as dg
import psycopg
import pytest

from sketchy_orchestration.defs.delivery import rollback, rollout_jobs

pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer")

PLAN = "{metrics: [], comparisons: [], steps: [{percentage: 5, hours: 1}, {percentage: 50, hours: 1}]}"


class Jobs:
    """Runs one of them, with a config for its only op."""

    def __init__(self, instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
        self._instance = instance
        self._resources = resources

    def run(self, job: dg.JobDefinition, **config: object) -> bool:
        (op,) = (node.name for node in job.all_node_defs)
        done = job.execute_in_process(
            instance=self._instance,
            resources=self._resources,
            run_config={"ops": {op: {"config": config}}} if config else {},
            raise_on_error=False,
        )
        return done.success


@pytest.fixture
def jobs(stored_instance: dg.DagsterInstance, resources: dict[str, Any]) -> Jobs:
    return Jobs(stored_instance, resources)


def test_a_rollout_by_jobs(jobs: Jobs, connection: psycopg.Connection) -> None:
    who = {"by": "ann", "reason": "a test"}
    assert jobs.run(rollout_jobs.rollout_start, plan=PLAN, **who)
    for job, more in (
        (rollout_jobs.rollout_pause, {}),
        (rollout_jobs.rollout_resume, {}),
        (rollout_jobs.rollout_promote, {"step": 0}),
        (rollout_jobs.rollout_skip, {}),
        (rollout_jobs.rollout_undo, {}),
        (rollout_jobs.rollout_retry, {}),
        (rollout_jobs.rollout_abort, {"to": "stay"}),
    ):
        assert jobs.run(job, **who, **more), job.name
    # Safe to launch twice: it does not stand at that step any more.
    assert not jobs.run(rollout_jobs.rollout_promote, step=0, **who)
    rows = connection.execute(
        "select action, percentage::int, by, reason from orchestration.rollout_changes order by version"
    ).fetchall()
    assert [row[:2] for row in rows] == [
        ("start", 5),
        ("pause", 5),
        ("resume", 5),
        ("promote", 50),
        ("skip", 50),
        ("undo", 0),
        ("retry", 5),
        ("abort", 5),
    ]
    assert {row[2:] for row in rows} == {("ann", "a test")}


def test_the_ways_back_by_jobs(jobs: Jobs, connection: psycopg.Connection) -> None:
    def off() -> set[str]:
        rows = connection.execute(
            "select name from orchestration.flags where kind = 'switch' and not enabled"
            " and name <> 'emergency_stop'"
        )
        return {row[0] for row in rows}

    def numbers() -> dict[str, float]:
        rows = connection.execute(
            "select name, value::float8 from orchestration.flags"
            " where name in ('fanout_concurrency', 'max_games_per_sweep')"
        )
        return dict(rows.fetchall())

    before = numbers()
    # As launched they only say what they would do.
    for job in (
        rollback.partial_rollback,
        rollback.rollback_pubnub,
        rollback.rollback_connections,
        rollback.rollback_overlaps,
    ):
        assert jobs.run(job), job.name
    assert (off(), numbers()) == (set(), before)
    assert jobs.run(rollback.partial_rollback, flag="grace_period", dry_run=False)
    for _ in range(2):
        assert jobs.run(rollback.rollback_connections, dry_run=False)
        assert numbers() == {name: value // 4 for name, value in before.items()}
    assert jobs.run(rollback.rollback_overlaps, dry_run=False)
    assert off() == {"grace_period", "timer_monitoring"}
    assert jobs.run(rollback.emergency_rollback, dry_run=True)
    assert off() == {"grace_period", "timer_monitoring"}
    for _ in range(2):
        assert jobs.run(rollback.emergency_rollback)
        assert off() == {"grace_period", "timer_monitoring", "pubnub_broadcasting"}
    stops = connection.execute("select operator, reason from orchestration.emergency_stops").fetchall()
    assert stops == [("dagster:operator", "launched from the Dagster UI")]
