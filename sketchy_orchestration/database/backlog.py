"""What waits in lanes just taken: numbered where nobody did, and found game by game, in pages.

However much waits, no statement takes long: the lease must be heard of, and the reader is asked for flags.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import dict_row

from sketchy_orchestration.database.queries import query
from sketchy_orchestration.database.relay import Session, StoppedError


@dataclass(frozen=True, slots=True)
class NumberedSlice:
    """What numbering a slice of a backlog came to: events looked at, numbered, and up to which id."""

    found: int
    numbered: int
    last_id: int
    fenced: bool


@dataclass(slots=True)
class WaitingGame:
    """Where a game stands whose lane was just taken: its events from first_seq to last_seq wait."""

    game_id: UUID | None
    lane: int
    first_seq: int | None
    last_seq: int | None
    oldest_id: int
    sent_seq: int


# Games asked for in one statement.
_GAMES = 500


async def number_slice(
    session: Session,
    epochs: Mapping[int, int],
    cursor: str | None,
    *,
    target: str,
    after_id: int,
    limit: int,
) -> NumberedSlice:
    """Number up to `limit` events above `after_id` that `target` sees and `cursor` did not, unread."""
    values = {
        "lanes": list(epochs),
        "cursor": cursor,
        "target": target,
        "after_id": after_id,
        "limit": limit,
        "epoch_by_lane": [epochs.get(lane) for lane in range(max(epochs) + 1)],
    }
    async with session.cursor(row_factory=dict_row) as rows:
        await rows.execute(query("relay.number_slice"), values, prepare=True)
        row = await rows.fetchone()
    if row is None or row["stopped"]:
        raise StoppedError("an emergency stop stands")
    fenced = row["numbered"] != row["written"]
    return NumberedSlice(row["found"], row["numbered"], row["last_id"] or after_id, fenced)


async def waiting(
    session: Session, lanes: Collection[int], cursor: str | None, waiting_from: int | None, *, page: int
) -> list[WaitingGame]:
    """Games with waiting events in lanes whose rows said `cursor` and `waiting_from`, found by pages."""
    found = [game async for game in _candidates(session, lanes, cursor, waiting_from, page)]
    by_game: dict[UUID, WaitingGame] = {}
    for each in found:
        if each.game_id is not None:
            other = by_game.setdefault(each.game_id, each)
            other.oldest_id = min(other.oldest_id, each.oldest_id)
    names = list(by_game)
    games = []
    for start in range(0, len(names), _GAMES):
        rows = await session.execute(
            query("relay.standing"), {"game_ids": names[start : start + _GAMES]}, prepare=True
        )
        for game_id, first_seq, last_seq, sent_seq in await rows.fetchall():
            game = by_game[game_id]
            game.first_seq, game.last_seq, game.sent_seq = first_seq, last_seq, sent_seq
            games.append(game)
    return games + list({each.oldest_id: each for each in found if each.game_id is None}.values())


async def _candidates(
    session: Session, lanes: Collection[int], cursor: str | None, waiting_from: int | None, page: int
) -> AsyncIterator[WaitingGame]:
    xmax, running = _unseen(cursor)
    after_id = 0 if cursor is None else waiting_from
    # The bounds are exclusive.
    values: dict[str, object] = {
        "lanes": list(lanes),
        "limit": page,
        "txids": running,
        "after_txid": None if xmax is None else str(xmax - 1),
        "after_id": None if after_id is None else after_id - 1,
    }
    while values["txids"] or values["after_txid"] is not None or values["after_id"] is not None:
        rows = await (await session.execute(query("relay.candidates"), values, prepare=True)).fetchall()
        for *_, game_id, lane, oldest_id in rows:
            if oldest_id is not None:
                yield WaitingGame(game_id, lane, None, None, oldest_id, 0)
        last_txid, unseen, last_id, seen = rows[0][:4]
        values["txids"] = []
        values["after_txid"] = last_txid if unseen >= page else None
        values["after_id"] = last_id if seen >= page else None


def _unseen(snapshot: str | None) -> tuple[int | None, list[str]]:
    """What a snapshot does not see: all transactions from the first number on, and those of the list."""
    if snapshot is None:
        return None, []
    _, xmax, running = snapshot.split(":")
    return int(xmax), [each for each in running.split(",") if each]
