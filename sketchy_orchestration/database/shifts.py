"""The rows of shifts: start, heartbeat, relief, end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query

FRESH = timedelta(seconds=3)
"""A shift whose heartbeat is younger is at work."""

SOFT_BOUND = timedelta(minutes=30)
"""A shift older than this is relieved when a successor is at work."""

HARD_BOUND = timedelta(hours=24)
"""A shift older than this leaves, relieved or not."""

WANTED = 2
"""Shifts of each kind at work at any time."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat brought back.

    Attributes:
        relieved: a successor is at work; leave.
        too_long: the hard bound has passed; leave.
        rank: live shifts of the same kind that started earlier.
    """

    relieved: bool
    too_long: bool
    rank: int


def _start(
    shift_id: UUID, kind: str, version: str, host: str, pid: int, run_id: str | None, release: str | None
) -> dict[str, object]:
    return {
        "shift_id": shift_id,
        "kind": kind,
        "version": version,
        "host": host,
        "pid": pid,
        "dagster_run_id": run_id,
        "release": release,
    }


def _beat(shift_id: UUID, report: Mapping[str, float]) -> dict[str, object]:
    return {"shift_id": shift_id, "report": Jsonb(dict(report)), "hard_bound": HARD_BOUND, "fresh": FRESH}


def _relieve(shift_id: UUID, kind: str) -> dict[str, object]:
    return {"shift_id": shift_id, "kind": kind, "soft_bound": SOFT_BOUND, "fresh": FRESH, "wanted": WANTED}


def _end(shift_id: UUID, reason: str, report: Mapping[str, float]) -> dict[str, object]:
    return {"shift_id": shift_id, "reason": reason, "report": Jsonb(dict(report))}


def start(
    connection: Connection[Row],
    shift_id: UUID,
    kind: str,
    version: str,
    host: str,
    pid: int,
    run_id: str | None,
    release: str | None = None,
) -> None:
    values = _start(shift_id, kind, version, host, pid, run_id, release)
    connection.execute(query("shifts.start"), values)


def beat(connection: Connection[Row], shift_id: UUID, report: Mapping[str, float]) -> Beat | None:
    """None when somebody ended the shift's row: it must leave."""
    with connection.cursor(row_factory=class_row(Beat)) as cursor:
        return cursor.execute(query("shifts.beat"), _beat(shift_id, report)).fetchone()


def relieve(connection: Connection[Row], shift_id: UUID, kind: str) -> UUID | None:
    """Relieve the oldest shift past the soft bound, when more than WANTED are at work; whom, if any."""
    row = connection.execute(query("shifts.relieve"), _relieve(shift_id, kind)).fetchone()
    return row[0] if row else None


def end(connection: Connection[Row], shift_id: UUID, reason: str, report: Mapping[str, float]) -> None:
    """Write down that a shift has ended, why, and its last report."""
    connection.execute(query("shifts.end"), _end(shift_id, reason, report))


async def beat_async(
    connection: AsyncConnection[Row], shift_id: UUID, report: Mapping[str, float]
) -> Beat | None:
    """As `beat`."""
    async with connection.cursor(row_factory=class_row(Beat)) as cursor:
        await cursor.execute(query("shifts.beat"), _beat(shift_id, report))
        return await cursor.fetchone()


async def relieve_async(connection: AsyncConnection[Row], shift_id: UUID, kind: str) -> UUID | None:
    """As `relieve`."""
    row = await (await connection.execute(query("shifts.relieve"), _relieve(shift_id, kind))).fetchone()
    return row[0] if row else None


async def end_async(
    connection: AsyncConnection[Row], shift_id: UUID, reason: str, report: Mapping[str, float]
) -> None:
    """The same, for a shift that works asynchronously."""
    await connection.execute(query("shifts.end"), _end(shift_id, reason, report))
