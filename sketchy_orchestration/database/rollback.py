"""The emergency stop and its way back, as statements of role sketchy_operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError

T = TypeVar("T")


class RollbackError(SketchyError):
    """A stop or its way back was refused; the message says why."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A row of orchestration.emergency_stops.

    Attributes:
        flags_before: what lifting it gives back.
        shifts_ended: shifts that were at work.
        steps: what was done, as `note` wrote it.
    """

    stop_id: int
    at: datetime
    operator: str
    reason: str
    flags_before: Mapping[str, bool]
    shifts_ended: int
    games_released: int
    released_at: datetime | None
    steps: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Found:
    """What an emergency stop would find now; `in_flight` as relays last reported it."""

    flags: Mapping[str, bool]
    shifts: int
    games: int
    in_flight: int


def standing(connection: Connection[Row]) -> Stop | None:
    """The stop that has not been lifted."""
    with connection.cursor(row_factory=class_row(Stop)) as cursor:
        return cursor.execute(query("rollback.standing")).fetchone()


def stop(connection: Connection[Row], *, by: str, reason: str, triggers_off: bool) -> Stop:
    """One transaction: everything off. A stop that stands already is kept, and made whole again.

    Raises:
        psycopg.errors.LockNotAvailable: a sweep keeps the lock for longer than the session's lock_timeout.
    """
    values = {"by": by, "reason": reason, "triggers_off": triggers_off}
    with connection.cursor(row_factory=class_row(Stop)) as cursor:
        stopped: Stop = _needed(_asked(cursor, "rollback.stop", values))
        return stopped


def would_stop(connection: Connection[Row]) -> Found:
    """What `stop` would find; changes nothing."""
    with connection.cursor(row_factory=class_row(Found)) as cursor:
        return _needed(cursor.execute(query("rollback.would_stop")).fetchone())


def lift(connection: Connection[Row], *, by: str, reason: str) -> Stop | None:
    """Give the flags back; None when no stop stood."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = _asked(cursor, "rollback.lift", {"by": by, "reason": reason})
    return Stop(**row) if row and row["stop_id"] is not None else None


def still_committing(connection: Connection[Row], since: datetime) -> list[str]:
    """Statements of shifts begun before `since` that have not ended, by application."""
    return [row[1] for row in connection.execute(query("rollback.still_committing"), {"since": since})]


def cancel_sweeps(connection: Connection[Row]) -> int:
    """Break off sweeps that hold the lock under which they commit; how many were reached."""
    return _count(connection, "rollback.cancel_sweeps")


def lanes_held(connection: Connection[Row]) -> int:
    """Lanes that some relay's session holds."""
    return _count(connection, "rollback.relays")


def release(connection: Connection[Row], *, by: str, reason: str) -> int:
    """Hand every enrolled game in play to the legacy handler; how many."""
    return _count(connection, "rollback.release", {"by": by, "reason": reason})


def horizon(connection: Connection[Row]) -> str:
    """The number of the next transaction; see `older_writers`."""
    return str(_needed(connection.execute(query("rollback.horizon")).fetchone())[0])


def older_writers(connection: Connection[Row], horizon: str) -> bool:
    """Whether a transaction that had written when `horizon` was asked for is still at work."""
    return bool(_count(connection, "rollback.older_writers", {"horizon": horizon}))


def forget_released(connection: Connection[Row]) -> int:
    """Forget what was kept of released games, some at a time; how many are left."""
    return _count(connection, "rollback.forget_released")


def expire_released(connection: Connection[Row]) -> int | None:
    """Mark what waits of released games as expired; None: a relay holds a lane, nothing was done."""
    row = connection.execute(query("rollback.expire_released")).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def note(connection: Connection[Row], stop_id: int, steps: Sequence[Mapping[str, object]]) -> None:
    """Write down what was done."""
    connection.execute(query("rollback.note"), {"stop_id": stop_id, "steps": Jsonb(list(steps))})


def recycle(connection: Connection[Row], reason: str) -> list[UUID]:
    """Ask every shift to leave; whom."""
    return [row[0] for row in connection.execute(query("rollback.recycle"), {"reason": reason})]


def act(
    connection: Connection[Row], *, by: str, action: str, reason: str, details: Mapping[str, object]
) -> None:
    """Record an operator's act."""
    values = {"by": by, "action": action, "reason": reason, "details": Jsonb(dict(details))}
    connection.execute(query("rollback.act"), values)


def _asked(cursor: psycopg.Cursor[Any], name: str, values: Mapping[str, object]) -> Any:
    try:
        return cursor.execute(query(name), values).fetchone()
    except psycopg.errors.InvalidParameterValue as error:
        raise RollbackError(f"{error.diag.message_primary}") from None


def _count(connection: Connection[Row], name: str, values: Mapping[str, object] | None = None) -> int:
    try:
        row = connection.execute(query(name), values).fetchone()
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.ObjectNotInPrerequisiteState) as error:
        raise RollbackError(f"{error.diag.message_primary}", hint=error.diag.message_hint) from None
    return int(_needed(row)[0])


def _needed(row: T | None) -> T:
    assert row is not None, "the statement always answers one row"  # noqa: S101
    return row
