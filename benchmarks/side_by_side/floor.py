"""The floor: the least that can end a phase on time and tell of it: sleep until the next deadline, one
statement, and publishes, as many at once as there are games. Chatter comes in by the standard input, a line
an event, when its writer has committed it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from urllib.parse import quote

import aiohttp
import psycopg

_DUE = """
    with due as (
        select id from bench.games where ended_at is null and deadline <= clock_timestamp()
        order by deadline limit 500 for update skip locked
    ), ended as (
        update bench.games g set status = 'voting', ended_at = clock_timestamp() from due
        where g.id = due.id returning g.id, g.deadline
    )
    insert into bench.ends (game_id, deadline) select id, deadline from ended returning game_id
"""
_NEXT = """
    select extract(epoch from min(deadline) - clock_timestamp())::float8 from bench.games
    where ended_at is null
"""
_PUBLISH = f"http://{os.environ['BENCH_ORIGIN']}/publish/pub-c-local/sub-c-local/0"
_LONGEST_SLEEP = 0.25
_RECONNECT_PAUSE = 0.02


class Voice:
    """Publishes, each in a task of its own."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._publishing: set[asyncio.Task[None]] = set()

    def say(self, game: object, message: str) -> None:
        """Publish this to the game's channel, without waiting."""
        task = asyncio.create_task(self._publish(game, message))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    async def _publish(self, game: object, message: str) -> None:
        url = f"{_PUBLISH}/game-{game}/0/{quote(message, safe='')}?uuid=floor"
        async with self._http.get(url) as answer:
            await answer.read()


async def end_phases(voice: Voice) -> None:
    """Until the connection breaks."""
    async with await psycopg.AsyncConnection.connect(os.environ["BENCH_URL"], autocommit=True) as connection:
        while True:
            for (game,) in await (await connection.execute(_DUE, prepare=True)).fetchall():
                event = {"type": "phase_changed", "gameId": str(game), "eventId": str(game)}
                voice.say(game, json.dumps(event))
            row = await (await connection.execute(_NEXT, prepare=True)).fetchone()
            left = row[0] if row and row[0] is not None else _LONGEST_SLEEP
            await asyncio.sleep(min(max(left, 0.0), _LONGEST_SLEEP))


async def pass_on(voice: Voice) -> None:
    """What comes in by the standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        message = line.decode().rstrip()
        voice.say(json.loads(message)["game"], message)


async def main() -> None:
    """Until the process is ended."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as http,
        asyncio.TaskGroup() as group,
    ):
        voice = Voice(http)
        group.create_task(pass_on(voice))
        print("ready", flush=True)
        while True:
            try:
                await end_phases(voice)
            except psycopg.OperationalError:
                await asyncio.sleep(_RECONNECT_PAUSE)


if __name__ == "__main__":
    asyncio.run(main())
