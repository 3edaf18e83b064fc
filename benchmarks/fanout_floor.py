"""The floor of the fan-out: a bare loop of SDK publishes, 100 at once.

Run by benchmarks.fanout in processes of their own: python -m benchmarks.fanout_floor ORIGIN COUNT
"""

from __future__ import annotations

import asyncio
import sys

from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub_asyncio import PubNubAsyncio
from pubnub.request_handlers.async_aiohttp import AsyncAiohttpRequestHandler

CONCURRENT = 100
MESSAGE = {
    "type": "MATCH_FOUND",
    "gameId": "0b5ad3f0-8a3e-4b0e-9d8f-1f8f3b6a2c11",
    "userId": "system",
    "timestamp": 1751198400123,
    "version": "2.0.0",
    "data": {
        "newPhase": "drawing",
        "previousPhase": "briefing",
        "phaseDuration": 60,
        "gameData": {"prompt": "a cat on a mat", "maxPlayers": 4, "currentPlayers": 4},
    },
    "eventId": "4b0e5ad3-8a3e-4b0e-9d8f-1f8f3b6a2c11",
    "seq": 7,
    "after": 6,
    "occurredAt": "2025-06-29T12:00:00.123Z",
    "requestId": "bench",
}


async def run(origin: str, count: int) -> None:
    config = PNConfiguration()
    config.publish_key, config.subscribe_key, config.uuid = "pub-c-local", "sub-c-local", "floor"
    config.origin, config.ssl, config.enable_subscribe = origin, False, False
    client = PubNubAsyncio(config, custom_request_handler=AsyncAiohttpRequestHandler)
    left = count

    async def worker(number: int) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await client.publish().channel(f"game-{number}").message(MESSAGE).result()

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.gather(*(worker(n) for n in range(CONCURRENT)))
    await client.close_session()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
