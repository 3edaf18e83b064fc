"""Every alert rule, once. The product's own alerts and deploy/prometheus/alerts.yml both come from here."""

from __future__ import annotations

from dataclasses import replace

from sketchy_orchestration.domain.alerting import Channel, Rule, Severity
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.settings import Settings


class UnknownRuleError(SketchyError):
    """The setting ALERT_RULES names a rule that does not exist."""


_TELL = (Channel.slack,)
_WRITE = (Channel.slack, Channel.email)
_WAKE = (Channel.slack, Channel.pagerduty)
_CRITICAL, _WARNING, _INFO = Severity.critical, Severity.warning, Severity.info

RULES: tuple[Rule, ...] = (
    # What the contract asks for.
    Rule(
        "high_error_rate",
        _CRITICAL,
        "error_ratio_5m",
        0.05,
        _WRITE,
        "{value} of all transitions and publishes of the last 5 minutes failed",
    ),
    Rule("sweep_timeout", _CRITICAL, "sweep_seconds_max", 30, _WAKE, "A sweep has taken {value} s"),
    Rule(
        "pubnub_failures",
        _WARNING,
        "publish_failures_5m",
        10,
        _TELL,
        "{value} publishes failed in the last 5 minutes",
    ),
    # PubNub.
    Rule(
        "pubnub_rate_limit_near",
        _WARNING,
        "publish_rate_used_ratio",
        0.8,
        _TELL,
        "Publishing uses {value} of what the flag publish_rate allows",
        for_seconds=60,
    ),
    Rule(
        "events_held_back",
        _WARNING,
        "publish_held_back_ratio",
        0.5,
        _TELL,
        "Events are held back by the flag publish_rate for {value} of the time",
        for_seconds=15,
    ),
    Rule(
        "pubnub_throttled",
        _WARNING,
        "publishes_throttled_5m",
        0,
        _TELL,
        "PubNub held back {value} publishes in the last 5 minutes",
    ),
    Rule(
        "presence_anomaly",
        _WARNING,
        "players_left_5m",
        20,
        _TELL,
        "{value} players left within 5 minutes, more than three times as many as came",
        beside=("players_joined_5m", 3.0),
    ),
    Rule(
        "pubnub_usage",
        _WARNING,
        "publish_month_used_ratio",
        0.8,
        _WRITE,
        "30 days of publishes are {value} of what the PubNub plan includes",
    ),
    Rule(
        "canary_silent",
        _CRITICAL,
        "canary_age_seconds",
        60,
        _WAKE,
        "No canary has been heard in {label} for {value} s",
    ),
    Rule(
        "canary_slow",
        _WARNING,
        "canary_milliseconds",
        1000,
        _TELL,
        "A canary in {label} took longer than a second",
        for_seconds=60,
    ),
    # Games and events.
    Rule(
        "games_overdue",
        _CRITICAL,
        "games_overdue_seconds",
        5,
        _WAKE,
        "Games stand still, the longest for {value} s after its deadline",
        for_seconds=5,
    ),
    Rule(
        "games_set_aside",
        _WARNING,
        "games_set_aside",
        0,
        _TELL,
        "{value} games cannot be moved on and are set aside",
        for_seconds=120,
    ),
    Rule("circuit_open", _CRITICAL, "circuit_open_seconds", 30, _WAKE, "PubNub has failed for {value} s"),
    Rule("dead_letters", _WARNING, "dead_letters_open", 0, _TELL, "{value} dead letters wait for a person"),
    Rule(
        "events_waiting",
        _CRITICAL,
        "events_oldest_waiting_seconds",
        30,
        _WAKE,
        "The oldest event has waited for {value} s",
    ),
    Rule(
        "ledger_unaccounted",
        _CRITICAL,
        "ledger_unaccounted",
        0,
        _WRITE,
        "{value} events have been lost track of: no outcome, and no relay knows of them",
    ),
    Rule(
        "trigger_failures",
        _WARNING,
        "trigger_failures_open",
        0,
        _TELL,
        "{value} failures of triggers have not been repaired",
        for_seconds=600,
    ),
    # What keeps it going.
    Rule(
        "shift_missing",
        _WARNING,
        "shifts_at_work",
        2,
        _TELL,
        "Only {value} {label} shifts are at work",
        below=True,
        for_seconds=60,
    ),
    Rule(
        "shifts_gone",
        _CRITICAL,
        "shifts_at_work",
        1,
        _WAKE,
        "No {label} shift is at work",
        below=True,
        for_seconds=15,
    ),
    Rule(
        "switched_off",
        _INFO,
        "switch_on",
        1,
        _TELL,
        "The flag {label} is off",
        below=True,
        for_seconds=600,
    ),
    Rule(
        "partitions_ahead",
        _CRITICAL,
        "partitions_ahead_days",
        2,
        _WAKE,
        "Partitions reach only {value} days ahead",
        below=True,
    ),
    Rule(
        "dagster_daemon",
        _CRITICAL,
        "dagster_daemon_alive_age_seconds",
        120,
        _WAKE,
        "Dagster has not reported for {value} s",
    ),
    Rule(
        "dagster_failed_runs",
        _WARNING,
        "dagster_failed_runs_1h",
        0,
        _TELL,
        "{value} Dagster runs failed in the last hour",
    ),
    Rule(
        "database_connections",
        _WARNING,
        "database_connections_used_ratio",
        0.8,
        _TELL,
        "{value} of the database's connections are in use",
        for_seconds=60,
    ),
    Rule(
        "old_transaction",
        _WARNING,
        "database_oldest_transaction_seconds",
        900,
        _TELL,
        "A transaction has been open for {value} s",
    ),
    Rule(
        # Not critical: whoever walks the rollout at last would roll it back for this very alert.
        "rollout_unwatched",
        _WARNING,
        "rollout_unwatched_seconds",
        120,
        _WAKE,
        "Nobody walks an active rollout: its last look is {value} s overdue",
    ),
    # The watch itself.
    Rule(
        "budget_burning_fast",
        _CRITICAL,
        "budget_burning_fast",
        0,
        _WAKE,
        "The error budget of {label} burns fast",
    ),
    Rule(
        "budget_burning_slow",
        _WARNING,
        "budget_burning_slow",
        0,
        _WRITE,
        "The error budget of {label} burns slowly",
    ),
    Rule(
        "roll_up_late",
        _WARNING,
        "roll_up_age_seconds",
        300,
        _TELL,
        "Minutes have not been rolled up for {value} s",
    ),
    Rule(
        "alert_channel_failing",
        _WARNING,
        "alert_messages_undelivered",
        0,
        (Channel.slack, Channel.email, Channel.pagerduty),
        "{value} messages could not be delivered through {label}",
    ),
    Rule(
        "key_age",
        _INFO,
        "key_age_days",
        90,
        _WRITE,
        "{label} was last changed {value} days ago",
    ),
)
BY_NAME = {rule.name: rule for rule in RULES}


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """The rules with the limits of the setting ALERT_RULES.

    Raises:
        UnknownRuleError: naming what is wrong and what there is.
    """
    changes = settings.alert_rules
    if unknown := sorted(changes.keys() - BY_NAME.keys()):
        raise UnknownRuleError(
            f"ALERT_RULES names {unknown[0]!r}, which is no rule", hint=f"rules: {', '.join(BY_NAME)}"
        )
    return tuple(
        replace(
            rule,
            limit=changes.get(rule.name, {}).get("limit", rule.limit),
            for_seconds=int(changes.get(rule.name, {}).get("for_seconds", rule.for_seconds)),
        )
        for rule in RULES
    )
