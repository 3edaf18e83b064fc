"""Under load: how long an event takes from its being written to its being heard, how many a second are heard,
and how soon none is heard any more once it is switched off. Run by benchmarks.fanout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import psycopg

from benchmarks.fanout import DATA, WRITE, Stack, broadcasting, number, row
from sketchy_orchestration.pubnub.subscriber import Subscriber, channels_in_one_call

HEARD_GAMES = 80
# What is written at a time when only the rate matters; as many statements a second as an application makes.
TOGETHER = 10
STOP_RATE = 500
WRITE_ONE = """
    insert into orchestration.outbox (event_id, game_id, lane, type, data, channels, request_id)
    values (%(id)s, %(game)s, orchestration.lane_of(%(game)s), 'MATCH_FOUND', %(data)s::jsonb,
            array['game-' || %(game)s::text], 'bench')
"""


@dataclass
class Ear:
    """What was sent to Postgres when (perf_counter), and how long after that it was heard (ms).

    So the insert and its commit are in the time: whoever waits for their answer in the event loop that
    listens, too, knows of the commit late.
    """

    games: list[UUID] = field(default_factory=lambda: [uuid4() for _ in range(HEARD_GAMES)])
    sent: dict[UUID, float] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)
    heard: int = 0
    last: float = 0.0

    async def listen(self, subscriber: Subscriber) -> None:
        async for each in subscriber:
            self.last = time.perf_counter()
            self.heard += 1
            at = self.sent.pop(UUID(each.message["eventId"]), None)
            if at is not None:  # of those written one by one
                self.took.append((self.last - at) * 1000)

    async def has_heard(self, count: int, limit: float = 60.0) -> None:
        async with asyncio.timeout(limit):
            while self.heard < count:  # noqa: ASYNC110  # counted by several listeners
                await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(stack: Stack) -> AsyncIterator[Ear]:
    """Subscribers with the official SDK's calls, to all games of an ear."""
    ear, tasks, subscribers = Ear(), [], []
    try:
        for n, channels in enumerate(channels_in_one_call([f"game-{game}" for game in ear.games])):
            subscriber = await Subscriber(stack.keyset, uuid=f"bench-{n}").__aenter__()
            subscribers.append(subscriber)
            await subscriber.subscribe(*channels)
            tasks.append(asyncio.create_task(ear.listen(subscriber)))
        yield ear
    finally:
        for task in tasks:
            task.cancel()
        for subscriber in subscribers:
            await subscriber.__aexit__(None, None, None)


async def write_one_by_one(stack: Stack, ear: Ear, rate: int, seconds: float) -> None:
    total, parts = int(rate * seconds), 4 if rate > 200 else 1

    async def write(part: int) -> None:
        async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as connection:
            began = time.perf_counter()
            for n in range(part, total, parts):
                await asyncio.sleep(max(0.0, began + n / rate - time.perf_counter()))
                event_id = uuid4()
                values = {"id": event_id, "game": ear.games[n % len(ear.games)], "data": DATA}
                ear.sent[event_id] = time.perf_counter()
                await connection.execute(WRITE_ONE, values, prepare=True)

    await asyncio.gather(*(write(part) for part in range(parts)))


async def write_together(stack: Stack, ear: Ear, rate: int, seconds: float) -> int:
    """Write at a rate, some games' events in one statement; how many."""
    turns = int(rate * seconds / TOGETHER)
    async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as connection:
        began = time.perf_counter()
        for n in range(turns):
            await asyncio.sleep(max(0.0, began + n * TOGETHER / rate - time.perf_counter()))
            first = n * TOGETHER % HEARD_GAMES
            values = {"games": ear.games[first : first + TOGETHER], "data": DATA}
            await connection.execute(WRITE, values, prepare=True)
    return turns * TOGETHER


async def latencies(stack: Stack, rate: int, seconds: float) -> list[float]:
    """Milliseconds from an event's insert to its being heard, commit included, at `rate` a second, sorted."""
    async with listening(stack) as ear:
        await write_one_by_one(stack, ear, rate, seconds)
        await ear.has_heard(int(rate * seconds))
    return sorted(ear.took)


async def sustained(stack: Stack, rate: int, seconds: float) -> float:
    """Events heard a second while `rate` a second are written, until the last one is heard."""
    async with listening(stack) as ear:
        began = time.perf_counter()
        total = await write_together(stack, ear, rate, seconds)
        await ear.has_heard(total)
        return total / (ear.last - began)


async def stopped(stack: Stack, connection: psycopg.Connection) -> float:
    """Milliseconds from switching publishing off to the last event heard; events go on being written."""
    async with listening(stack) as ear:
        writing = asyncio.create_task(write_together(stack, ear, STOP_RATE, 5.0))
        await ear.has_heard(STOP_RATE)
        await asyncio.to_thread(broadcasting, connection, False)
        off = time.perf_counter()
        total = await writing
        last = ear.last
        await asyncio.to_thread(broadcasting, connection, True)
        await ear.has_heard(total)
    return max(0.0, (last - off) * 1000)


def measure(stack: Stack, connection: psycopg.Connection, seconds: float) -> None:
    """Print the rows; relays are at work."""
    for rate, wanted in ((100, "p99 ≤ 30 ms"), (1000, "p99 ≤ 150 ms")):
        took = asyncio.run(latencies(stack, rate, seconds))
        p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
        row(
            f"insert and commit → heard, {rate:,}/s",
            f"p50 {p50:.1f}, p99 {p99:.1f}, max {took[-1]:.1f} ms",
            wanted,
        )
    for rate in (1_300, 2_000):
        reached = asyncio.run(sustained(stack, rate, seconds))
        row(f"sustained, {rate:,}/s written and heard", f"{reached:,.0f}/s", "≥ 1,200/s")
    took = sorted(asyncio.run(stopped(stack, connection)) for _ in range(3))
    row(
        f"switched off at {STOP_RATE}/s: until nothing is heard any more",
        f"{took[1]:.0f} ms (worst of three {took[-1]:.0f})",
        "≤ 1 s",
    )
    unknown = number(connection, "select count(*) from orchestration.attempts where verdict = 'unknown'")
    row("… broken off in flight, noted as unknown", f"{unknown:.0f} attempts", "")
