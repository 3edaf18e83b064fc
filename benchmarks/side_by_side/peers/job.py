"""The job every Python peer does: end the phase and record it in one statement, then publish over HTTP."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote

import aiohttp
from psycopg_pool import AsyncConnectionPool

URL = os.environ["BENCH_URL"]
TUNED = os.environ["BENCH_TUNED"] == "1"
_PUBLISH = f"http://{os.environ['BENCH_ORIGIN']}/publish/pub-c-local/sub-c-local/0"


class Job:
    """A pool of connections and one HTTP session, made once."""

    def __init__(self, connections: int) -> None:
        self._pool = AsyncConnectionPool(
            URL, min_size=connections, max_size=connections, open=False, kwargs={"autocommit": True}
        )

    async def open(self) -> None:
        await self._pool.open(wait=True)
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100))

    async def end_phase(self, game: str) -> None:
        """One phase's end."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute("select bench.end_phase(%s)", [game], prepare=True)
            row = await cursor.fetchone()
        await self.publish(game, row[0] if row else None)

    async def publish(self, game: str, message: Any) -> None:
        """One publish, as PubNub's REST interface has it."""
        url = f"{_PUBLISH}/game-{game}/0/{quote(json.dumps(message), safe='')}?uuid=peer"
        async with self._http.get(url) as answer:
            await answer.read()
            answer.raise_for_status()


def ready() -> None:
    """Tell the referee that work may come."""
    print("ready", flush=True)
