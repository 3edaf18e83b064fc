"""Every metric of the watch: its name by Prometheus' conventions, what it says, and what is behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gauge:
    """A signal as Prometheus sees it.

    Attributes:
        label: name of its label; None: it has none. Labels are bounded: phases, kinds, flags, regions.
        divide: from the signal's unit to the metric's.
    """

    name: str
    help: str
    label: str | None = None
    divide: float = 1.0


@dataclass(frozen=True, slots=True)
class Count:
    """Counts of metric minutes as a counter; `only` takes one label's rows and drops the label."""

    name: str
    help: str
    metric: str
    label: str | None = None
    only: str | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """Times of metric minutes as a histogram in seconds."""

    name: str
    help: str
    metric: str
    bounds: tuple[float, ...]
    label: str | None = None


GAUGES: Mapping[str, Gauge] = {
    "games_live": Gauge("sketchy_games_live", "Enrolled games in play", "phase"),
    "games_overdue": Gauge("sketchy_games_overdue", "Games more than 2 s past their deadline"),
    "games_overdue_seconds": Gauge("sketchy_games_overdue_seconds", "How long the longest is overdue"),
    "games_set_aside": Gauge("sketchy_games_set_aside", "Games that could not be moved and wait"),
    "games_paused": Gauge("sketchy_games_paused", "Games an operator has paused"),
    "trigger_failures_open": Gauge("sketchy_trigger_failures_open", "Failures of triggers not repaired yet"),
    "events_waiting": Gauge("sketchy_events_waiting", "Events without an outcome"),
    "events_oldest_waiting_seconds": Gauge(
        "sketchy_events_oldest_waiting_seconds", "Age of the oldest event without an outcome"
    ),
    "dead_letters_open": Gauge("sketchy_dead_letters_open", "Events given up that wait for a person"),
    "circuit_open": Gauge("sketchy_circuit_open", "1 while PubNub as a whole counts as failing"),
    "circuit_open_seconds": Gauge("sketchy_circuit_open_seconds", "How long the circuit has been open"),
    "circuit_reason": Gauge("sketchy_circuit_reason", "1 for the reason why the circuit is open", "reason"),
    "shifts_at_work": Gauge("sketchy_shifts_at_work", "Shifts with a heartbeat within 5 s", "kind"),
    "shifts_silent_seconds": Gauge(
        "sketchy_shifts_heartbeat_age_seconds", "Age of the newest heartbeat; a day stands for never", "kind"
    ),
    "lanes_unheld": Gauge("sketchy_lanes_unheld", "Lanes that no relay holds"),
    "partitions_ahead_days": Gauge("sketchy_partitions_ahead_days", "Days after today that have partitions"),
    "publish_failures_5m": Gauge(
        "sketchy_publish_failures_recent", "Failed publishes of the last 5 minutes, throttled ones apart"
    ),
    "publishes_throttled_5m": Gauge(
        "sketchy_publishes_throttled_recent", "Publishes of the last 5 minutes that PubNub held back"
    ),
    "publish_rate_used_ratio": Gauge(
        "sketchy_publish_rate_used_ratio", "Publishes of the last minute beside the flag publish_rate"
    ),
    "publish_held_back_ratio": Gauge(
        "sketchy_publish_held_back_ratio", "Share of the time in which events wait for the flag publish_rate"
    ),
    "publish_month_used_ratio": Gauge(
        "sketchy_publish_month_used_ratio", "Publishes of 30 days beside PUBNUB_MONTHLY_LIMIT"
    ),
    "error_ratio_5m": Gauge("sketchy_error_ratio", "Errors beside transitions and publishes of 5 minutes"),
    "slow_sweeps_5m": Gauge("sketchy_slow_sweeps_recent", "Sweeps of 5 s or more in the last 5 minutes"),
    "canaries_lost_5m": Gauge("sketchy_canaries_lost_recent", "Canaries of 5 minutes that nobody heard"),
    "sweep_seconds_max": Gauge("sketchy_sweep_longest_seconds", "The longest sweep, running ones included"),
    "players_left_5m": Gauge("sketchy_players_left_recent", "Players who left within 5 minutes"),
    "players_joined_5m": Gauge("sketchy_players_joined_recent", "Players who joined within 5 minutes"),
    "database_connections": Gauge("sketchy_database_connections", "Database connections of this system"),
    "database_connections_used_ratio": Gauge(
        "sketchy_database_connections_used_ratio", "Everybody's connections beside max_connections"
    ),
    "database_oldest_transaction_seconds": Gauge(
        "sketchy_database_oldest_transaction_seconds", "Age of the oldest open transaction"
    ),
    "switch_on": Gauge("sketchy_switch_on", "1 while a switch is on", "flag"),
    "ledger_unaccounted": Gauge(
        "sketchy_ledger_unaccounted", "Events that have no outcome and that no relay knows of"
    ),
    "roll_up_age_seconds": Gauge("sketchy_roll_up_age_seconds", "Age of the newest rolled up minute"),
    "rollout_unwatched_seconds": Gauge(
        "sketchy_rollout_unwatched_seconds", "How long an active rollout's look has been due"
    ),
    "canary_age_seconds": Gauge("sketchy_canary_age_seconds", "Since a canary was last heard", "region"),
    "canary_milliseconds": Gauge(
        "sketchy_canary_last_seconds", "From publish to hearing, of the last canary", "region", 1000
    ),
    "dagster_daemon_alive": Gauge("sketchy_dagster_daemon_alive", "1 while Dagster's daemons beat"),
    "dagster_daemon_alive_age_seconds": Gauge(
        "sketchy_dagster_report_age_seconds", "Since Dagster last reported"
    ),
    "dagster_failed_runs_1h": Gauge("sketchy_dagster_failed_runs_recent", "Failed runs of the last hour"),
    "alert_open_seconds": Gauge(
        "sketchy_alert_open_seconds", "How long a rule has been breached, by the product's own watch", "rule"
    ),
    "key_age_days": Gauge("sketchy_key_age_days", "Age of a key or secret", "key"),
    "support_tickets": Gauge(
        "sketchy_support_tickets", "Support tickets about timing, as reported", "source"
    ),
    "satisfaction": Gauge("sketchy_satisfaction", "Players' satisfaction, as reported", "source"),
    "service_level_ratio": Gauge(
        "sketchy_service_level_ratio", "Share of good events in its window", "level"
    ),
    "error_budget_left_ratio": Gauge(
        "sketchy_error_budget_left_ratio", "Of the contract's error budget; below 0 it is overspent", "level"
    ),
    "budget_burning_fast": Gauge("sketchy_error_budget_burning_fast", "1 while it burns fast", "level"),
    "budget_burning_slow": Gauge("sketchy_error_budget_burning_slow", "1 while it burns slowly", "level"),
}
"""By signal. A signal that is not here is not exposed."""

