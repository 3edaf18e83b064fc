"""The rows of alerts and of who was told when, as role sketchy_operator."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row, dict_row

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.domain.alerting import Alert, Channel, Kind, Severity, State


@dataclass(frozen=True, slots=True)
class Message:
    """A message that waits to be delivered."""

    id: int
    alert_id: int | None
    kind: str
    channel: str
    title: str
    body: str
    attempts: int
    written_at: datetime


def open_alerts(connection: Connection[Row]) -> dict[tuple[str, str], Alert]:
    """Alerts that are pending or firing, by rule and label."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query("alerts.open")).fetchall()
    found = [
        Alert(**{**row, "severity": Severity(row["severity"]), "state": State(row["state"])}) for row in rows
    ]
    return {(alert.rule, alert.label): alert for alert in found}


def told(connection: Connection[Row], ids: list[int]) -> dict[int, tuple[Channel, ...]]:
    """The channels that have heard of each of these alerts."""
    rows = connection.execute(query("alerts.told"), {"ids": ids}).fetchall()
    return {alert: tuple(Channel(channel) for channel in channels) for alert, channels in rows}


def begin(connection: Connection[Row], alert: Alert) -> int:
    """Write a new alert; its id."""
    row = connection.execute(query("alerts.begin"), asdict(alert)).fetchone()
    assert row is not None, "an insert that returns answers one row"  # noqa: S101
    return int(row[0])


def change(connection: Connection[Row], alert: Alert) -> None:
    """Write what has become of it; acknowledgements are left alone."""
    connection.execute(query("alerts.change"), asdict(alert))


def forget(connection: Connection[Row], alert_id: int) -> None:
    """Remove one that never fired."""
    connection.execute(query("alerts.forget"), {"id": alert_id})


def write_message(
    connection: Connection[Row], alert_id: int | None, kind: Kind, channel: Channel, title: str, body: str
) -> int:
    """Write a message to be delivered; its id."""
    values = {"alert_id": alert_id, "kind": str(kind), "channel": str(channel), "title": title, "body": body}
    row = connection.execute(query("alerts.write_message"), values).fetchone()
    assert row is not None, "an insert that returns answers one row"  # noqa: S101
    return int(row[0])


def due_messages(connection: Connection[Row]) -> list[Message]:
    """Messages to be tried now, oldest first."""
    with connection.cursor(row_factory=class_row(Message)) as cursor:
        return cursor.execute(query("alerts.due_messages")).fetchall()


def delivered(connection: Connection[Row], message_id: int) -> None:
    """It has been accepted."""
    connection.execute(query("alerts.delivered"), {"id": message_id})


def not_delivered(
    connection: Connection[Row], message_id: int, error: str, again: timedelta, *, give_up: bool
) -> None:
    """It has not, and is tried again after a while or given up."""
    values = {"id": message_id, "error": error[:300], "again": again, "give_up": give_up}
    connection.execute(query("alerts.not_delivered"), values)


def undelivered(connection: Connection[Row]) -> dict[str, float]:
    """Messages that have failed at least once and still wait, by channel."""
    return dict(connection.execute(query("alerts.undelivered")).fetchall())


def acknowledge(
    connection: Connection[Row], *, alert_id: int | None, rule: str | None, by: str, why: str
) -> list[int]:
    """Say that somebody looks after it; the ids of the open alerts that this was true of."""
    values = {"id": alert_id, "rule": rule, "by": by, "why": why}
    return [row[0] for row in connection.execute(query("alerts.acknowledge"), values).fetchall()]


def listed(connection: Connection[Row], *, resolved_too: bool, limit: int) -> list[dict[str, Any]]:
    """Alerts with who was told when, newest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query("alerts.listed"), {"all": resolved_too, "limit": limit}).fetchall()
