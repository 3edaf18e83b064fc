"""What a scrape of a real database says, as the gateway's role."""

from __future__ import annotations

import re

import psycopg

from sketchy_orchestration.database import monitoring
from sketchy_orchestration.monitoring.metric_names import GAUGES
from sketchy_orchestration.monitoring.metrics import Watch
from sketchy_orchestration.settings import Settings
from tests.integration.monitoring.conftest import Facts


def test_every_signal_is_exposed(
    connection: psycopg.Connection, operator: psycopg.Connection, facts: Facts
) -> None:
    monitoring.observe(operator, "canary", 20, label="local")
    monitoring.observe(operator, "dagster_daemon_alive", 1)
    facts.at_work()
    connection.execute("update orchestration.circuit set state = 'half_open', reason = 'credentials'")
    assert monitoring.signals(operator)["circuit_reason", "credentials"] == 1
    assert {name for name, _ in monitoring.signals(operator)} - GAUGES.keys() == set()


def test_the_gateways_role_may_read_all_of_it(
    operator: psycopg.Connection, settings: Settings, facts: Facts
) -> None:
    facts.forget_roll_ups()
    facts.transition(count=5)
    facts.event()
    facts.at_work()
    monitoring.roll_up(operator)
    watch = Watch(settings.model_copy(update={"pubnub_monthly_limit": 10}))
    text = watch.exposition().decode()
    assert "\nsketchy_up 1.0\n" in text
    assert 'sketchy_transitions_total{cause="timer"} 5.0' in text
    assert 'sketchy_service_level_ratio{level="timer_accuracy"} 1.0' in text
    assert 'sketchy_error_budget_burning_fast{level="availability"} 0.0' in text
    assert "sketchy_publish_month_used_ratio 0.1" in text
    assert 'sketchy_shifts_at_work{kind="timer"} 2.0' in text
    assert all(check.healthy for check in watch.checks())


def test_labels_are_few(operator: psycopg.Connection, settings: Settings, facts: Facts) -> None:
    facts.forget_roll_ups()
    for _ in range(50):
        facts.live_game(overdue=10)
        facts.transition()
    monitoring.roll_up(operator)
    series = re.findall(r"^sketchy_\S+", Watch(settings).exposition().decode(), re.MULTILINE)
    assert len(series) < 250


def test_many_scrapes_cost_no_more_than_one(settings: Settings, facts: Facts) -> None:
    watch = Watch(settings)
    first = watch.snapshot()
    facts.live_game(overdue=10)
    assert watch.snapshot() is first


def test_a_database_away_is_said() -> None:
    watch = Watch(Settings(_env_file=None, database_url="postgresql://nobody@127.0.0.1:1/nothing"))
    assert "sketchy_up 0.0" in watch.exposition().decode()
    (check,) = watch.checks()
    assert not check.healthy