COUNTS: tuple[Count, ...] = (
    Count("sketchy_timer_monitoring_executions", "Sweeps of all timer shifts", "shifts", only="timer:sweeps"),
    Count("sketchy_timer_monitoring_failures", "Sweeps that failed", "shifts", only="timer:errors"),
    Count("sketchy_event_broadcasting_success", "Events accepted by PubNub", "outcomes", only="delivered"),
    Count("sketchy_event_broadcasting_failures", "Publishes that failed", "failed_attempts", "reason"),
    Count("sketchy_events_settled", "Events by what became of them", "outcomes", "outcome"),
    Count("sketchy_publishes", "Publishes accepted, one for each channel of an event", "publishes"),
    Count("sketchy_transitions", "Transitions of enrolled games", "transitions", "cause"),
    Count("sketchy_transitions_early", "Transitions before their deadline; never", "early"),
    Count("sketchy_trigger_failures", "Failures of our triggers, repaired or not", "trigger_failures"),
    Count("sketchy_minutes", "Minutes by whether the system was up", "minutes", "state"),
    Count("sketchy_sweeps_slow", "Sweeps of 5 s or more", "shifts", only="timer:slow_sweeps"),
    Count("sketchy_canaries_lost", "Canaries that nobody heard", "canary_lost", "region"),
    Count("sketchy_games_started", "Games that left their lobby", "games_started", "handler"),
    Count("sketchy_games_completed", "Games played to the end", "games_completed", "handler"),
    Count("sketchy_drawings_lost", "Missing drawings after grace", "drawings_lost", "handler"),
)

_FINE = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TIMES: tuple[Times, ...] = (
    Times(
        "sketchy_lateness_seconds", "Commit of a transition after its deadline", "lateness", _FINE, "phase"
    ),
    Times("sketchy_event_latency_seconds", "From an event's commit to its acceptance", "delivery", _FINE),
    Times(
        "sketchy_trigger_duration_seconds",
        "From a trigger's first line to its event",
        "trigger",
        (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0),
    ),
    Times(
        "sketchy_canary_seconds",
        "From a canary's publish to its hearing",
        "canary",
        (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0),
        "region",
    ),
)

UP = "sketchy_up"
MEAN_SWEEP = "sketchy_average_execution_time_seconds"


def all_names() -> set[str]:
    """Every name of a series, as queries use them."""
    names = {gauge.name for gauge in GAUGES.values()} | {UP, MEAN_SWEEP}
    names |= {f"{count.name}_total" for count in COUNTS}
    for times in TIMES:
        names |= {f"{times.name}_{part}" for part in ("bucket", "sum", "count")}
    return names
