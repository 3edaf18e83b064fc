"""The statements of housekeeping, as role sketchy_operator; each is one short transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from psycopg import Connection
from psycopg.rows import class_row

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query

BATCH = 5_000
"""Most rows one statement removes: no long transaction, no long lock."""


@dataclass(frozen=True, slots=True)
class OldDay:
    """A day whose partitions may leave; `waiting` events hold it back."""

    day: date
    waiting: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Repair:
    """What the reconciler repaired, or would."""

    game_id: str
    repair: str


def ensure_partitions(connection: Connection[Row], days: int) -> int:
    """Make the partitions from yesterday to `days` ahead; how many were missing.

    Raises:
        psycopg.errors.LockNotAvailable: somebody was in the way; try again.
    """
    return _number(connection, "maintenance.ensure_partitions", days=days)


def old_days(connection: Connection[Row], keep: timedelta) -> list[OldDay]:
    """Days that ended longer than `keep` ago, oldest first."""
    with connection.cursor(row_factory=class_row(OldDay)) as cursor:
        return cursor.execute(query("maintenance.old_partitions"), {"keep": keep}).fetchall()


def detach_day(connection: Connection[Row], day: date) -> None:
    """Take a day's partitions out of the way.

    Raises:
        psycopg.errors.LockNotAvailable: somebody was in the way; try again.
        psycopg.errors.ObjectNotInPrerequisiteState: something still waits in it.
    """
    connection.execute(query("maintenance.detach_day"), {"day": day})


def detached(connection: Connection[Row]) -> dict[str, int]:
    """Tables that nobody reads any more, and their bytes."""
    return dict(connection.execute(query("maintenance.detached")).fetchall())


def drop_detached(connection: Connection[Row]) -> int:
    """Drop them; how many."""
    return _number(connection, "maintenance.drop_detached")


def forget_games(connection: Connection[Row], keep: timedelta, *, dry_run: bool) -> dict[str, int]:
    """Remove the traces of at most BATCH games that ended longer than `keep` ago; rows by table."""
    values = {"keep": keep, "limit": BATCH, "dry_run": dry_run}
    return dict(connection.execute(query("maintenance.forget_games"), values).fetchall())


def forget_old(connection: Connection[Row], what: str, keep: timedelta, *, dry_run: bool) -> int:
    """Remove at most BATCH rows older than `keep`; how many. A dry run counts all of them."""
    return _number(connection, "maintenance.forget_old", what=what, keep=keep, limit=BATCH, dry_run=dry_run)


def fold_minutes(connection: Connection[Row], keep: timedelta, *, dry_run: bool) -> int:
    """Make one row of each hour of minutes older than `keep`; how many rows that saves."""
    return _number(connection, "maintenance.fold_minutes", keep=keep, dry_run=dry_run)


def reconcile(connection: Connection[Row], *, dry_run: bool, limit: int = 500) -> list[Repair]:
    """Repair what triggers could not do: outbox against games, live_games against games."""
    with connection.cursor(row_factory=class_row(Repair)) as cursor:
        return cursor.execute(query("maintenance.reconcile"), {"dry_run": dry_run, "limit": limit}).fetchall()


def sizes(connection: Connection[Row]) -> tuple[int, int]:
    """Bytes of our schema, and of Dagster's beside it."""
    row = connection.execute(query("maintenance.sizes")).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _number(connection: Connection[Row], name: str, **values: object) -> int:
    row = connection.execute(query(name), values or None).fetchone()
    return int(row[0]) if row else 0
