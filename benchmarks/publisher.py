"""Publishes a second: the official SDK behind our publisher, beside a bare aiohttp loop, in one run.

The local PubNub runs in a process of its own. Run: python -m benchmarks.publisher [publishes per measurement]
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr

from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.sdk import SdkPublisher

CONCURRENCIES = (1, 10, 100)
ROUNDS = 3
KEY = "pub-c-local"
SUBSCRIBE_KEY = "sub-c-local"
# About 450 characters of JSON: a phase_changed as the relay sends it.
MESSAGE = {
    "type": "phase_changed",
    "gameId": "0b5ad3f0-8a3e-4b0e-9d8f-1f8f3b6a2c11",
    "userId": "system",
    "timestamp": 1751198400123,
    "version": "2.0.0",
    "data": {
        "newPhase": "drawing",
        "previousPhase": "briefing",
        "phaseDuration": 60,
        "prompt": "a cat on a mat",
    },
    "eventId": "4b0e5ad3-8a3e-4b0e-9d8f-1f8f3b6a2c11",
    "seq": 7,
    "after": 6,
    "occurredAt": "2025-06-29T12:00:00.123Z",
    "requestId": "9d8f5ad3-8a3e-4b0e-9d8f-1f8f3b6a2c11",
}

Publish = Callable[[int], Awaitable[object]]


@dataclass(frozen=True)
class Measured:
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


async def measure(publish: Publish, concurrency: int, count: int) -> Measured:
    left = count
    took: list[float] = []

    async def worker(number: int) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            await publish(number)
            took.append((time.perf_counter() - began) * 1000)

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker(n) for n in range(concurrency)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    took.sort()
    return Measured(
        len(took) / seconds, took[len(took) // 2], took[int(len(took) * 0.99)], cpu * 1000 / len(took)
    )


async def run(origin: str, count: int) -> dict[str, dict[int, list[Measured]]]:
    keyset = Keyset(SecretStr(KEY), SecretStr(SUBSCRIBE_KEY), origin=origin, ssl=False)
    results: dict[str, dict[int, list[Measured]]] = {"bare aiohttp": {}, "SDK publisher": {}}
    connector = aiohttp.TCPConnector(limit=200)
    async with (
        SdkPublisher(keyset, concurrency=100) as publisher,
        aiohttp.ClientSession(connector=connector) as http,
    ):

        async def bare(number: int) -> None:
            text = quote(json.dumps(MESSAGE), safe="")
            url = f"http://{origin}/publish/{KEY}/{SUBSCRIBE_KEY}/0/game-{number}/0/{text}?uuid=server-broadcast"
            async with http.get(aiohttp.client.URL(url, encoded=True)) as response:
                assert (await response.json(content_type=None))[0] == 1

        async def ours(number: int) -> None:
            await publisher.publish(f"game-{number}", MESSAGE, timeout=10)

        for publish in (bare, ours):
            await measure(publish, 100, 500)
        for _ in range(ROUNDS):
            for concurrency in CONCURRENCIES:
                for name, publish in (("bare aiohttp", bare), ("SDK publisher", ours)):
                    measured = await measure(publish, concurrency, count)
                    results[name].setdefault(concurrency, []).append(measured)
    return results


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    server = subprocess.Popen(
        [sys.executable, "-m", "sketchy_orchestration.local.pubnub"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        origin = server.stdout.readline().strip().removeprefix("listening on http://")
        results = asyncio.run(run(origin, count))
    finally:
        server.terminate()
        server.wait(10)
    columns = ("concurrent", "publishes/s", "p50 ms", "p99 ms", "CPU ms", "of bare")
    print(f"{'':14} {columns[0]:>10} {columns[1]:>12} " + " ".join(f"{name:>8}" for name in columns[2:]))
    for concurrency in CONCURRENCIES:
        floor = statistics.median(m.rate for m in results["bare aiohttp"][concurrency])
        for name, by_concurrency in results.items():
            best = sorted(by_concurrency[concurrency], key=lambda m: m.rate)[ROUNDS // 2]
            print(
                f"{name:14} {concurrency:>10} {best.rate:>12.0f} {best.p50_ms:>8.2f} {best.p99_ms:>8.2f} "
                f"{best.cpu_ms:>8.3f} {best.rate / floor:>8.2f}"
            )


if __name__ == "__main__":
    main()
