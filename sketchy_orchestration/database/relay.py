"""What the relay does in the database, as role sketchy_relay; each function on the session it is given."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from sketchy_orchestration import crash_points
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.domain.circuit import Circuit, State
from sketchy_orchestration.errors import SketchyError

Session = AsyncConnection[Row]


class StoppedError(SketchyError):
    """The flag emergency_stop is on: nothing is numbered or sent."""


@dataclass(frozen=True, slots=True)
class TakenLane:
    """A lane just taken: its new epoch, and how far its former holder had come (see orchestration.lanes)."""

    lane: int
    epoch: int
    cursor: str | None
    waiting_from: int | None


# Not frozen, like the others made for each event: a frozen one takes four times as long to make.
@dataclass(slots=True)
class OutboxEvent:
    """An event of the outbox with its place.

    Attributes:
        sent_seq: the last of its game known as delivered.
        accepted: channels that have taken it already, with their timetokens.
    """

    id: int
    event_id: UUID
    game_id: UUID | None
    lane: int
    seq: int | None
    sent_seq: int | None
    type: str
    user_id: str
    data: Mapping[str, object]
    channels: list[str]
    request_id: str
    occurred_at: datetime
    accepted: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sequenced:
    """One sequencing pass.

    Attributes:
        events: what it numbered.
        found: events it looked at, numbered before or not; last_id: the highest of their ids.
        seen: the snapshot it saw.
        fenced: a lane has another holder by now.
    """

    events: list[OutboxEvent]
    found: int
    last_id: int
    seen: str
    fenced: bool


@dataclass(slots=True)
class Outcome:
    """What became of an event: delivered, dead or expired.

    Attributes:
        after_seq: what its message said was sent before it.
        reason, last_answer: of a dead letter.
    """

    event: OutboxEvent
    epoch: int
    outcome: str
    attempts: int
    after_seq: int | None
    timetokens: Mapping[str, int]
    reason: str | None = None
    last_answer: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A publish that failed; or, with its timetoken, one accepted while the event's others were not.

    `duration_ms` is in milliseconds.
    """

    event: OutboxEvent
    channel: str
    attempt: int
    verdict: str
    reason: str
    duration_ms: float | None
    timetoken: int | None = None


@dataclass(frozen=True, slots=True)
class World:
    """What a relay sees of everything else; `now` is the database's clock in seconds since the epoch."""

    now: float
    flags: Mapping[str, tuple[bool, float | None]]
    circuit: Circuit
    others: list[Mapping[str, float]] = field(default_factory=list)


async def enter_lease(session: Session, *, idle: float) -> None:
    """Make the session a lease: silent for `idle` seconds, the server ends it and frees its lanes."""
    await session.execute(query("relay.enter"), {"idle_ms": round(idle * 1000)})


async def enter_reader(session: Session) -> None:
    """Make the session a reader: plans kept."""
    await session.execute(query("relay.keep_plans"))


async def try_lanes(session: Session, lanes: Collection[int], left: Collection[int] = ()) -> list[int]:
    """Lock what is free of `lanes`, and of `left` what another took and lost; also the ping, with none."""
    values = {"lanes": list(lanes), "left": list(left)}
    cursor = await session.execute(query("relay.try_lanes"), values, prepare=True)
    return [lane for lane, got in await cursor.fetchall() if got]


async def take_lanes(session: Session, lanes: Collection[int], shift_id: UUID) -> list[TakenLane]:
    """Begin a new epoch of lanes whose locks this session holds."""
    async with session.cursor(row_factory=class_row(TakenLane)) as cursor:
        await cursor.execute(query("relay.take_lanes"), {"lanes": list(lanes), "shift_id": shift_id})
        return await cursor.fetchall()


async def save_lanes(
    session: Session, epochs: Mapping[int, int], cursor: str, waiting_from: Mapping[int, int]
) -> None:
    """Save how far these lanes have come; those without `waiting_from` have nothing waiting."""
    await session.execute(
        query("relay.save_lanes"),
        {
            "lanes": list(epochs),
            "epochs": list(epochs.values()),
            "cursor": cursor,
            "waiting_from": [waiting_from.get(lane) for lane in epochs],
        },
        prepare=True,
    )


async def leave_lanes(session: Session, epochs: Mapping[int, int]) -> None:
    """Give lanes back: their rows first, then their locks."""
    lanes = {"lanes": list(epochs), "epochs": list(epochs.values())}
    await session.execute(query("relay.leave_lanes"), lanes)
    crash_points.reach("lease.leaving")
    await session.execute(query("relay.unlock_lanes"), {"lanes": list(epochs)})


async def snapshot(session: Session) -> str:
    """What is committed by now."""
    row = await (await session.execute("select pg_current_snapshot()::text", prepare=True)).fetchone()
    return str(row[0]) if row else ""


async def sequence(
    session: Session,
    epochs: Mapping[int, int],
    cursor: str | None,
    *,
    limit: int,
    backlog: bool = False,
    after_id: int = 0,
    target: str | None = None,
) -> Sequenced:
    """Number up to `limit` events of these lanes that `cursor` did not see, and say what this pass saw.

    With `backlog`: those above `after_id` that `target` sees. A pass that found `limit` has not found all.
    """
    values: dict[str, object] = {"lanes": list(epochs), "cursor": cursor, "limit": limit}
    if backlog:
        values |= {"after_id": after_id, "target": target}
    look = await session.execute(query("relay.slice" if backlog else "relay.fresh"), values, prepare=True)
    found = await look.fetchall()
    seen = str(found[0][0])
    if found[0][1] is None:
        return Sequenced([], 0, after_id, seen, fenced=False)
    ids = [row[1] for row in found]
    crash_points.reach("sequencing.read")
    async with session.cursor(row_factory=dict_row) as rows:
        await rows.execute(
            query("relay.number"),
            {
                "ids": ids,
                "occurred_ats": [row[2] for row in found],
                "epoch_by_lane": [epochs.get(lane) for lane in range(max(epochs) + 1)],
            },
            prepare=True,
        )
        numbered = await rows.fetchall()
    crash_points.reach("sequencing.numbered")
    written = [row.pop("written") for row in numbered]
    stopped = [row.pop("stopped") for row in numbered]
    if any(stopped):
        raise StoppedError("an emergency stop stands")
    events = [OutboxEvent(**row) for row in numbered]
    return Sequenced(events, len(ids), ids[-1], seen, fenced=any(count != len(events) for count in written))


