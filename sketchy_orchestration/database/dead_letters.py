"""Events given up: which there are, and having them sent again or discarding them, with a reason."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import class_row, dict_row

from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.errors import SketchyError

MOST = 10_000
"""Letters one act takes at most; who has more acts again."""

_LOOK_EVERY = 0.2


class DeadLetterError(SketchyError):
    """There is no such letter, or this may not be done to it; the message says what is wrong."""


class Act(StrEnum):
    """What a person may do to a dead letter."""

    replay = "replay"
    discard = "discard"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which letters are meant: those that fit everything given; None is no limit.

    Attributes:
        dead_reason: why they died, as `list` shows it: too_large, invalid, timeout …
        after, before: when they died.
        over: only those whose game is over.
    """

    event_ids: Sequence[UUID] | None = None
    game_id: UUID | None = None
    type: str | None = None
    dead_reason: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    over: bool = False

    @property
    def one(self) -> bool:
        """Exactly one letter is named."""
        return self.event_ids is not None and len(self.event_ids) == 1

    def values(self) -> dict[str, Any]:
        return {**asdict(self), "event_ids": None if self.event_ids is None else list(self.event_ids)}


@dataclass(frozen=True, slots=True)
class Acted:
    """What was or would be done to one letter, in words."""

    event_id: UUID
    game_id: UUID | None
    seq: int | None
    type: str
    reason: str
    dead_at: datetime
    outcome: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """How replays ended: accepted by PubNub, refused again, or not yet tried."""

    accepted: int
    refused: int
    waiting: int


def listed(
    connection: Connection[Row], chosen: Chosen, *, settled: bool = False, limit: int = 100
) -> list[dict[str, Any]]:
    """Letters with their state (open, to be replayed, replayed, discarded), oldest first."""
    values = {**chosen.values(), "settled": settled, "limit": limit}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query("dead_letters.listed"), values).fetchall()


def whole(connection: Connection[Row], event_id: UUID) -> dict[str, Any]:
    """Everything known of one letter, what was done to it by whom included.

    Raises:
        DeadLetterError: there is none.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(query("dead_letters.whole"), {"event_id": event_id}).fetchone()
    if found is None:
        raise DeadLetterError(
            f"there is no dead letter {event_id}: `sketchy dead-letters list --all` shows all"
        )
    return found


def act(
    connection: Connection[Row],
    action: Act,
    chosen: Chosen,
    *,
    by: str,
    reason: str,
    limit: int = 1000,
    dry_run: bool = True,
) -> list[Acted]:
    """Discard letters, or ask for them to be sent again by whoever holds their lanes; in one transaction.

    Args:
        limit: letters at most, the oldest first.
        dry_run: change nothing, say what would be done.

    Raises:
        DeadLetterError: no reason, or a letter named is none.
    """
    if not 1 <= limit <= MOST:
        raise DeadLetterError(f"limit {limit} must be between 1 and {MOST:,}")
    values = {
        **chosen.values(),
        "action": action,
        "by": by,
        "reason": reason,
        "limit": limit,
        "dry_run": dry_run,
    }
    try:
        with connection.transaction(), connection.cursor(row_factory=class_row(Acted)) as cursor:
            done = cursor.execute(query("dead_letters.act"), values).fetchall()
            if missing := set(chosen.event_ids or ()) - {one.event_id for one in done}:
                named = ", ".join(sorted(map(str, missing)))
                raise DeadLetterError(f"no dead letter is {named}, or another filter leaves it out")
    except psycopg.errors.InvalidParameterValue as error:
        raise DeadLetterError(f"{error.diag.message_primary}", hint=error.diag.message_hint) from None
    return done


def wait_for_replays(connection: Connection[Row], event_ids: Sequence[UUID], within: float) -> Replayed:
    """Wait up to `within` seconds until none of these is still to be sent again."""
    until = time.monotonic() + within
    while True:
        row = connection.execute(query("dead_letters.progress"), {"event_ids": list(event_ids)}).fetchone()
        progress = Replayed(*row) if row else Replayed(0, 0, 0)
        if not progress.waiting or time.monotonic() >= until:
            return progress
        time.sleep(_LOOK_EVERY)
