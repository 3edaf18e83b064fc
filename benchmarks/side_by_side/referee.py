"""What happened, seen from outside: ends in the database every 2 ms, messages by the SDK's subscribers."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
from pydantic import SecretStr

from benchmarks.ends import SeenIds
from benchmarks.side_by_side.contestants import ENDS, GAMES, Contestant
from benchmarks.side_by_side.meter import Meter
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.subscriber import Subscriber, channels_in_one_call

LISTENED = 1_000
"""Most games of a turn that are listened to; of more, a sample."""

PHASE_CHANGED = "phase_changed"
"""What says that a phase has ended; whatever else is published is not what is waited for."""

MATCH_FOUND = "MATCH_FOUND"
"""The chatter's type."""

_LOOK_SECONDS = 0.002
_CHATTER_GAMES = 80
_IN_TIME_SECONDS = 0.5
_METER_SECONDS = 0.3
_WRITE_OURS = """
    insert into orchestration.outbox (event_id, game_id, lane, type, data, channels, request_id)
    values (%(id)s, %(game)s, orchestration.lane_of(%(game)s), 'MATCH_FOUND', %(message)s::jsonb,
            array['game-' || %(game)s::text], 'bench')
"""


def at(values: Sequence[float], share: float) -> float:
    """The value at this share of them all, sorted; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


@dataclass
class Turn:
    """One contestant in one scenario; lateness and latency in ms, from the deadline (chatter: from commit).

    Attributes:
        due: phases that were to end, or events written. listened: of them, those listened to.
        missed: not ended, or where ends are not looked at not heard, when the turn was over.
        lost: listened to and not heard. doubled: heard more than once. early: ended before the deadline.
        throughput: events a second, from the first deadline to the last end (chatter: from the first write to
            the last heard). restarted: workers that exited or were killed and were started again.
        cpu: seconds of CPU for 1,000 of what was done, workers and Postgres, from the first deadline on.
        memory_mb, connections: the most the workers had together.
    """

    contestant: str
    settings: str
    scenario: str
    due: int
    listened: int = 0
    missed: int = 0
    lost: int = 0
    early: int = 0
    doubled: int = 0
    throughput: float = 0.0
    restarted: int = 0
    cpu: float = 0.0
    memory_mb: float = 0.0
    connections: int = 0
    lateness_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """Everything, for the report's JSON; of the milliseconds the 101 percentiles."""
        told = asdict(self)
        for name in ("lateness_ms", "latency_ms"):
            values = told[name]
            told[name] = [round(at(values, share / 100), 1) for share in range(101)] if values else []
        return told


class TooLateError(Exception):
    """The games were not dealt and listened to before the first deadline: begin anew, with more time."""


class Ears:
    """Subscribers with the official SDK's calls, on as many polls as the channels need.

    Attributes:
        first: when a message of the type asked for was first heard, by game. messages: how often, by event.
    """

    def __init__(self, origin: str, games: list[UUID], kind: str) -> None:
        self._kind = kind
        keyset = Keyset(SecretStr("pub-c-local"), SecretStr("sub-c-local"), origin=origin, ssl=False)
        self._groups = channels_in_one_call([f"game-{game}" for game in games], most=12_000)
        self._subscribers = [Subscriber(keyset, uuid=f"referee-{n}") for n in range(len(self._groups))]
        self._listening: list[asyncio.Task[None]] = []
        self.first: dict[str, float] = {}
        self.messages: dict[str, int] = {}
        self.on_heard: Callable[[str, float], object] | None = None

    async def open(self) -> None:
        for subscriber, channels in zip(self._subscribers, self._groups, strict=True):
            await subscriber.__aenter__()
            await subscriber.subscribe(*channels)
            self._listening.append(asyncio.create_task(self._listen(subscriber)))

    async def close(self) -> None:
        for task in self._listening:
            task.cancel()
        for subscriber in self._subscribers:
            await subscriber.__aexit__(None, None, None)

    async def _listen(self, subscriber: Subscriber) -> None:
        async for heard in subscriber:
            now = time.time()
            if heard.message.get("type") != self._kind:
                continue
            event_id = str(heard.message.get("eventId") or (heard.channel, heard.message.get("type")))
            self.messages[event_id] = self.messages.get(event_id, 0) + 1
            self.first.setdefault(heard.channel.removeprefix("game-"), now)
            if self.on_heard is not None:
                self.on_heard(event_id, now)


