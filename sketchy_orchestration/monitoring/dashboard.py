"""The Grafana dashboard as code: panels from metrics that exist, written to deploy/grafana/sketchy.json.

Usage: python -m sketchy_orchestration.monitoring.dashboard > deploy/grafana/sketchy.json
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import Any

from sketchy_orchestration.monitoring.metric_names import all_names

GATEWAY_NAMES = {
    "sketchy_gateway_requests_total",
    "sketchy_gateway_request_duration_seconds_bucket",
    "sketchy_gateway_connections",
    "sketchy_gateway_connections_limit",
}
"""Those of gateway/telemetry.py that panels use."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph; `queries` are PromQL with the legend of each."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""


def _quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    grouped = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (f"histogram_quantile({q}, sum by ({grouped}) (rate({metric}_bucket[5m])))", f"p{q * 100:g}{legend}")
        for q in (0.5, 0.95, 0.99)
    )


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "At a glance",
        (
            Panel("Games in play", "short", (("sum by (phase) (sketchy_games_live)", "{{phase}}"),)),
            Panel(
                "Overdue games",
                "short",
                (("sketchy_games_overdue", "overdue"), ("sketchy_games_set_aside", "set aside")),
            ),
            Panel(
                "Events waiting",
                "short",
                (("sketchy_events_waiting", "waiting"), ("sketchy_dead_letters_open", "dead letters")),
            ),
            Panel("Shifts at work", "short", (("sketchy_shifts_at_work", "{{kind}}"),)),
        ),
    ),
    (
        "Service levels",
        (
            Panel("Measured over 28 days", "percentunit", (("sketchy_service_level_ratio", "{{level}}"),)),
            Panel("Error budget left", "percentunit", (("sketchy_error_budget_left_ratio", "{{level}}"),)),
            Panel(
                "Budgets burning",
                "short",
                (
                    ("sketchy_error_budget_burning_fast", "{{level}} fast"),
                    ("sketchy_error_budget_burning_slow", "{{level}} slowly"),
                ),
            ),
        ),
    ),
    (
        "Operation",
        (
            Panel(
                "Timer monitoring executions per hour",
                "short",
                (
                    ("3600 * rate(sketchy_timer_monitoring_executions_total[5m])", "sweeps"),
                    ("3600 * rate(sketchy_timer_monitoring_failures_total[5m])", "failure"),
                ),
            ),
            Panel(
                "Event broadcasting per hour",
                "short",
                (
                    ("3600 * rate(sketchy_event_broadcasting_success_total[5m])", "success"),
                    ("3600 * sum(rate(sketchy_event_broadcasting_failures_total[5m]))", "failure"),
                ),
            ),
            Panel(
                "Response time by function",
                "s",
                (
                    (
                        "histogram_quantile(0.95, sum by (le, function)"
                        " (rate(sketchy_gateway_request_duration_seconds_bucket[5m])))",
                        "p95 {{function}}",
                    ),
                    ("sketchy_average_execution_time_seconds", "average sweep"),
                ),
            ),
            Panel(
                "Connection pool utilisation",
                "percentunit",
                (
                    ("sketchy_database_connections_used_ratio", "database"),
                    (
                        'sketchy_gateway_connections{state="busy"}'
                        " / ignoring(state) sketchy_gateway_connections_limit",
                        "gateway",
                    ),
                ),
            ),
            Panel(
                "PubNub delivery rate",
                "percentunit",
                (
                    (
                        'sum(rate(sketchy_events_settled_total{outcome="delivered"}[5m]))'
                        " / sum(rate(sketchy_events_settled_total[5m]))",
                        "delivered",
                    ),
                ),
            ),
            Panel("Error rate", "percentunit", (("sketchy_error_ratio", "errors"),)),
        ),
    ),
    (
        "Times",
        (
            Panel("Lateness of transitions", "s", _quantiles("sketchy_lateness_seconds")),
            Panel("Event latency", "s", _quantiles("sketchy_event_latency_seconds")),
            Panel("Trigger duration", "s", _quantiles("sketchy_trigger_duration_seconds")),
            Panel("Canaries", "s", (("sketchy_canary_last_seconds", "{{region}}"),)),
        ),
    ),
    (
        "PubNub and players",
        (
            Panel(
                "PubNub's limits",
                "percentunit",
                (
                    ("sketchy_publish_rate_used_ratio", "rate used"),
                    ("sketchy_publish_held_back_ratio", "held back"),
                    ("sketchy_publishes_throttled_recent", "throttled"),
                    ("sketchy_circuit_open", "circuit open"),
                ),
            ),
            Panel(
                "Players coming and going",
                "short",
                (("sketchy_players_joined_recent", "joined"), ("sketchy_players_left_recent", "left")),
            ),
            Panel(
                "Games completed per hour",
                "short",
                (("3600 * sum by (handler) (rate(sketchy_games_completed_total[15m]))", "{{handler}}"),),
            ),
            Panel(
                "Drawings lost per hour",
                "short",
                (("3600 * sum by (handler) (rate(sketchy_drawings_lost_total[15m]))", "{{handler}}"),),
            ),
        ),
    ),
    (
        "House",
        (
            Panel("Partitions ahead", "d", (("sketchy_partitions_ahead_days", "days"),)),
            Panel("Oldest transaction", "s", (("sketchy_database_oldest_transaction_seconds", "open for"),)),
            Panel("Dagster", "short", (("sketchy_dagster_report_age_seconds", "report age (s)"),)),
        ),
    ),
)


def names_used() -> set[str]:
    """Every metric that a panel asks for."""
    queries = [query for _, panels in ROWS for panel in panels for query, _ in panel.queries]
    return {name for query in queries for name in re.findall(r"sketchy_[a-z0-9_]+", query)}


def names_missing() -> set[str]:
    """Metrics that a panel asks for and nobody exposes."""
    return names_used() - all_names() - GATEWAY_NAMES


def document() -> dict[str, Any]:
    """What Grafana imports."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
            }
        )
        y += 1
        for number, panel in enumerate(row):
            position = {"h": 8, "w": 8, "x": number % 3 * 8, "y": y + number // 3 * 8}
            panels.append(
                {
                    "id": len(panels) + 1,
                    "type": "timeseries",
                    "title": panel.title,
                    "description": panel.description,
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                    "gridPos": position,
                    "targets": [
                        {"refId": chr(65 + index), "expr": query, "legendFormat": legend}
                        for index, (query, legend) in enumerate(panel.queries)
                    ],
                }
            )
        y += (len(row) + 2) // 3 * 8
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    return {
        "uid": "sketchy",
        "title": "Sketchy Orchestration",
        "tags": ["sketchy"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


def text() -> str:
    """The file's text."""
    return json.dumps(document(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
