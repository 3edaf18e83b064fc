"""The watch in a real Dagster that keeps its runs in Postgres: jobs over GraphQL, alerts, growth."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import httpx
import psycopg
import pytest
from pydantic import SecretStr

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.defs.maintenance import dagster_storage
from sketchy_orchestration.local import application, processes, stack_dagster
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.monitoring.watch import Watchman
from sketchy_orchestration.settings import Settings
from tests.e2e.dagster_runner import RunningDagster
from tests.e2e.dagster_week import Week
from tests.integration.monitoring.receivers import Received, webhook

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("watch_in_dagster"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer"),
]

_LAUNCH = """
mutation ($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }
"""
_RUN = """
query ($id: ID!) { runOrError(runId: $id) { ... on Run { status eventConnection { events {
  ... on HandledOutputEvent { __typename }
  ... on ExecutionStepOutputEvent { metadataEntries { label
    ... on MarkdownMetadataEntry { mdStr } ... on FloatMetadataEntry { floatValue } } } } } } } }
"""


class Watched:
    """A running Dagster, somebody to hear PubNub, and where alerts arrive."""

    def __init__(self, dagster: RunningDagster, url: str, heard: Received) -> None:
        self.dagster = dagster
        self.url = url
        self.heard = heard
        self.relieved: list[str] = []
        self._client = httpx.Client(base_url=dagster.start_webserver(), timeout=30, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def ask(self, text: str, **variables: object) -> dict[str, Any]:
        answer = self._client.post("/graphql", json={"query": text, "variables": variables}).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def run(self, job: str, **config: object) -> tuple[str, str, dict[str, Any]]:
        """Launch it as the UI does; its id, how it ended, and the metadata of its output by label."""
        op = {"performance_review": "review_performance", "load_test": "test_under_load"}.get(
            job, "drill_recovery"
        )
        launched = self.ask(
            _LAUNCH,
            parameters={
                "selector": {
                    "repositoryLocationName": "it",
                    "repositoryName": "__repository__",
                    "jobName": job,
                },
                "runConfigData": json.dumps({"ops": {op: {"config": config}}}),
            },
        )["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(self.ask(_RUN, id=run_id)["runOrError"])
            return found["status"] in {"SUCCESS", "FAILURE", "CANCELED"}

        self.dagster.wait(ended, seconds=150)
        entries = [
            entry
            for event in found["eventConnection"]["events"]
            for entry in event.get("metadataEntries", [])
        ]
        told = {entry["label"]: entry.get("mdStr", entry.get("floatValue")) for entry in entries}
        return run_id, found["status"], told

    def relieve(self) -> None:
        """Let a shift of each kind be half an hour old, so that another relieves it."""
        for kind in ("timer", "fanout"):
            aged = self.dagster.at_work(kind)[0]
            self.dagster.execute(
                "update orchestration.shifts set started_at = started_at - interval '1 hour'"
                " where shift_id = %s",
                aged["shift_id"],
            )
            self.relieved.append(aged["dagster_run_id"])

    def alert(self, rule: str) -> list[tuple[str, int]]:
        """(state, how often it was told that it fires) of its alerts."""
        return [
            (row["state"], row["told"])
            for row in self.dagster.execute(
                "select a.state, count(m.*) filter (where m.kind = 'firing') as told"
                " from orchestration.alerts a left join orchestration.alert_messages m on m.alert_id = a.id"
                " where a.rule = %s and a.fired_at is not null group by a.id order by a.id",
                rule,
            )
        ]

    def hears(self, words: str, *beginnings: str) -> None:
        """Exactly these messages about it arrive; they are sent once the alert's row is written."""

        def heard() -> list[str]:
            return [title.partition("]")[0] for title in self.heard.titles if words in title]

        self.dagster.wait(lambda: len(heard()) >= len(beginnings), seconds=20)
        assert heard() == list(beginnings)


