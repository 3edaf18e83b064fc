"""A rollout in a real Dagster: jobs launched over GraphQL, the sensor that walks it, what it reports."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import dagster as dg
import httpx
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import RunningPostgres
from tests.e2e.dagster_runner import RunningDagster

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("dagster"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer"),
]

_LAUNCH = """
mutation ($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) {
  __typename ... on LaunchRunSuccess { run { runId } } } }
"""
_PLAN = """
name: quick
every_seconds: 1
metrics: [{name: timer_accuracy, empty: pass}, {name: critical_alerts, dry_run: true}]
comparisons: []
steps:
- {percentage: 10, hours: 0.0003}
- {percentage: 50, hours: 1}
"""
_BY_HAND = "{metrics: [], comparisons: [], steps: [{percentage: 5, hours: 1}, {percentage: 50, hours: 1}]}"
_LATE = """
    insert into orchestration.transitions
        (game_id, from_phase, to_phase, deadline, at, cause, handler, request_id)
    select gen_random_uuid(), 'drawing', 'voting', m.at - interval '5 seconds', m.at,
           'timer', 'orchestration', 'r'
    from (select clock_timestamp() as at) m, generate_series(1, 20)
"""


class Operator:
    """Launches jobs as the UI does, and looks at the rollout."""

    def __init__(self, dagster: RunningDagster) -> None:
        self.dagster = dagster
        self.client = httpx.Client(base_url=dagster.start_webserver(), timeout=30, trust_env=False)

    def launch(self, job: str, op: str | None = None, **config: object) -> str:
        """Launch a job, of the rollout if no op is named; the id of its run, or why it was refused."""
        op = op or job.removeprefix("rollout_")
        parameters = {
            "selector": {
                "repositoryLocationName": "it",
                "repositoryName": "__repository__",
                "jobName": job,
            },
            "runConfigData": json.dumps({"ops": {op: {"config": config}}}),
        }
        query = {"query": _LAUNCH, "variables": {"parameters": parameters}}
        answer = self.client.post("/graphql", json=query).json()["data"]["launchRun"]
        return str(answer["run"]["runId"] if "run" in answer else answer["__typename"])

    def run(self, job: str, **config: object) -> dg.DagsterRunStatus:
        """Launch it and wait until it has ended."""
        return self.ended(self.launch(job, by="ann", **config))

    def ended(self, run_id: str) -> dg.DagsterRunStatus:
        """How a run ended, waited for."""
        self.dagster.wait(lambda: self.dagster.status(run_id).value in {"SUCCESS", "FAILURE"})
        return self.dagster.status(run_id)

    def stands(self) -> tuple[str, float, int]:
        """(state, the flag's percentage, attempt)."""
        (row,) = self.dagster.execute(
            "select r.state, f.value::float8 as value, r.attempt from orchestration.rollouts r"
            " join orchestration.flags f on f.name = r.flag order by r.id desc limit 1"
        )
        return row["state"], row["value"], row["attempt"]


@pytest.fixture
def operator(postgres: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    name = f"test_{uuid.uuid4().hex[:16]}"
    url = postgres.create_database(name)
    application.install(url)
    migrate_up(url)
    running = RunningDagster(tmp_path_factory.mktemp("rollout"), url)
    try:
        operator = Operator(running)
        yield operator
        operator.client.close()
    finally:
        running.stop()
    postgres.drop_database(name)


def test_operators_launch_it_and_the_sensor_walks_it(operator: Operator) -> None:
    dagster = operator.dagster
    success = dg.DagsterRunStatus.SUCCESS
    assert operator.launch("rollout_start", by="ann", plan=_PLAN) == "RunConfigValidationInvalid"
    assert operator.run("rollout_start", reason="a test", plan=_PLAN) is success
    dagster.wait(lambda: operator.stands() == ("running", 50, 1), seconds=90)
    assert operator.run("rollout_abort", reason="I do not like it") is success
    assert operator.stands() == ("aborted", 0, 1)
    assert operator.run("rollout_retry", reason="now I do", from_step=True) is success
    assert operator.stands() == ("running", 50, 2)
    # The sensor sees the fault and rolls back by itself.
    dagster.execute(_LATE)
    dagster.wait(lambda: operator.stands() == ("rolled_back", 0, 2), seconds=60)
    story = [
        (row["action"], row["by"], row["reason"])
        for row in dagster.execute(
            "select action, by, reason from orchestration.rollout_changes order by version"
        )
    ]
    assert [(action, by) for action, by, _ in story] == [
        ("start", "ann"),
        ("advance", "controller"),
        ("abort", "ann"),
        ("retry", "ann"),
        ("roll_back", "controller"),
    ]
    assert story[2][2] == "I do not like it"
    # The plan is an asset, its verdicts are its checks; the last report follows the change.
    key = dg.AssetKey("rollout")

    def reported() -> bool:
        records = dagster.instance.fetch_materializations(key, limit=1).records
        latest = records[0].asset_materialization if records else None
        return latest is not None and latest.metadata["state"].value == "rolled_back"

    dagster.wait(reported, seconds=30)
    check = dg.AssetCheckKey(key, "timer_accuracy")
    storage = dagster.instance.event_log_storage

    def failed() -> bool:
        found = storage.get_asset_check_execution_history(check, limit=1)
        return [each.status for each in found] == [AssetCheckExecutionRecordStatus.FAILED]

    dagster.wait(failed, seconds=30)
    the_other_jobs(operator)


def the_other_jobs(operator: Operator) -> None:
    """What else an operator launches: by hand through a rollout, and the smaller ways back, all at once."""
    success = dg.DagsterRunStatus.SUCCESS
    assert operator.run("rollout_start", reason="by hand", plan=_BY_HAND) is success
    for name, percentage in (("pause", 5), ("resume", 5), ("promote", 50), ("skip", 50), ("undo", 0)):
        assert operator.run(f"rollout_{name}", reason="by hand") is success, name
        assert operator.stands()[1] == percentage, name
    ways = {
        "partial_rollback": operator.launch(
            "partial_rollback", "switch_one_off", flag="grace_period", dry_run=False
        ),
        **{
            f"rollback_{risk}": operator.launch(f"rollback_{risk}", f"answer_{risk}", dry_run=False)
            for risk in ("connections", "overlaps")
        },
    }
    assert {name: operator.ended(run_id) for name, run_id in ways.items()} == dict.fromkeys(ways, success)
    off = operator.dagster.execute(
        "select name from orchestration.flags"
        " where kind = 'switch' and not enabled and name <> 'emergency_stop'"
    )
    assert {row["name"] for row in off} == {"grace_period", "timer_monitoring"}
