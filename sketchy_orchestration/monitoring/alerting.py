"""Looks at the signals, moves alerts on, writes who is to be told, and delivers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import psycopg
import structlog

from sketchy_orchestration.database import alerts as table
from sketchy_orchestration.database import monitoring
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.monitoring import Signals
from sketchy_orchestration.domain import alerting
from sketchy_orchestration.domain.alerting import Alert, Channel, Kind, Policy, Rule, Severity, State
from sketchy_orchestration.monitoring.channels import Channels
from sketchy_orchestration.monitoring.rules import BY_NAME, rules_of
from sketchy_orchestration.settings import AlertNotifier, Settings

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Evaluation:
    """What one look came to: alerts by what became of them, messages delivered and not."""

    pending: int = 0
    firing: int = 0
    fired: list[str] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    delivered: int = 0
    failed: int = 0


class Alerting:
    """Evaluates the rules; one at a time, whoever else does it too.

    Args:
        rules, channels, policy: None takes those of the settings.

    Raises:
        UnknownRuleError, WrongChannelError: a setting is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        rules: Sequence[Rule] | None = None,
        channels: Channels | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._settings = settings
        self._rules = tuple(rules) if rules is not None else rules_of(settings)
        self._channels = channels if channels is not None else Channels.of(settings)
        self._policy = policy or policy_of(settings)

    def evaluate(
        self, connection: psycopg.Connection[Row], more: Signals | None = None, now: datetime | None = None
    ) -> Evaluation | None:
        """Look once and tell whom it concerns; None while somebody else does.

        Args:
            more: signals beside those of the database: service levels.
            now: the moment to decide by; the database's own when not given.
        """
        with monitoring.watching_alone(connection) as alone:
            if not alone:
                return None
            done = Evaluation()
            with connection.transaction():
                self._decide(connection, more or {}, now or monitoring.database_now(connection), done)
            self._deliver(connection, done)
            return done

    def _decide(
        self, connection: psycopg.Connection[Row], more: Signals, now: datetime, done: Evaluation
    ) -> None:
        signals = {**monitoring.signals(connection), **more}
        for channel, count in table.undelivered(connection).items():
            signals["alert_messages_undelivered", channel] = count
        breaching = alerting.breaches(self._rules, signals)
        known = table.open_alerts(connection)
        told = table.told(connection, [alert.id for alert in known.values() if alert.id is not None])
        for name, label in sorted(breaching.keys() | known.keys()):
            rule = next((rule for rule in self._rules if rule.name == name), BY_NAME.get(name))
            if rule is None:
                continue  # of another version; whoever knows the rule looks after it
            alert = known.get((name, label))
            heard = told.get(alert.id, ()) if alert is not None and alert.id is not None else ()
            step = alerting.step(
                rule, alert, label, breaching.get((name, label)), now, told=heard, policy=self._policy
            )
            written = self._write(connection, alert, step.alert)
            if written is None:
                continue
            done.pending += written.state is State.pending
            done.firing += written.state is State.firing
            if step.message is not None:
                self._tell(connection, rule, written, step.message, step.channels)
                self._note(rule, written, step.message, done)

    @staticmethod
    def _write(
        connection: psycopg.Connection[Row], before: Alert | None, after: Alert | None
    ) -> Alert | None:
        if before is not None and before.id is not None:
            if after is None:
                table.forget(connection, before.id)
            else:
                table.change(connection, after)
            return after
        if after is None:
            return None
        return replace(after, id=table.begin(connection, after))

    @staticmethod
    def _note(rule: Rule, alert: Alert, kind: Kind, done: Evaluation) -> None:
        name = f"{rule.name}{{{alert.label}}}" if alert.label else rule.name
        if kind is Kind.firing:
            done.fired.append(name)
        elif kind is Kind.resolved:
            done.resolved.append(name)
        log.warning("alert", rule=rule.name, label=alert.label, kind=str(kind), value=alert.value)

    def _tell(
        self,
        connection: psycopg.Connection[Row],
        rule: Rule,
        alert: Alert,
        kind: Kind,
        wanted: Sequence[Channel],
    ) -> None:
        if self._settings.alert_notifier is not AlertNotifier.product:
            return
        if kind is Kind.resolved and not wanted:
            return
        # A failing channel is told on the others.
        configured = [channel for channel in self._channels.configured if channel != alert.label]
        title, body = text_of(rule, alert, kind, self._settings)
        for channel in alerting.reachable(wanted, configured):
            table.write_message(connection, alert.id, kind, channel, title, body)

    def _deliver(self, connection: psycopg.Connection[Row], done: Evaluation) -> None:
        broken: set[str] = set()
        for message in table.due_messages(connection):
            if message.channel in broken:
                continue  # its time-out is waited for once
            severity = _severity(message)
            why_not = self._channels.send(Channel(message.channel), message.title, message.body, severity)
            if why_not is None:
                table.delivered(connection, message.id)
                done.delivered += 1
                continue
            done.failed += 1
            broken.add(message.channel)
            old = monitoring.database_now(connection) - message.written_at > alerting.GIVE_UP
            again = alerting.next_try(message.attempts + 1)
            table.not_delivered(connection, message.id, why_not, again, give_up=old)
            log.warning(
                "alert_not_delivered", channel=message.channel, attempts=message.attempts + 1, why=why_not
            )

    def test(
        self, connection: psycopg.Connection[Row], wanted: Sequence[Channel] = ()
    ) -> dict[str, str | None]:
        """Send a test message through these channels, or all; why not, by channel, None when accepted."""
        found: dict[str, str | None] = {}
        for channel in wanted or self._channels.configured:
            title, body = "[test] Sketchy", "A test of this channel: nothing is wrong. No answer is needed."
            message = table.write_message(connection, None, Kind.test, channel, title, body)
            why_not = self._channels.send(channel, title, body, Severity.info)
            if why_not is None:
                table.delivered(connection, message)
            else:
                table.not_delivered(connection, message, why_not, alerting.next_try(1), give_up=True)
            found[str(channel)] = why_not
        return found


def policy_of(settings: Settings) -> Policy:
    """How long is waited, as the settings say."""
    return Policy(
        quiet=timedelta(seconds=settings.alert_quiet_seconds),
        repeat=timedelta(minutes=settings.alert_repeat_minutes),
        escalate=timedelta(minutes=settings.alert_escalate_minutes),
    )


def _severity(message: table.Message) -> Severity:
    name = message.title.partition("]")[0].removeprefix("[").partition(" ")[0]
    return Severity(name) if name in list(Severity) else Severity.info


def text_of(rule: Rule, alert: Alert, kind: Kind, settings: Settings) -> tuple[str, str]:
    """Title and body of a message."""
    what = rule.told(alert.value, alert.label)
    title = f"[{alert.severity} {kind}] {what}"
    body = "\n".join(
        [
            what,
            f"Since {alert.since:%Y-%m-%d %H:%M:%S} UTC, in {settings.environment}.",
            f"What to do: {settings.alert_runbook_url.rstrip('/')}/{rule.runbook}",
            f'I look after it: sketchy alerts ack {alert.id} --reason "..."',
        ]
        if kind is not Kind.resolved
        else [
            f"It is over: {what}",
            f"It lasted from {alert.since:%H:%M:%S} to {alert.resolved_at:%H:%M:%S} UTC.",
        ]
    )
    return title, body