@pytest.fixture(scope="module")
def watched(postgres: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One for all tests here; they go from the first to the last."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    url = postgres.create_database(name)
    application.install(url)
    migrate_up(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select orchestration.set_flag('enrolment', 'test', 'test', true, 100)")
    with LocalPubNub() as pubnub, webhook() as heard:
        running = RunningDagster(
            tmp_path_factory.mktemp("watched"),
            url,
            stack_dagster.prepare_storage(url, None),
            PUBNUB_ORIGIN=pubnub.origin,
            PUBNUB_PUBLISH_KEY=pubnub.publish_key,
            PUBNUB_SUBSCRIBE_KEY=pubnub.subscribe_key,
            ALERT_SLACK_URL=f"json://{heard.url}/",
            ALERT_QUIET_SECONDS="2",
        )
        try:
            running.wait_until_settled()
            seen = Watched(running, url, heard)
            yield seen
            seen.close()
        finally:
            running.stop()
    postgres.drop_database(name)


def test_a_load_test_plays_through_everything_and_reports(watched: Watched) -> None:
    _, status, told = watched.run("load_test", games=3, rate=3.0, speed=15.0, seconds=120.0)
    assert status == "SUCCESS", told
    assert "every promise was kept" in told["report"]
    assert told["completed"] == 3.0
    assert told["events_heard"] == told["events_expected"] > 0
    print(told["report"])  # noqa: T201  figures of the report


def test_a_recovery_drill_restores_what_the_games_left_behind(watched: Watched) -> None:
    watched.relieve()  # meanwhile: the week at the end needs the runs of shifts that have ended
    _, status, told = watched.run("recovery_drill")
    assert status == "SUCCESS", told
    assert "the backup can be trusted" in told["report"]
    assert told["restore_seconds"] > 0
    print(told["report"])  # noqa: T201  figures of the report


def test_a_performance_review_shows_where_everything_stands(watched: Watched) -> None:
    _, status, told = watched.run("performance_review", days=7)
    assert status == "SUCCESS", told
    assert "| service level | contract | measured |" in told["report"]
    assert "| orchestration | 3 | 3 | 100.000 % |" in told["report"] or "no data" in told["report"]
    assert "Stored: " in told["report"]
    assert told["dagster_mb"] > 0
    print(told["report"])  # noqa: T201  figures of the report


def test_a_failed_run_and_a_dead_daemon_are_told_once_and_over_when_seen_to(watched: Watched) -> None:
    """The sensor tells of the run; of the daemon only the watchdog can."""
    dagster = watched.dagster
    run_id, status, _ = watched.run("load_test", games=1, seconds=0.1)
    assert status == "FAILURE"
    dagster.wait(lambda: watched.alert("dagster_failed_runs") == [("firing", 1)], seconds=90)
    dagster.instance.delete_run(run_id)
    assert watched.alert("dagster_daemon") == []
    processes.stop(dagster.daemon, (signal.SIGKILL, 5.0))
    settings = Settings(
        _env_file=None,
        database_url=SecretStr(watched.url),
        alert_slack_url=SecretStr(f"json://{watched.heard.url}/"),
        alert_rules={"dagster_daemon": {"limit": 5}},
    )
    watchdog = Watchman(settings)

    def fired() -> bool:
        look = watchdog.look()
        return look.evaluation is not None and "dagster_daemon" in look.evaluation.fired

    dagster.wait(fired, seconds=60)
    dagster.start_daemon()
    for rule in ("dagster_daemon", "dagster_failed_runs"):
        dagster.wait(lambda rule=rule: watched.alert(rule) == [("resolved", 1)], seconds=120)  # type: ignore[misc]
    watched.hears("Dagster has not reported", "[critical firing", "[critical resolved")
    watched.hears("Dagster runs failed", "[warning firing", "[warning resolved")


def test_a_week_of_dagster_stays_flat(watched: Watched) -> None:
    """The rows of this Dagster, some of each kind, for seven days, cleaned every night.

    What is kept longest, points of assets, is kept for three days, so that it ends within the week.
    """
    dagster = watched.dagster
    assert len(watched.relieved) == 2
    for run in watched.relieved:
        dagster.wait(lambda run=run: dagster.status(run) is dg.DagsterRunStatus.SUCCESS)  # type: ignore[misc]
    processes.stop(dagster.daemon, (signal.SIGTERM, 10.0))
    nights = []
    with Week(watched.url) as week:
        for ago in range(7, 0, -1):
            night = datetime.now(UTC) - timedelta(days=ago - 1)
            week.live_through_a_day(
                before=night,
                forget_ticks=lambda now: dagster_storage.forget_skipped_ticks(dagster.instance, now),
            )
            dagster_storage.clean(dagster.instance, now=night, events_kept=timedelta(days=3))
            nights.append(week.megabytes())
    print(f"MB of Dagster's storage after each day: {nights}; {week.rows_a_day}")  # noqa: T201
    # By the third night runs have their room; the fourth adds a day of points, which leave from then on.
    assert nights[3] - nights[2] <= 10
    assert max(nights[5:]) <= 1.05 * nights[4]
