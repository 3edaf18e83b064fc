"""Switching row level security of the application's tables without anybody noticing."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import class_row

from sketchy_orchestration.database.migration_locks import (
    LOCK_TIMEOUT,
    Blocker,
    MigrationBlockedError,
    Patience,
)
from sketchy_orchestration.database.queries import query

PATIENCE = 60.0
"""Seconds to go on trying for the tables."""


def switch(connection: psycopg.Connection[Any], on: bool, *, patience: float = PATIENCE) -> bool:
    """Switch it on or off; True when that changed something.

    Args:
        connection: of the owner of the application's tables.

    Raises:
        MigrationBlockedError: the tables were in use for as long as we were willing to try; names by whom.
    """
    trying = Patience(patience)
    while True:
        try:
            with connection.transaction():
                connection.execute(
                    "select set_config('lock_timeout', %s, true)", [f"{round(LOCK_TIMEOUT * 1000)}ms"]
                )
                row = connection.execute(query("gateway.switch_row_security"), {"on": on}).fetchone()
                return bool(row and row[0])
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            with connection.cursor(row_factory=class_row(Blocker)) as cursor:
                blockers = cursor.execute(query("gateway.who_blocks_row_security")).fetchall()
            if not trying.again():
                who = " and by ".join(str(one) for one in blockers) or "somebody who has just finished"
                raise MigrationBlockedError(
                    f"row level security was not switched in {trying.spent:.0f} s; blocked by {who}"
                ) from None


def status(connection: psycopg.Connection[Any]) -> list[tuple[str, bool, bool]]:
    """Each table with whether row level security is on, and whether we switched it."""
    return [(row[0], row[1], row[2]) for row in connection.execute(query("gateway.row_security")).fetchall()]
