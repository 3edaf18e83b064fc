"""What supervision reads and writes, as role sketchy_operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.database.shifts import FRESH
from sketchy_orchestration.domain.supervision import Overdue

MOST_COUNTED = 1000
"""Counting what is overdue stops here: one is enough to act."""


@dataclass(frozen=True, slots=True)
class ShiftRow:
    """A shift as its row tells it; times in seconds, by the database's clock."""

    shift_id: UUID
    run_id: str | None
    host: str
    pid: int
    heartbeat: str
    age: float
    silence: float
    relieved: bool
    ended_for: float | None
    outranks: bool


@dataclass(frozen=True, slots=True)
class Switch:
    """A flag that is on or off, and who set it so and why."""

    enabled: bool
    changed_by: str
    reason: str


def shift_rows(
    connection: Connection[Row], kind: str, run_ids: Sequence[str], release: str
) -> list[ShiftRow]:
    """Every shift of the kind that has not ended, and those of `run_ids` that have.

    Args:
        release: that of whoever asks; shifts of another one that is current outrank it.
    """
    with connection.cursor(row_factory=class_row(ShiftRow)) as cursor:
        values = {"kind": kind, "run_ids": list(run_ids), "release": release}
        return cursor.execute(query("supervision.shifts"), values).fetchall()


def end_shift(connection: Connection[Row], shift_id: UUID, heartbeat: str, reason: str) -> bool:
    """Declare a shift ended, unless it has sent a heartbeat since `heartbeat`; whether that was done."""
    values = {"shift_id": shift_id, "heartbeat": heartbeat, "reason": reason}
    return connection.execute(query("supervision.end_shift"), values).fetchone() is not None


def end_all(connection: Connection[Row], reason: str) -> None:
    """Ask every shift to leave, by declaring it ended; each does so with its next heartbeat."""
    connection.execute(query("supervision.end_all"), {"reason": reason})


def switch(connection: Connection[Row], name: str) -> Switch | None:
    """The flag of this name; None when there is none."""
    with connection.cursor(row_factory=class_row(Switch)) as cursor:
        return cursor.execute(query("supervision.switch"), {"name": name}).fetchone()


def overdue_games(connection: Connection[Row], *, by: float) -> Overdue:
    """Games whose deadline passed more than `by` seconds ago, neither paused nor set aside."""
    return _overdue(connection, "supervision.overdue_games", by=timedelta(seconds=by))


def overdue_events(connection: Connection[Row], *, by: float, window: timedelta) -> Overdue:
    """Events that wait, older than `by` seconds and younger than `window`; none while relays are at work."""
    values = {"by": timedelta(seconds=by), "window": window, "fresh": FRESH}
    return _overdue(connection, "supervision.overdue_events", **values)


def _overdue(connection: Connection[Row], name: str, **values: timedelta) -> Overdue:
    with connection.cursor(row_factory=class_row(Overdue)) as cursor:
        found = cursor.execute(query(name), {"limit": MOST_COUNTED, **values}).fetchone()
    assert found is not None, "an aggregate always answers one row"  # noqa: S101
    return found