async def phases(
    turn: Turn,
    contestant: Contestant,
    url: str,
    origin: str,
    meter: Meter,
    *,
    count: int,
    patience: float,
    at_share: float | None = None,
    strike: Callable[[], None] | None = None,
) -> None:
    """Watch the games that were dealt until all have ended and been heard, or `patience` is over.

    Args:
        count: how many were dealt. patience: seconds after the last deadline.
        at_share: when this share of the time has gone by, `strike` is called, in a thread.

    Raises:
        TooLateError: the first deadline was there, or close, before all was ready.
    """
    ears: Ears | None = None
    connection = await _connected(url)
    try:
        rows = await (await connection.execute(GAMES[contestant.kind].encode())).fetchall()
        deadlines = {str(game): deadline for game, deadline in rows}
        chosen = random.Random(7).sample(sorted(deadlines), min(LISTENED, len(deadlines)))
        ears = Ears(origin, [UUID(game) for game in chosen], PHASE_CHANGED)
        await ears.open()
        if len(deadlines) != count or time.time() > min(deadlines.values()) - _IN_TIME_SECONDS:
            raise TooLateError
        first, last = min(deadlines.values()), max(deadlines.values())
        await asyncio.sleep(first - _METER_SECONDS - time.time())
        await asyncio.to_thread(meter.begin)
        strike_at = first + (last - first) * at_share if at_share is not None else None
        ends: dict[str, float] = {}
        latest = first
        striking: asyncio.Task[None] | None = None
        seen = SeenIds()
        looks = ENDS.get(contestant.kind)
        while time.time() < last + patience:
            if strike is not None and strike_at is not None and time.time() >= strike_at:
                striking, strike_at = asyncio.create_task(asyncio.to_thread(strike)), None
            if looks is not None:
                try:
                    if connection.closed:
                        connection = await _connected(url)
                    cursor = await connection.execute(looks.encode(), [seen.below], prepare=True)
                    for number, game, late in await cursor.fetchall():
                        if seen.add(number) and str(game) in deadlines:
                            ends.setdefault(str(game), late)
                            latest = time.time()
                    seen.advance()
                except psycopg.OperationalError:
                    await asyncio.sleep(0.02)
            heard = all(game in ears.first for game in chosen)
            if heard and (looks is None or deadlines.keys() <= ends.keys()):
                break
            await asyncio.sleep(_LOOK_SECONDS if looks else 0.05)
        if striking is not None:
            await striking
        await asyncio.to_thread(meter.end)
        # A second copy would come now.
        await asyncio.sleep(0.3)
        turn.due, turn.listened = count, len(chosen)
        turn.lateness_ms = list(ends.values())
        turn.latency_ms = [
            (ears.first[game] - deadlines[game]) * 1000 for game in chosen if game in ears.first
        ]
        turn.lost = turn.listened - len(turn.latency_ms)
        turn.missed = turn.due - len(turn.lateness_ms) if looks else turn.lost
        turn.early = sum(value < 0 for value in turn.lateness_ms + turn.latency_ms)
        turn.doubled = sum(times - 1 for times in ears.messages.values())
        if looks is None:
            latest = max(ears.first.values(), default=first)
        turn.throughput = (turn.due - turn.missed) / max(latest - first, 0.001)
    finally:
        if ears is not None:
            await ears.close()
        await connection.close()


async def _connected(url: str, name: str = "referee") -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(url, autocommit=True, application_name=name)


async def chatter(
    turn: Turn,
    contestant: Contestant,
    url: str,
    origin: str,
    meter: Meter,
    *,
    rate: int,
    seconds: float,
    patience: float,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Write events at a steady rate, and hear them; latency from the commit as its writer saw it.

    Whose events cannot be written at that rate has twice the time; what was written by then is what is due.

    Args:
        tell: told of each event when it is committed.
    """
    statement = _WRITE_OURS if contestant.kind == "ours" else contestant.chatter
    assert statement is not None, f"{contestant.title} has no events"
    games = [uuid4() for _ in range(_CHATTER_GAMES)]
    total = int(rate * seconds)
    committed: dict[str, float] = {}
    heard: dict[str, float] = {}
    ears = Ears(origin, games, MATCH_FOUND)
    ears.on_heard = heard.setdefault

    async def write(part: int, parts: int) -> None:
        async with await _connected(url, "writer") as connection:
            began = time.perf_counter()
            for n in range(part, total, parts):
                if time.perf_counter() - began > 2 * seconds:
                    break
                await asyncio.sleep(max(0.0, began + n / rate - time.perf_counter()))
                event_id, game = str(uuid4()), games[n % len(games)]
                message = json.dumps({"type": MATCH_FOUND, "game": str(game), "eventId": event_id})
                values = {"id": event_id, "game": game, "message": message}
                await connection.execute(statement.encode(), values, prepare=True)
                committed[event_id] = time.time()
                if tell is not None:
                    tell(message)

    try:
        await ears.open()
        await asyncio.to_thread(meter.begin)
        began = time.time()
        parts = 12 if rate > 200 else 1
        await asyncio.gather(*(write(part, parts) for part in range(parts)))
        until = time.time() + patience
        while time.time() < until and len(heard) < len(committed):  # noqa: ASYNC110  # several listeners count
            await asyncio.sleep(0.05)
        await asyncio.to_thread(meter.end)
        await asyncio.sleep(0.3)
        turn.due = turn.listened = len(committed)
        # Heard before its writer knew that it had committed: no wait at all.
        turn.latency_ms = [
            max(0.0, (heard[one] - committed[one]) * 1000) for one in committed if one in heard
        ]
        turn.lost = turn.missed = turn.due - len(turn.latency_ms)
        turn.doubled = sum(count - 1 for count in ears.messages.values())
        turn.throughput = len(turn.latency_ms) / max(max(heard.values(), default=began) - began, 0.001)
    finally:
        await ears.close()
