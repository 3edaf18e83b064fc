"""When an alert begins, fires, is repeated, escalates and ends: decisions only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

Signals = Mapping[tuple[str, str], float]


class Severity(StrEnum):
    """How much it matters: look at it some day, today, now."""

    info = "info"
    warning = "warning"
    critical = "critical"


class Channel(StrEnum):
    """Where messages go; the order is that of escalation."""

    slack = "slack"
    email = "email"
    pagerduty = "pagerduty"


class State(StrEnum):
    """Where an alert stands."""

    pending = "pending"
    firing = "firing"
    resolved = "resolved"


class Kind(StrEnum):
    """Why a message was written."""

    firing = "firing"
    repeated = "repeated"
    escalated = "escalated"
    resolved = "resolved"
    test = "test"
    rollout = "rollout"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is watched; from it come the product's own alerts and those of Prometheus.

    Attributes:
        signal: what is looked at, each of its labels by itself.
        limit: it breaches above it, or with `below` under it.
        for_seconds: how long it must breach before it fires.
        beside: another signal and a factor: it breaches only if it also exceeds so many times that one.
        summary: one line; {value} and {label} are filled in.
    """

    name: str
    severity: Severity
    signal: str
    limit: float
    channels: tuple[Channel, ...]
    summary: str
    below: bool = False
    for_seconds: int = 0
    beside: tuple[str, float] | None = None

    @property
    def runbook(self) -> str:
        """The file's name in docs/runbooks."""
        return f"{self.name.replace('_', '-')}.md"

    def breached_by(self, value: float, label: str, signals: Signals) -> bool:
        """Whether this value is beyond the limit."""
        if self.below:
            return value < self.limit
        if self.beside is None:
            return value > self.limit
        other = signals.get((self.beside[0], label), 0.0)
        return value > self.limit and value > self.beside[1] * other

    def told(self, value: float, label: str) -> str:
        """The summary with its numbers."""
        return self.summary.format(value=f"{value:,.4g}", label=label)


@dataclass(frozen=True, slots=True)
class Alert:
    """One breach of a rule by one label, from its beginning to its end; moments by the database's clock.

    Attributes:
        seen_at: when it last breached. told_at: when somebody was last told of it.
    """

    rule: str
    label: str
    severity: Severity
    state: State
    value: float
    since: datetime
    seen_at: datetime
    fired_at: datetime | None = None
    told_at: datetime | None = None
    resolved_at: datetime | None = None
    acknowledged_at: datetime | None = None
    escalated_at: datetime | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How long is waited.

    Attributes:
        quiet: without a breach for this long it is over: no flapping.
        repeat: a critical one that nobody has acknowledged is told again; others after six times that.
        escalate: then it also goes to the next channel.
    """

    quiet: timedelta = timedelta(seconds=60)
    repeat: timedelta = timedelta(hours=1)
    escalate: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of an alert now.

    Attributes:
        alert: as it is to be written; None: it never fired and is to be forgotten.
        message: the message to write, if any.
        channels: whereto.
    """

    alert: Alert | None
    message: Kind | None = None
    channels: tuple[Channel, ...] = ()


def breaches(rules: Iterable[Rule], signals: Signals) -> dict[tuple[str, str], float]:
    """The values that breach, by rule and label."""
    return {
        (rule.name, label): value
        for rule in rules
        for (signal, label), value in signals.items()
        if signal == rule.signal and rule.breached_by(value, label, signals)
    }


def step(
    rule: Rule,
    alert: Alert | None,
    label: str,
    value: float | None,
    now: datetime,
    *,
    told: Sequence[Channel] = (),
    policy: Policy = Policy(),
) -> Step:
    """Decide for one rule and label.

    Args:
        alert: the open one; None when there is none.
        value: the value that breaches; None when it does not.
        told: the channels that have heard of it.
    """
    if alert is None:
        if value is None:
            return Step(None)
        alert = Alert(rule.name, label, rule.severity, State.pending, value, now, now)
    elif value is not None:
        alert = replace(alert, value=value, seen_at=now)
    if alert.state is State.pending:
        if value is None:
            return Step(None)
        if now - alert.since < timedelta(seconds=rule.for_seconds):
            return Step(alert)
        return Step(replace(alert, state=State.firing, fired_at=now, told_at=now), Kind.firing, rule.channels)
    if value is None and now - alert.seen_at >= policy.quiet:
        return Step(replace(alert, state=State.resolved, resolved_at=now), Kind.resolved, tuple(told))
    return _still_firing(rule, alert, now, told, policy)


def _still_firing(rule: Rule, alert: Alert, now: datetime, told: Sequence[Channel], policy: Policy) -> Step:
    if alert.acknowledged_at is not None or alert.fired_at is None:
        return Step(alert)
    critical = rule.severity is Severity.critical
    further = [channel for channel in Channel if channel not in told]
    if critical and alert.escalated_at is None and now - alert.fired_at >= policy.escalate:
        escalated = replace(alert, escalated_at=now, told_at=now)
        # Where everybody has been told, everybody is told again.
        return Step(escalated, Kind.escalated, tuple(further[:1]) or tuple(told))
    every = policy.repeat if critical else policy.repeat * 6
    if alert.told_at is not None and now - alert.told_at >= every:
        return Step(replace(alert, told_at=now), Kind.repeated, tuple(told))
    return Step(alert)


def reachable(wanted: Sequence[Channel], configured: Sequence[Channel]) -> tuple[Channel, ...]:
    """The channels a message really goes to: those wanted that exist, else all that exist."""
    found = tuple(channel for channel in wanted if channel in configured)
    return found or tuple(configured)


def next_try(attempts: int) -> timedelta:
    """How long to wait before a message is tried again: 10 s, 20 s, 40 s … 10 min."""
    return timedelta(seconds=min(600, 10 * 2 ** min(attempts - 1, 10)))


GIVE_UP = timedelta(days=1)
"""A message older than this is not sent any more."""
