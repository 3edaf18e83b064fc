"""What `sketchy health` says of real databases."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sketchy_orchestration.cli.main import app
from sketchy_orchestration.local import processes
from sketchy_orchestration.monitoring import health
from sketchy_orchestration.settings import Settings
from tests.integration.gateway.serving import serving, settings_for
from tests.integration.migrations.conftest import StartPooler
from tests.integration.monitoring.conftest import Facts


def named(settings: Settings) -> dict[str, health.Check]:
    return {check.name: check for check in health.look_at_database(settings)}


def test_a_running_system_is_healthy(settings: Settings, facts: Facts) -> None:
    facts.at_work()
    found = named(settings)
    assert {name for name, check in found.items() if not check.healthy} == set()
    assert found["database"].latency_ms is not None
    assert dict(found["database"].numbers)["pooler"] == "none"


def test_what_fails_is_named(settings: Settings, facts: Facts) -> None:
    facts.live_game(overdue=30)
    facts.event(age=60, took=None)
    found = named(settings)
    assert {name for name, check in found.items() if not check.healthy} == {
        "timer_shifts",
        "fanout_shifts",
        "games",
        "outbox",
    }
    assert found["games"].for_seconds == pytest.approx(30, abs=5)


def test_a_database_without_our_schema_or_none_at_all(empty_database: str, database_url: str) -> None:
    (check,) = health.look_at_database(Settings(_env_file=None, database_url=empty_database))
    assert not check.healthy
    nobody = "postgresql://nobody@127.0.0.1:1/nothing"
    (check,) = health.look_at_database(Settings(_env_file=None, database_url=nobody))
    assert not check.healthy
    assert "no database at" in check.said


def test_the_pooler_between_is_named(database_url: str, start_pooler: StartPooler, facts: Facts) -> None:
    facts.at_work()
    through = Settings(_env_file=None, database_url=start_pooler(database_url, "session"))
    assert dict(named(through)["database"].numbers)["pooler"] == "session mode"
    (check,) = health.look_at_database(
        Settings(_env_file=None, database_url=start_pooler(database_url, "transaction"))
    )
    assert not check.healthy
    assert "transaction mode" in check.said


def test_a_gateway_that_is_not_ready_is_quoted(empty_database: str) -> None:
    with serving(settings_for(empty_database), ready=False) as gateway:
        assert processes.wait_until(
            lambda: "answers 503: database " in health.look_at_gateway(f"{gateway.url}/ready").said,
            seconds=20,
        )
    gone = health.look_at_gateway(f"{gateway.url}/ready")
    assert (gone.healthy, gone.said.startswith(f"no answer at {gateway.url}/ready: ")) == (False, True)


def test_the_exit_code_tells(monkeypatch: pytest.MonkeyPatch, database_url: str, facts: Facts) -> None:
    from sketchy_orchestration.cli import joining

    # Nobody listens where the gateway should be.
    known = Settings(_env_file=None, database_url=database_url, gateway_port=processes.free_port())
    monkeypatch.setattr(joining, "settings", lambda: known)
    run = CliRunner().invoke(app, ["health", "--json", "--no-gateway"])
    assert run.exit_code == 1
    assert json.loads(run.stdout)["checks"]["timer_shifts"]["healthy"] is False
    facts.at_work()
    run = CliRunner().invoke(app, ["health", "--json", "--no-gateway"])
    assert run.exit_code == 0, run.stdout
    assert json.loads(run.stdout)["status"] == "healthy"
    table = CliRunner().invoke(app, ["health"])
    assert table.exit_code == 1
    assert "gateway" in table.stdout
