from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection

from sketchy_orchestration.database import relay
from sketchy_orchestration.database.connect import Role, Row, connect_async
from sketchy_orchestration.pubnub.memory import Accepted, MemoryPublisher
from sketchy_orchestration.pubnub.publisher import Publisher
from sketchy_orchestration.realtime.relay import Relay
from sketchy_orchestration.realtime.watching import CHECK_CHANNEL
from sketchy_orchestration.settings import Settings


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(_env_file=None, database_url=database_url)


@pytest.fixture
async def session(settings: Settings) -> AsyncIterator[AsyncConnection[Row]]:
    """A session of the relay's role with the lease's plans, without its time-out."""
    connection = await connect_async(settings, Role.relay)
    await relay.enter_lease(connection, idle=60)
    yield connection
    await connection.close()


def write_event(
    connection: psycopg.Connection,
    game_id: UUID | None,
    type_: str = "MATCH_FOUND",
    data: str = "{}",
    age: float = 0.0,
    channels: list[str] | None = None,
) -> int:
    """Write an event as the triggers do; its id."""
    row = connection.execute(
        """
        insert into orchestration.outbox (game_id, lane, type, data, channels, request_id, occurred_at)
        values (%(game)s::uuid, coalesce(orchestration.lane_of(%(game)s::uuid), 0), %(type)s, %(data)s::jsonb,
                coalesce(%(channels)s, array['game-' || coalesce(%(game)s::text, 'none')]), 'r',
                clock_timestamp() - make_interval(secs => %(age)s))
        returning id
        """,
        {"game": game_id, "type": type_, "data": data, "age": age, "channels": channels},
    ).fetchone()
    assert row is not None
    return int(row[0])


def game_in_lane(lane: int) -> UUID:
    """A game's id whose last five bits are the lane."""
    drawn = uuid4().int
    return UUID(int=(drawn & ~31) | lane)


async def until(condition: Callable[[], bool], limit: float = 30) -> None:
    """Wait for a condition, looking every few milliseconds."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in code that knows no events
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(settings: Settings, publisher: Publisher, **options: Any) -> AsyncIterator[Relay]:
    shift_id = options.pop("shift_id", None) or uuid4()
    relay = Relay(settings, publisher, shift_id, limit=options.pop("limit", 10.0), **options)
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield relay
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await task


def outcomes(connection: psycopg.Connection) -> dict[str, int]:
    return dict(
        connection.execute("select outcome, count(*) from orchestration.outcomes group by 1").fetchall()
    )


def by_game(accepted: Iterable[Accepted]) -> dict[str, list[int]]:
    heard: dict[str, list[int]] = defaultdict(list)
    for each in accepted:
        heard[str(each.message["gameId"])].append(each.message["seq"])
    return heard


def sent(publisher: MemoryPublisher) -> list[Accepted]:
    """What was accepted, without the relay's own checks."""
    return [each for each in publisher.accepted if each.channel != CHECK_CHANNEL]
