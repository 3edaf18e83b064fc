"""Dead letters that a person wants sent again, as the relay that holds their lanes sees them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from sketchy_orchestration.database.queries import query
from sketchy_orchestration.database.relay import Session


@dataclass(frozen=True, slots=True)
class AskedReplay:
    """A dead letter somebody wants sent again; `timetokens` are of channels that have taken it already."""

    event_id: UUID
    game_id: UUID | None
    lane: int
    seq: int | None
    after_seq: int | None
    type: str
    user_id: str
    data: Mapping[str, object]
    channels: list[str]
    request_id: str
    occurred_at: datetime
    timetokens: dict[str, int]


async def replays_asked(session: Session, lanes: Collection[int], *, limit: int) -> list[AskedReplay]:
    """Dead letters of these lanes that are to be sent again, each game's in its order."""
    async with session.cursor(row_factory=class_row(AskedReplay)) as rows:
        await rows.execute(query("relay.replays_asked"), {"lanes": list(lanes), "limit": limit}, prepare=True)
        return await rows.fetchall()


async def end_replay(
    session: Session, replay: AskedReplay, epoch: int, timetokens: Mapping[str, int], refused: str | None
) -> bool:
    """Record a replay as accepted, or as refused with the answer; False: no longer held, or discarded."""
    values = {
        "event_id": replay.event_id,
        "lane": replay.lane,
        "epoch": epoch,
        "timetokens": json.dumps(timetokens),
        "refused": refused,
    }
    return await (await session.execute(query("relay.end_replay"), values)).fetchone() is not None
