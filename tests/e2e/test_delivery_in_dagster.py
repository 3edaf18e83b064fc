"""Validation, deployment and the way back in a real Dagster, launched over GraphQL as the UI does."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
from dagster._core.scheduler.instigation import InstigatorStatus

from sketchy_orchestration import __version__
from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.delivery import emergency
from sketchy_orchestration.delivery.deployment_host import ProcessHost
from sketchy_orchestration.domain.validation import Item
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.settings import Settings
from tests.e2e.dagster_runner import RunningDagster
from tests.e2e.releases import copy_release, settings_of, vouch

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("dagster"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer"),
]

NEW = "9.9.9"
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
_LAUNCH = """
mutation ($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) {
  __typename ... on LaunchRunSuccess { run { runId } } } }
"""


# What the validation broke on purpose counts for five minutes.
_MINUTES_PASS = """
    update orchestration.attempts set at = at - interval '10 minutes';
    update orchestration.metric_minutes set minute = minute - interval '20 minutes'
    where minute > now() - interval '20 minutes';
    delete from orchestration.alerts where state = 'pending';
    update orchestration.alerts set state = 'resolved', resolved_at = now() where state = 'firing';
"""


class Operator:
    """Launches jobs as the UI does."""

    def __init__(self, dagster: RunningDagster, settings: Settings) -> None:
        self.dagster = dagster
        self.settings = settings
        self.client = httpx.Client(base_url=dagster.start_webserver(), timeout=30, trust_env=False)

    def run(
        self, job: str, op: str = "", seconds: float = 60, **config: Any
    ) -> tuple[str, dg.DagsterRunStatus]:
        """Launch it, wait until it has ended; its id and how."""
        selector = {
            "repositoryLocationName": "it",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        ops = {"ops": {op: {"config": config}}} if config else {}
        parameters = {"selector": selector, "runConfigData": json.dumps(ops)}
        query = {"query": _LAUNCH, "variables": {"parameters": parameters}}
        answer = self.client.post("/graphql", json=query).json()["data"]["launchRun"]
        run_id = str(answer["run"]["runId"])
        self.dagster.wait(
            lambda: self.dagster.status(run_id).value in {"SUCCESS", "FAILURE", "CANCELED"}, seconds=seconds
        )
        return run_id, self.dagster.status(run_id)

    def at_work(self) -> list[tuple[str, str]]:
        """Kind and package version of every shift that beats."""
        return [
            (kind, row["release"].partition("+")[0])
            for kind in ("timer", "fanout")
            for row in self.dagster.at_work(kind)
        ]

    def backstop(self, change: InstigatorStatus | None = None) -> InstigatorStatus:
        """How this sensor stands, after switching it."""
        instance = self.dagster.instance
        (state,) = (one for one in instance.all_instigator_state() if one.instigator_name == "backstop")
        if change is not None:
            instance.update_instigator_state(state.with_status(change))
        return change or state.status

    def said(self, run_id: str) -> str:
        return "\n".join(entry.user_message for entry in self.dagster.instance.all_logs(run_id))


@pytest.fixture
def operator(postgres: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    name = f"test_{uuid.uuid4().hex[:16]}"
    url = postgres.create_database(name)
    application.install(url)
    migrate_up(url)
    with LocalPubNub() as pubnub:
        running = RunningDagster(
            tmp_path_factory.mktemp("delivery"),
            url,
            PUBNUB_ORIGIN=pubnub.origin,
            PUBNUB_PUBLISH_KEY=pubnub.publish_key,
            PUBNUB_SUBSCRIBE_KEY=pubnub.subscribe_key,
            GATEWAY_PORT="1",
        )
        try:
            operator = Operator(running, settings_of(url, pubnub, running.folder / "home"))
            yield operator
            operator.client.close()
        finally:
            rows = running.execute("select kept from orchestration.deployments")
            # First the daemon, which would replace the shifts that are stopped, and leave those to nobody.
            running.stop()
            for row in rows:
                stop_processes(row["kept"])
    postgres.drop_database(name)


def stop_processes(kept: dict[str, Any]) -> None:
    host = ProcessHost(Settings(_env_file=None), Path())  # type: ignore[call-arg]  # pydantic's
    for placement in (kept.get("placement", {}), kept.get("old_back", {})):
        host.stop(placement)


def test_validated_deployed_taken_back_and_stopped(operator: Operator, tmp_path: Path) -> None:
    dagster = operator.dagster
    dagster.wait_until_settled()

    run, status = operator.run("production_deployment")
    assert status is FAILURE
    assert "has not been validated" in operator.said(run)

    # Enrolment is at 0 %: its games are its own all the same.
    run, status = operator.run("staging_validation", "run_the_checklists", seconds=400, games=10)
    assert status is SUCCESS, operator.said(run)
    (verdict,) = dagster.execute("select go, passed, total, why from orchestration.validations")
    assert (verdict["go"], verdict["why"]) == (True, "every step passed")
    assert dagster.execute("select count(*) as n from public.games")[0]["n"] == 0
    for item in Item:
        dagster.execute(
            "insert into orchestration.attestations (item, attested_by, note, expires_at)"
            " values (%s, 'ann', 'looked at', now() + interval '1 day')",
            str(item),
        )

    dagster.execute(_MINUTES_PASS)
    wanted: dict[str, Any] = {
        "override": "a test",
        "watch_minutes": 0.02,
        "op": "walk_the_deployment",
        "seconds": 200,
    }
    dagster.execute(
        "insert into orchestration.alerts (rule, severity, state, value, fired_at)"
        " values ('made_up', 'critical', 'firing', 1, now())"
    )
    run, status = operator.run("production_deployment", **wanted)
    assert status is FAILURE
    assert "undo code" in operator.said(run)
    dagster.execute("delete from orchestration.alerts where rule = 'made_up'")
    critical = "select from orchestration.alerts where severity = 'critical' and state = 'firing'"
    dagster.wait(lambda: not dagster.execute(critical), seconds=150)

    # Another release, whose shifts relieve those that Dagster runs.
    operator.backstop(InstigatorStatus.STOPPED)
    path = copy_release(tmp_path / "new", NEW)
    vouch(operator.settings, path)
    run, status = operator.run("production_deployment", path=str(path), **wanted)
    assert status is SUCCESS, operator.said(run)
    states = "select state from orchestration.deployments order by 1"
    assert [row["state"] for row in dagster.execute(states)] == ["failed", "rolled_back", "succeeded"]
    dagster.wait(lambda: operator.at_work() == [("timer", NEW)] * 2 + [("fanout", NEW)] * 2)
    (begun,) = dagster.execute("select state, release from orchestration.rollouts")
    assert begun["state"] in ("running", "paused")
    assert begun["release"].startswith(NEW)
    assert operator.backstop() is InstigatorStatus.RUNNING

    _, status = operator.run("rollback_pubnub", "answer_pubnub", dry_run=False, reason="a test")
    assert status is SUCCESS
    run, status = operator.run("emergency_rollback", seconds=200)
    assert status is SUCCESS, operator.said(run)
    off = "select name from orchestration.flags where kind = 'switch' and not enabled order by 1"
    assert [row["name"] for row in dagster.execute(off)] == ["pubnub_broadcasting", "timer_monitoring"]
    dagster.wait(lambda: "starting none: an emergency stop" in dagster.said("daemon"))
    # The release before is back, and stands still until the stop is lifted.
    before = [("timer", __version__)] * 2 + [("fanout", __version__)] * 2
    dagster.wait(lambda: operator.at_work() == before)
    assert dagster.execute("select from orchestration.rollouts where state in ('running', 'paused')") == []
    assert operator.backstop() is InstigatorStatus.STOPPED
    emergency.lift_stop(operator.settings, by="ann", reason="the test is over")
    assert [row["name"] for row in dagster.execute(off)] == ["emergency_stop", "pubnub_broadcasting"]
