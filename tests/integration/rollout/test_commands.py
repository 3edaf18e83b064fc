"""The rollout's and the tuning's command line, on a rollout in simulated time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from sketchy_orchestration import settings as reading
from sketchy_orchestration.cli.main import app
from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.domain.rollout import Action
from sketchy_orchestration.domain.rollout_commands import Wish
from sketchy_orchestration.domain.rollout_plan import Plan
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.monitoring.alerting import Alerting
from tests.integration.monitoring.receivers import webhook
from tests.integration.rollout.simulation import Simulation

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "250")
    reading.settings.cache_clear()
    yield lambda *words: CliRunner().invoke(app, list(words))
    reading.settings.cache_clear()


def test_an_operator_drives_a_rollout_by_commands(run: Run, simulation: Simulation, tmp_path: Path) -> None:
    why = ("--reason", "a test", "--by", "ann")
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "steps: [{percentage: 5, hours: 1, gate: true}, {percentage: 50, hours: 1}]\n"
        "freeze: [{why: nobody is there, since: 2020-01-01T00:00:00Z, until: 2100-01-01T00:00:00Z}]\n"
    )
    assert "frozen now (nobody is there)" in str(run("rollout", "start", "--plan", str(plan), *why).exception)
    plan.write_text(plan.read_text().partition("freeze")[0])
    assert "5 %" in run("rollout", "plan", "--plan", str(plan)).output
    written = run("rollout", "plan", "--yaml")
    (tmp_path / "default.yaml").write_text(written.output)
    assert Plan().fingerprint in run("rollout", "plan", "--plan", str(tmp_path / "default.yaml")).output
    assert "begun at 5 %" in run("rollout", "start", "--plan", str(plan), *why).output
    assert run("rollout", "start", *why).exit_code != 0
    assert "paused at 5 %" in run("rollout", "pause", *why).output
    shown = run("rollout", "status").output
    assert "paused (operator)" in shown
    assert "here for" in shown
    assert "goes on" in run("rollout", "resume", *why).output
    assert run("rollout", "promote", "--step", "1", *why).exit_code != 0
    assert "now 50 %" in run("rollout", "promote", "--step", "0", *why).output
    assert "completed" in run("rollout", "skip", *why).output
    assert "back at 0 %" in run("rollout", "undo", *why).output
    assert "from 5 %" in run("rollout", "retry", *why).output
    assert "is at 0 %" in run("rollout", "abort", *why).output

    def told(action: Action) -> None:
        rollouts.tell(
            simulation.connection,
            simulation.settings,
            "enrolment",
            Wish(action),
            by="ann",
            reason="a test",
        )

    # The live view goes on until the rollout has ended, and shows that.
    told(Action.retry)
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(run, "rollout", "watch", "--every", "0.2")
        assert not wait_until(watching.done, seconds=1)
        told(Action.abort)
        assert "aborted" in watching.result(20).output
    history = json.loads(run("rollout", "history", "--json").output)
    assert [each["action"] for each in reversed(history)] == [
        *("start", "pause", "resume", "promote", "skip", "undo", "retry", "abort", "retry", "abort")
    ]
    assert {(each["by"], each["reason"]) for each in history} == {("ann", "a test")}
    assert json.loads(run("rollout", "status", "--json").output)["state"] == "aborted"


def test_changes_are_told_through_the_alert_channels(
    simulation: Simulation, connection: psycopg.Connection
) -> None:
    with webhook() as heard:
        settings = simulation.settings.model_copy(
            update={"alert_slack_url": SecretStr(f"json://{heard.url}/")}
        )
        simulation.settings = settings
        simulation.start()
        Alerting(settings).evaluate(connection)
    assert "[info rollout] enrolment: rollout started at 0 % (default, 4 steps)" in heard.titles


def test_a_wrong_plan_says_all_that_is_wrong(run: Run, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("steps: [{percentage: 500, hours: 1}]\nsurprise: 1\n")
    said = str(run("rollout", "plan", "--plan", str(plan)).exception)
    assert "steps.0.percentage" in said
    assert "surprise" in said


def test_tune_proposes_from_what_was_measured_and_changes_nothing(
    run: Run, simulation: Simulation, connection: psycopg.Connection
) -> None:
    connection.execute("select orchestration.set_flag('enrolment', 'ann', 'x', null, 50)")
    before = connection.execute("select * from orchestration.flags order by name").fetchall()
    nothing = json.loads(run("tune", "--json").output)
    assert all(each["proposed"] is None for each in nothing)
    for _ in range(4):
        simulation.tick()
    found = {(each["name"], each["where"]): each for each in json.loads(run("tune", "--json").output)}
    lateness = found["lateness_p95_ms", "plan, limit"]
    assert (lateness["now"], lateness["proposed"]) == (1000, 12)
    assert found["fanout_concurrency", "flag"]["proposed"] == 20
    assert found["pubnub_failures", "monitoring/rules.py"]["proposed"] is not None
    assert "nothing was changed" in run("tune").output
    assert connection.execute("select * from orchestration.flags order by name").fetchall() == before
