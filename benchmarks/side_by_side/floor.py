"""The floor: the least that can end a phase on time and tell of it: sleep until the next deadline, one
statement, and publishes, as many at once as there are games."""

from __future__ import annotations

import asyncio
import json
import os
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


async def main() -> None:
    """Until the process is ended."""
    publishing: set[asyncio.Task[None]] = set()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100)) as http,
        await psycopg.AsyncConnection.connect(os.environ["BENCH_URL"], autocommit=True) as connection,
    ):

        async def publish(game: object) -> None:
            message = json.dumps({"type": "phase_changed", "gameId": str(game), "eventId": str(game)})
            async with http.get(f"{_PUBLISH}/game-{game}/0/{quote(message, safe='')}?uuid=floor") as answer:
                await answer.read()

        print("ready", flush=True)
        while True:
            ended = await (await connection.execute(_DUE, prepare=True)).fetchall()
            for (game,) in ended:
                task = asyncio.create_task(publish(game))
                publishing.add(task)
                task.add_done_callback(publishing.discard)
            row = await (await connection.execute(_NEXT, prepare=True)).fetchone()
            left = row[0] if row and row[0] is not None else _LONGEST_SLEEP
            await asyncio.sleep(min(max(left, 0.0), _LONGEST_SLEEP))


if __name__ == "__main__":
    asyncio.run(main())
