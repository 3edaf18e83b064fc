"""Games as an operator sees them: one timeline each, and acts with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import class_row, dict_row

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError

BATCH = 100
"""Most games acted on in one transaction: it holds their rows until all of them are done."""

LIVE = timedelta(seconds=10)
"""What counts as now, where lateness is looked at."""


class GameActError(SketchyError):
    """An act that may not be done: no reason, a wrong number, an unknown game."""


class Act(StrEnum):
    """What an operator may do to a game in play."""

    pause = "pause"
    resume = "resume"
    extend = "extend"
    advance = "advance"


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of one game, in words."""

    game_id: UUID
    phase: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of a game's timeline."""

    at: datetime
    kind: str
    seq: int | None
    what: str
    detail: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Lateness:
    """Transitions caused by the timer in a window: how many, and how late, ms.

    Attributes:
        percentiles: p50, p95, p99; None when there was no transition.
    """

    transitions: int
    percentiles: list[float] | None
    largest: float | None
    early: int
    rebased: int


def act(
    connection: Connection[Row],
    action: Act,
    game_ids: Sequence[UUID] | None,
    *,
    by: str,
    reason: str,
    seconds: int | None = None,
    dry_run: bool = False,
) -> list[Acted]:
    """Do `action` to the games, or to every live game when `game_ids` is None.

    At most BATCH in one transaction: the application waits for nobody's act on all games.

    Raises:
        GameActError: the database refused, and says why.
    """
    values = {"action": action, "by": by, "reason": reason, "seconds": seconds, "dry_run": dry_run}
    ids = list(live(connection) if game_ids is None else game_ids)
    done: list[Acted] = []
    try:
        with connection.cursor(row_factory=class_row(Acted)) as cursor:
            # Without a game there is still something to be refused.
            for first in range(0, max(1, len(ids)), BATCH):
                some = ids[first : first + BATCH]
                done += cursor.execute(query("games.act"), {**values, "ids": some}).fetchall()
    except psycopg.errors.InvalidParameterValue as error:
        raise GameActError(f"{error.diag.message_primary}", hint=error.diag.message_hint) from None
    return done


def live(connection: Connection[Row]) -> list[UUID]:
    """Every live game that this system handles."""
    return [row[0] for row in connection.execute(query("games.live"))]


def retry(connection: Connection[Row], game_ids: Sequence[UUID] | None, *, by: str, reason: str) -> int:
    """Have games that are set aside tried again at once; how many."""
    ids = None if game_ids is None else list(game_ids)
    row = connection.execute(query("games.retry"), {"ids": ids, "by": by, "reason": reason}).fetchone()
    return int(row[0]) if row else 0


def sync(connection: Connection[Row], game_ids: Sequence[UUID] | None, *, by: str, reason: str) -> int:
    """Have players told the time at once, of these games or of all that run; how many games those are.

    Raises:
        GameActError: no reason was given.
    """
    ids = None if game_ids is None else list(game_ids)
    try:
        row = connection.execute(query("games.sync"), {"ids": ids, "by": by, "reason": reason}).fetchone()
    except psycopg.errors.InvalidParameterValue as error:
        raise GameActError(f"{error.diag.message_primary}") from None
    return int(row[0]) if row else 0


def drop(connection: Connection[Row], game_id: UUID, *, by: str, reason: str) -> str:
    """Give up a game that is set aside: cancelled where possible, else left to the application.

    Raises:
        GameActError: it is not set aside, or no reason was given.
    """
    try:
        row = connection.execute(query("games.drop"), {"id": game_id, "by": by, "reason": reason}).fetchone()
    except (psycopg.errors.NoDataFound, psycopg.errors.InvalidParameterValue) as error:
        raise GameActError(f"{error.diag.message_primary}") from None
    return str(row[0]) if row else ""


def timeline(connection: Connection[Row], game_id: UUID) -> list[Moment]:
    """Everything that happened to a game, oldest first."""
    with connection.cursor(row_factory=class_row(Moment)) as cursor:
        return cursor.execute(query("games.timeline"), {"id": game_id}).fetchall()


def handler(connection: Connection[Row], game_id: UUID) -> dict[str, object] | None:
    """Who handles a game since when, and where it stands; None for a game from before the installation."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query("games.handler"), {"id": game_id}).fetchone()


def lateness(connection: Connection[Row], window: timedelta) -> Lateness:
    """How late transitions caused by the timer were in the last `window`."""
    with connection.cursor(row_factory=class_row(Lateness)) as cursor:
        found = cursor.execute(query("games.lateness"), {"window": window}).fetchone()
    assert found is not None, "an aggregate always answers one row"  # noqa: S101
    return found


def next_deadlines(connection: Connection[Row], limit: int) -> list[dict[str, object]]:
    """The games due next."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query("games.next_deadlines"), {"limit": limit}).fetchall()


def set_aside(connection: Connection[Row], limit: int) -> list[dict[str, object]]:
    """The games that could not be moved, longest first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query("games.set_aside"), {"limit": limit}).fetchall()
