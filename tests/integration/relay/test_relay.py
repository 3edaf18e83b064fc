"""The relay as a whole, on a real Postgres, with the publisher in memory."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from sketchy_orchestration.pubnub.memory import Accepted, MemoryPublisher
from sketchy_orchestration.realtime.relay import Relay
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import until, write_event


@asynccontextmanager
async def running(settings: Settings, publisher: MemoryPublisher, **options: Any) -> AsyncIterator[Relay]:
    relay = Relay(settings, publisher, uuid4(), limit=options.pop("limit", 2.0), **options)
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


def by_game(accepted: list[Accepted]) -> dict[str, list[int]]:
    heard: dict[str, list[int]] = defaultdict(list)
    for each in accepted:
        heard[str(each.message["gameId"])].append(each.message["seq"])  # type: ignore[arg-type]
    return heard


async def test_every_event_is_published_once_in_order(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = MemoryPublisher(latency=0.005)
    games = [uuid4() for _ in range(50)]
    for _ in range(4):
        for game in games:
            write_event(connection, game)
    async with running(settings, publisher):
        for _ in range(6):
            for game in games:
                write_event(connection, game)
        await until(lambda: outcomes(connection) == {"delivered": 500})
    assert len(publisher.accepted) == 500
    assert by_game(publisher.accepted) == {str(game): list(range(1, 11)) for game in games}
    message = publisher.accepted[0].message
    assert message["after"] == message["seq"] - 1  # type: ignore[operator]
    held = connection.execute("select count(*) from orchestration.lanes where holder is not null").fetchone()
    assert held == (0,)


async def test_a_successor_goes_on_where_it_left(settings: Settings, connection: psycopg.Connection) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    for round_ in range(1, 4):
        for _ in range(5):
            write_event(connection, game)
        async with running(settings, publisher):
            await until(lambda expected=5 * round_: outcomes(connection) == {"delivered": expected})
    assert by_game(publisher.accepted) == {str(game): list(range(1, 16))}
    assert [each.message["after"] for each in publisher.accepted] == list(range(15))