async def load(
    session: Session, games: Mapping[UUID, int], outbox_ids: Sequence[int], *, each: int
) -> list[OutboxEvent]:
    """Up to `each` next events of games, from the given `seq`; and events of no game by their id."""
    async with session.cursor(row_factory=class_row(OutboxEvent)) as rows:
        await rows.execute(
            query("relay.load"),
            {
                "game_ids": list(games),
                "from_seqs": list(games.values()),
                "outbox_ids": list(outbox_ids),
                "each": each,
            },
            prepare=True,
        )
        return await rows.fetchall()


async def acknowledge(session: Session, outcomes: Sequence[Outcome], shift_id: UUID) -> bool:
    """Record what became of events; False: a lane has another holder by now and not all was recorded."""
    # One JSON text instead of thirteen arrays: a quarter of the time to write. What is not there is null.
    rows: list[dict[str, object]] = []
    for each in outcomes:
        event = each.event
        row: dict[str, object] = {
            "outbox_id": event.id,
            "event_id": str(event.event_id),
            "lane": event.lane,
            "epoch": each.epoch,
            "outcome": each.outcome,
            "attempts": each.attempts,
            "timetokens": each.timetokens,
            "occurred_at": event.occurred_at.isoformat(),
        }
        if event.game_id is not None:
            row |= {"game_id": str(event.game_id), "seq": event.seq, "after_seq": each.after_seq}
        if each.reason is not None:
            row |= {"reason": each.reason, "last_answer": each.last_answer}
        rows.append(row)
    cursor = await session.execute(
        query("relay.acknowledge"), {"shift_id": shift_id, "rows": json.dumps(rows)}, prepare=True
    )
    counted = await cursor.fetchone()
    return counted is not None and counted[0] == len(outcomes)


async def record_attempts(session: Session, attempts: Sequence[Attempt], shift_id: UUID) -> None:
    """Record publishes that failed, and what was accepted of such events."""
    await session.execute(
        query("relay.record_attempts"),
        {
            "shift_id": shift_id,
            "outbox_ids": [each.event.id for each in attempts],
            "event_ids": [each.event.event_id for each in attempts],
            "game_ids": [each.event.game_id for each in attempts],
            "channels": [each.channel for each in attempts],
            "attempts": [each.attempt for each in attempts],
            "verdicts": [each.verdict for each in attempts],
            "reasons": [each.reason for each in attempts],
            "durations": [each.duration_ms for each in attempts],
            "timetokens": [each.timetoken for each in attempts],
            "occurred_ats": [each.event.occurred_at for each in attempts],
        },
        prepare=True,
    )


async def look(session: Session, shift_id: UUID, *, fresh: timedelta) -> World:
    """Flags, circuit, the reports of other relays whose heartbeat is `fresh`, the time."""
    async with session.cursor(row_factory=dict_row) as rows:
        await rows.execute(query("relay.look"), {"shift_id": shift_id, "fresh": fresh}, prepare=True)
        row = await rows.fetchone()
    if row is None:
        raise LookupError("orchestration.circuit has lost its row: insert ('default') again")
    holder = None if row["probe_holder"] is None else str(row["probe_holder"])
    circuit = Circuit(State(row["state"]), row["since"], row["epoch"], row["reason"], holder, row["probe_at"])
    flags = {name: (bool(on), value) for name, (on, value) in (row["flags"] or {}).items()}
    return World(float(row["now"]), flags, circuit, row["others"])


async def change_circuit(session: Session, changed: Circuit) -> bool:
    """Make the change, unless somebody was faster."""
    cursor = await session.execute(
        query("relay.change_circuit"),
        {
            "state": changed.state,
            "reason": changed.reason,
            "since": changed.since,
            "epoch": changed.epoch,
            "probe_holder": changed.probe_holder,
            "probe_at": changed.probe_at,
        },
    )
    return await cursor.fetchone() is not None


async def timer_syncs(
    session: Session, game_ids: Collection[UUID] = (), lanes: Collection[int] = ()
) -> list[tuple[UUID, Mapping[str, object]]]:
    """Fresh time syncs of these games and of all running games in these lanes."""
    cursor = await session.execute(
        query("relay.timer_syncs"), {"game_ids": list(game_ids), "lanes": list(lanes)}, prepare=True
    )
    return [(row[0], row[1]) for row in await cursor.fetchall()]


async def newest_act(session: Session) -> int:
    """The id of the newest act of an operator; 0 when there was none."""
    row = await (await session.execute(query("relay.newest_act"))).fetchone()
    return int(row[0]) if row else 0


async def syncs_asked(session: Session, after: int) -> list[tuple[int, UUID | None]]:
    """Acts of late that ask for a time sync, with their games (None: all that run), from about `after` on."""
    cursor = await session.execute(query("relay.syncs_asked"), {"after": after}, prepare=True)
    return [(row[0], row[1]) for row in await cursor.fetchall()]
