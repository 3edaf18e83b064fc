"""Every rule on a provoked fault: it fires once, where it should, and resolves. Mail, webhooks are real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from sketchy_orchestration.cli import joining
from sketchy_orchestration.cli.main import app
from sketchy_orchestration.database import monitoring
from sketchy_orchestration.domain.alerting import Channel, Rule
from sketchy_orchestration.monitoring.alerting import Alerting, Evaluation
from sketchy_orchestration.monitoring.channels import Channels, WrongChannelError
from sketchy_orchestration.monitoring.metrics import level_signals
from sketchy_orchestration.monitoring.rules import BY_NAME, RULES
from sketchy_orchestration.settings import AlertNotifier, Settings
from tests.integration.monitoring.conftest import Facts
from tests.integration.monitoring.receivers import Received, mail_server, webhook


@dataclass
class Heard:
    """Where messages arrive."""

    slack: Received
    email: Received
    pagerduty: Received

    def titles(self, channel: Channel) -> list[str]:
        found: Received = getattr(self, str(channel))
        return found.titles

    def clear(self) -> None:
        for one in (self.slack, self.email, self.pagerduty):
            one.titles.clear()


@pytest.fixture
def heard() -> Iterator[Heard]:
    with webhook() as slack, mail_server() as mail, webhook() as pagerduty:
        yield Heard(slack, mail, pagerduty)


@pytest.fixture
def alerting_settings(settings: Settings, heard: Heard) -> Settings:
    mail = f"mailto://{heard.email.url}/?from=alerts@example.com&to=operators@example.com"
    return settings.model_copy(
        update={
            "alert_slack_url": SecretStr(f"json://{heard.slack.url}/"),
            "alert_email_url": SecretStr(mail),
            "alert_pagerduty_url": SecretStr(f"json://{heard.pagerduty.url}/"),
            "pubnub_monthly_limit": 10,
        }
    )


@dataclass
class Clock:
    """Looks at the rules again and again, as time goes on."""

    alerting: Alerting
    connection: psycopg.Connection
    settings: Settings
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def look(self, seconds: float = 0) -> Evaluation:
        self.now += timedelta(seconds=seconds)
        more = level_signals(self.connection, self.settings)
        found = self.alerting.evaluate(self.connection, more, self.now)
        assert found is not None
        return found


@pytest.fixture
def clock(alerting_settings: Settings, operator: psycopg.Connection, facts: Facts) -> Clock:
    facts.at_work()
    return Clock(Alerting(alerting_settings), operator, alerting_settings)


Fault = Callable[[Facts, psycopg.Connection], object]


def _sql(text: str) -> Fault:
    return lambda facts, _: facts.connection.execute(text)


def _observe(name: str, value: float, age: float = 0, label: str = "") -> Fault:
    return _sql(
        "insert into orchestration.observations (name, label, value, at)"
        f" values ('{name}', '{label}', {value}, clock_timestamp() - make_interval(secs => {age}))"
    )


def _minutes(metric: str, label: str, count: int, minutes_ago: int = 2, buckets: str = "{}") -> str:
    return (
        "insert into orchestration.metric_minutes (minute, metric, label, count, buckets) values"
        f" (date_trunc('minute', now()) - {minutes_ago} * interval '1 minute', '{metric}', '{label}',"
        f" {count}, '{buckets}');"
    )


_CLEAR = """
    truncate orchestration.observations, orchestration.metric_minutes, orchestration.outbox,
        orchestration.outcomes, orchestration.attempts, orchestration.dead_letters,
        orchestration.set_aside, orchestration.live_games, orchestration.trigger_failures,
        orchestration.ledger;
    update orchestration.rollouts set looked_at = clock_timestamp() + interval '1 hour';
    update orchestration.flags set enabled = true where kind = 'switch';
    update orchestration.flags set value = 0 where name = 'publish_rate';
    update orchestration.circuit set state = 'closed';
    update orchestration.rolled_up set until = date_trunc('minute', clock_timestamp());
    update orchestration.shifts
    set heartbeat_at = clock_timestamp() + interval '1 hour', ended_at = null, report = '{}';
    select orchestration.ensure_partitions();
