"""The rules as Prometheus reads them; written to deploy/prometheus/alerts.yml by `sketchy alerts rules`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from sketchy_orchestration.domain.alerting import Rule
from sketchy_orchestration.monitoring.metric_names import GAUGES, UP
from sketchy_orchestration.monitoring.rules import RULES

PRODUCT_ONLY = {"alert_channel_failing"}
"""Of the product's own messages: with Prometheus notifying there are none."""

DATABASE_DOWN = "SketchyDatabaseUnreachable"
_HEAD = """\
# Made by `sketchy alerts rules > deploy/prometheus/alerts.yml` from monitoring/rules.py.
# Do not change it by hand: a test compares the two.
"""


def name_of(rule: Rule) -> str:
    """The alert's name in Prometheus."""
    return "Sketchy" + "".join(word.capitalize() for word in rule.name.split("_"))


def expression(rule: Rule) -> str:
    """The rule in PromQL."""
    gauge = GAUGES[rule.signal]
    limit = f"{rule.limit / gauge.divide:g}"
    if rule.below:
        return f"{gauge.name} < {limit}"
    if rule.beside is None:
        return f"{gauge.name} > {limit}"
    other, factor = rule.beside
    return f"{gauge.name} > {limit} and {gauge.name} > {factor:g} * {GAUGES[other].name}"


def _summary(rule: Rule) -> str:
    gauge = GAUGES[rule.signal]
    value = '{{ printf "%.4g" $value }}'
    return rule.summary.format(value=value, label=f"{{{{ $labels.{gauge.label} }}}}")


def _entry(rule: Rule, runbooks: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"alert": name_of(rule), "expr": expression(rule)}
    if rule.for_seconds:
        entry["for"] = f"{rule.for_seconds}s"
    entry["keep_firing_for"] = "60s"
    entry["labels"] = {
        "severity": str(rule.severity),
        "channels": ",".join(str(channel) for channel in rule.channels),
    }
    entry["annotations"] = {"summary": _summary(rule), "runbook_url": f"{runbooks}/{rule.runbook}"}
    return entry


def document(rules: Iterable[Rule] = RULES, runbooks: str = "docs/runbooks") -> dict[str, Any]:
    """The file as data."""
    entries = [_entry(rule, runbooks.rstrip("/")) for rule in rules if rule.name not in PRODUCT_ONLY]
    entries.append(
        {
            "alert": DATABASE_DOWN,
            "expr": f"{UP} == 0 or absent({UP})",
            "for": "30s",
            "labels": {"severity": "critical", "channels": "slack,pagerduty"},
            "annotations": {
                "summary": "The system's metrics cannot be read: its database or its gateway is away",
                "runbook_url": f"{runbooks.rstrip('/')}/database-unreachable.md",
            },
        }
    )
    return {"groups": [{"name": "sketchy", "interval": "15s", "rules": entries}]}


def text(rules: Iterable[Rule] = RULES, runbooks: str = "docs/runbooks") -> str:
    """The file's text."""
    body: str = yaml.safe_dump(document(rules, runbooks), sort_keys=False, width=110)
    return _HEAD + body