"""

_DELIVERED = (
    "insert into orchestration.outcomes (outbox_id, event_id, lane, outcome, attempts, occurred_at)"
    " select 0, gen_random_uuid(), 0, 'delivered', 1, clock_timestamp() from generate_series(1, {count})"
)
_LEFT = (
    "insert into orchestration.outbox (lane, type, data, channels, request_id)"
    " select 0, 'player_left', '{}', '{x}', 'r' from generate_series(1, 30)"
)
_DEAD = (
    "insert into orchestration.dead_letters (event_id, outbox_id, type, user_id, data, channels, request_id,"
    " occurred_at, reason, attempts) values (gen_random_uuid(), 1, 'x', 'x', '{}', '{x}', 'r', now(), 'x', 3)"
)
_SET_ASIDE = (
    "insert into orchestration.set_aside (game_id, retry_at, sqlstate, error)"
    " values (gen_random_uuid(), now(), 'P0001', 'x')"
)
_SLOW = _minutes("minutes", "down", 9) + _minutes("minutes", "up", 9)
_SLOWLY = _minutes("minutes", "down", 6, 40) + _minutes("minutes", "up", 800, 40)

_UNWATCHED = (
    "select orchestration.begin_rollout('enrolment', '{\"every_seconds\": 60}', 0, null, 'ann', 'x',"
    " now() - interval '190 seconds', '[]')"
)

FAULTS: dict[str, Fault] = {
    "high_error_rate": _sql(_minutes("failed_attempts", "timeout", 9) + _minutes("transitions", "timer", 90)),
    "sweep_timeout": _sql(
        "update orchestration.shifts set report = '{\"sweep_max_ms\": 31000}' where kind = 'timer'"
    ),
    "pubnub_failures": lambda facts, _: facts.failed_attempts(11),
    "pubnub_rate_limit_near": _sql(
        "update orchestration.flags set value = 1 where name = 'publish_rate';" + _DELIVERED.format(count=50)
    ),
    "events_held_back": _sql(
        "update orchestration.shifts set report = '{\"held_back_share\": 0.9}' where kind = 'fanout'"
    ),
    "pubnub_throttled": lambda facts, _: facts.failed_attempts(1, reason="throttled"),
    "presence_anomaly": _sql(_LEFT),
    "pubnub_usage": _sql(_minutes("publishes", "", 9)),
    "canary_silent": _observe("canary", 20, age=90, label="local"),
    "canary_slow": _observe("canary", 1200, label="local"),
    "games_overdue": lambda facts, _: facts.live_game(overdue=8),
    "games_set_aside": _sql(_SET_ASIDE),
    "circuit_open": _sql(
        "update orchestration.circuit set state = 'open', since = clock_timestamp() - interval '40 s'"
    ),
    "dead_letters": _sql(_DEAD),
    "events_waiting": lambda facts, _: facts.event(age=40, took=None),
    "ledger_unaccounted": _sql("insert into orchestration.ledger values (now(), 9, 8, 0, 0, true)"),
    "trigger_failures": _sql("insert into orchestration.trigger_failures (trigger_name) values ('x')"),
    "shift_missing": _sql(
        "update orchestration.shifts set ended_at = now() where shift_id ="
        " (select shift_id from orchestration.shifts where kind = 'timer' limit 1)"
    ),
    "shifts_gone": _sql("update orchestration.shifts set ended_at = now() where kind = 'fanout'"),
    "switched_off": _sql("update orchestration.flags set enabled = false where name = 'grace_period'"),
    "partitions_ahead": _sql(
        """do $$ declare r record; begin for r in select c.oid::regclass as t from pg_class c
           join pg_inherits i on i.inhrelid = c.oid
           where i.inhparent::regclass::text = 'orchestration.attempts'
           and right(c.relname, 8) > to_char(now() + interval '1 day', 'YYYYMMDD')
           loop execute 'drop table ' || r.t; end loop; end $$"""
    ),
    "dagster_daemon": _observe("dagster_daemon_alive", 1, age=130),
    "dagster_failed_runs": _observe("dagster_failed_runs_1h", 2),
    "budget_burning_fast": _sql(_SLOW),
    "budget_burning_slow": _sql(_SLOWLY),
    "roll_up_late": _sql("update orchestration.rolled_up set until = now() - interval '6 minutes'"),
    "rollout_unwatched": _sql(_UNWATCHED),
    "key_age": _observe("key_age_days", 91, label="CRON_SECRET"),
}
ELSEWHERE = {
    "alert_channel_failing",  # below
    "database_connections",  # needs a server of its own to fill
    "old_transaction",  # takes a quarter of an hour by nature
}


def test_every_rule_is_provoked() -> None:
    assert FAULTS.keys() | ELSEWHERE == BY_NAME.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_a_rule_fires_once_and_resolves(name: str, clock: Clock, heard: Heard, facts: Facts) -> None:
    rule: Rule = BY_NAME[name]
    facts.connection.execute(_CLEAR)
    facts.accepted_beside_a_failure(11)
    assert clock.look().firing == 0
    FAULTS[name](facts, clock.connection)
    clock.look(1)
    for _ in range(3):
        clock.look(max(rule.for_seconds, 1))
    for channel in Channel:
        about = [title for title in heard.titles(channel) if _is_about(rule, title)]
        assert [title.startswith(f"[{rule.severity} firing]") for title in about] == [True] * (
            channel in rule.channels
        ), heard
    heard.clear()
    facts.connection.execute(_CLEAR)
    clock.look(1)
    clock.look(61)
    clock.look(61)
    for channel in rule.channels:
        about = [title for title in heard.titles(channel) if _is_about(rule, title)]
        assert [title.startswith(f"[{rule.severity} resolved]") for title in about] == [True]
    rows = clock.connection.execute(
        "select state, fired_at is not null from orchestration.alerts where rule = %s", [name]
    ).fetchall()
    assert rows == [("resolved", True)]


def _is_about(rule: Rule, title: str) -> bool:
    words = rule.summary.replace("{label}", "{value}").split("{value}")
    return all(part.strip() in title for part in words)


def test_an_unacknowledged_critical_one_goes_further_and_ack_stops_it(
    clock: Clock, heard: Heard, facts: Facts, monkeypatch: pytest.MonkeyPatch, alerting_settings: Settings
) -> None:
    monkeypatch.setattr(joining, "settings", lambda: alerting_settings)
    facts.live_game(overdue=8)
    clock.look()
    clock.look(6)
    assert len(heard.slack.titles) == len(heard.pagerduty.titles) == 1
    assert heard.email.titles == []
    for body in (heard.slack.bodies[0], heard.pagerduty.bodies[0]):
        assert "What to do: docs/runbooks/games-overdue.md\n" in body
    clock.look(601)
    assert ["escalated" in title for title in heard.email.titles] == [True]
    clock.look(3601)
    assert "repeated" in heard.slack.titles[-1]
    runner = CliRunner()
    listed = runner.invoke(app, ["alerts", "list", "--json"])
    assert listed.exit_code == 0, listed.output
    assert json.loads(listed.stdout)[0]["rule"] == "games_overdue"
    assert runner.invoke(app, ["alerts", "list"]).exit_code == 0
    assert runner.invoke(app, ["alerts", "ack", "games_overdue", "--reason", "on it"]).exit_code == 0
    known = len(heard.slack.titles)
    clock.look(7201)
    assert len(heard.slack.titles) == known
    again = runner.invoke(app, ["alerts", "ack", "games_overdue", "--reason", "on it"])
    assert again.exit_code == 1


def test_a_channel_that_fails_is_told_on_the_others_and_tried_again(
    clock: Clock, heard: Heard, facts: Facts
) -> None:
    heard.slack.failing = True
    facts.connection.execute(_DEAD)
    found = clock.look()
    assert (found.delivered, found.failed) == (0, 1)
    clock.look(1)
    assert ["messages could not be delivered through slack" in t for t in heard.email.titles] == [True]
    assert heard.slack.titles == []
    heard.slack.failing = False
    facts.connection.execute("update orchestration.alert_messages set try_at = clock_timestamp()")
    assert clock.look(1).delivered == 1
    assert ["dead letters" in title for title in heard.slack.titles] == [True]
    clock.look(61)
    assert any("resolved" in title for title in heard.email.titles)
    rows = facts.connection.execute(
        "select kind, channel, attempts, delivered_at is not null from orchestration.alert_messages"
        " order by id"
    ).fetchall()
    assert ("firing", "slack", 2, True) in rows


def test_when_prometheus_notifies_the_product_keeps_still(
    alerting_settings: Settings, operator: psycopg.Connection, heard: Heard, facts: Facts
) -> None:
    facts.at_work()
    facts.connection.execute(_DEAD)
    quiet = alerting_settings.model_copy(update={"alert_notifier": AlertNotifier.prometheus})
    found = Alerting(quiet).evaluate(operator)
    assert found is not None
    assert found.fired == ["dead_letters"]
    assert heard.slack.titles == []


def test_two_who_look_at_once_tell_once(
    alerting_settings: Settings, operator: psycopg.Connection, connection: psycopg.Connection
) -> None:
    with monitoring.watching_alone(connection) as alone:
        assert alone
        assert Alerting(alerting_settings).evaluate(operator) is None
    assert Alerting(alerting_settings).evaluate(operator) is not None


def test_channels_can_be_tested(
    monkeypatch: pytest.MonkeyPatch, alerting_settings: Settings, heard: Heard, settings: Settings
) -> None:
    monkeypatch.setattr(joining, "settings", lambda: alerting_settings)
    run = CliRunner().invoke(app, ["alerts", "test"])
    assert run.exit_code == 0, run.output
    assert [len(heard.titles(channel)) for channel in Channel] == [1, 1, 1]
    heard.pagerduty.failing = True
    run = CliRunner().invoke(app, ["alerts", "test", "--channel", "pagerduty"])
    assert run.exit_code == 1
    assert heard.pagerduty.url not in run.output
    monkeypatch.setattr(joining, "settings", lambda: settings)
    assert CliRunner().invoke(app, ["alerts", "test"]).exit_code == 1


def test_a_wrong_address_is_refused_without_showing_it() -> None:
    with pytest.raises(WrongChannelError, match="ALERT_SLACK_URL") as error:
        Channels({Channel.slack: SecretStr("nonsense://secret-token")})
    assert "secret-token" not in error.value.in_one_line()


def test_all_rules_have_limits_that_leave_a_quiet_system_quiet(clock: Clock) -> None:
    found = clock.look()
    assert (found.pending, found.firing) == (0, 0)
    assert len(RULES) > 25
