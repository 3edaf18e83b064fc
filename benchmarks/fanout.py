"""From outbox to listener: draining a backlog beside bare SDK loops, and the time an event takes to be heard.

Postgres (fsync on), the local PubNub, the relays, and for the floor as many bare loops of SDK publishes, run
as processes of their own; a subscriber with the official SDK's calls listens here. Nothing the relay says of
itself is used: a drain ends when every outcome is committed, an event is heard when the subscriber has it.

Run: python -m benchmarks.fanout [--events N] [--relays N] [--seconds S]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from pydantic import SecretStr

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.subscriber import Subscriber, channels_in_one_call

GAMES = 500
HEARD_GAMES = 80
# Never loses its meaning, so that a backlog is sent and not marked expired.
WRITE = """
    insert into orchestration.outbox (game_id, lane, type, data, channels, request_id)
    select g, orchestration.lane_of(g), 'MATCH_FOUND', %(data)s::jsonb, array['game-' || g], 'bench'
    from unnest(%(games)s::uuid[]) as g
"""
WRITE_ONE = """
    insert into orchestration.outbox (event_id, game_id, lane, type, data, channels, request_id)
    values (%(id)s, %(game)s, orchestration.lane_of(%(game)s), 'MATCH_FOUND', %(data)s::jsonb,
            array['game-' || %(game)s::text], 'bench')
"""
DATA = json.dumps(
    {
        "newPhase": "drawing",
        "previousPhase": "briefing",
        "phaseDuration": 60,
        "gameData": {"prompt": "a cat on a mat", "maxPlayers": 4, "currentPlayers": 4},
    }
)


@dataclass(frozen=True)
class Stack:
    url: str
    origin: str

    @property
    def keyset(self) -> Keyset:
        return Keyset(SecretStr("pub-c-local"), SecretStr("sub-c-local"), origin=self.origin, ssl=False)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": self.url,
            "PUBNUB_ORIGIN": self.origin,
            "PUBNUB_PUBLISH_KEY": "pub-c-local",
            "PUBNUB_SUBSCRIBE_KEY": "sub-c-local",
            "PUBNUB_SSL": "false",
            "LOG_LEVEL": "WARNING",
        }


@contextmanager
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="sketchy-bench-") as home:
        Path(home).chmod(0o755)
        with EmbeddedPostgres(Path(home)) as postgres:
            url = postgres.create_database("bench")
            application.install(url)
            migrate_up(url)
            server = subprocess.Popen(
                [sys.executable, "-m", "sketchy_orchestration.local.pubnub"],
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                assert server.stdout is not None
                yield Stack(url, server.stdout.readline().strip().removeprefix("listening on http://"))
            finally:
                server.terminate()
                server.wait(10)


@contextmanager
def relays(stack: Stack, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift", "fanout"]
    started = [
        subprocess.Popen(command, env=stack.environment(), stdout=subprocess.DEVNULL) for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(15)


def number(connection: psycopg.Connection, sql: str) -> float:
    row = connection.execute(sql).fetchone()
    return float(row[0]) if row and row[0] is not None else 0.0


def wait_for(
    connection: psycopg.Connection,
    sql: str,
    least: float,
    working: list[subprocess.Popen[bytes]],
    limit: float = 120,
) -> float:
    began = time.monotonic()
    while number(connection, sql) < least:
        assert time.monotonic() - began < limit, f"{sql} did not reach {least} in {limit} s"
        assert all(process.poll() is None for process in working), "a relay has ended"
        # Counting costs the same two cores: seldom enough not to matter.
        time.sleep(0.1)
    return time.monotonic() - began


def broadcasting(connection: psycopg.Connection, on: bool) -> None:
    connection.execute(
        "select orchestration.set_flag('pubnub_broadcasting', 'bench', 'benchmark', p_enabled => %s)", [on]
    )


def drain(stack: Stack, events: int, count: int) -> float:
    """Events a second from the moment publishing is allowed to the last outcome's commit."""
    games = [uuid4() for _ in range(GAMES)]
    delivered = "select count(*) from orchestration.outcomes"
    with psycopg.connect(stack.url, autocommit=True) as connection:
        broadcasting(connection, False)
        before = number(connection, delivered)
        for _ in range(events // GAMES):
            connection.execute(WRITE, {"games": games, "data": DATA})
        with relays(stack, count) as working:
            held = "select count(distinct holder) from orchestration.lanes where holder is not null"
            wait_for(connection, "select count(*) from orchestration.sequenced", before + events, working)
            wait_for(connection, held, count, working)
            broadcasting(connection, True)
            began = time.monotonic()
            wait_for(connection, delivered, before + events, working)
            return events / (time.monotonic() - began)


def floor(stack: Stack, events: int, count: int) -> float:
    """Publishes a second of as many bare loops over the SDK, without database or order."""
    command = [sys.executable, "-m", "benchmarks.fanout_floor", stack.origin, str(events // count)]
    loops = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for loop in loops:
        assert loop.stdout is not None
        loop.stdout.readline()
    began = time.monotonic()
    for loop in loops:
        assert loop.stdin is not None
        loop.stdin.close()
    for loop in loops:
        loop.wait(120)
        assert loop.stdout is not None
        loop.stdout.close()
    return events / (time.monotonic() - began)


async def heard(stack: Stack, rate: int, seconds: float) -> list[float]:
    """Milliseconds from an event's commit to its being heard, at `rate` events a second."""
    games = [uuid4() for _ in range(HEARD_GAMES)]
    committed: dict[UUID, float] = {}
    latencies: list[float] = []
    groups = channels_in_one_call([f"game-{game}" for game in games])
    subscribers = [Subscriber(stack.keyset, uuid=f"bench-{n}") for n in range(len(groups))]
    total = int(rate * seconds)

    async def listen(subscriber: Subscriber) -> None:
        async for each in subscriber:
            now = time.perf_counter()
            event_id = UUID(each.message["eventId"])
            if event_id in committed:
                latencies.append((now - committed.pop(event_id)) * 1000)
            else:
                # Heard before the writer knew that it had committed.
                latencies.append(0.0)

    async def write(part: int, parts: int) -> None:
        async with await psycopg.AsyncConnection.connect(stack.url, autocommit=True) as connection:
            began = time.perf_counter()
            for n in range(part, total, parts):
                await asyncio.sleep(max(0.0, began + n / rate - time.perf_counter()))
                event_id = uuid4()
                values = {"id": event_id, "game": games[n % len(games)], "data": DATA}
                await connection.execute(WRITE_ONE, values, prepare=True)
                committed[event_id] = time.perf_counter()

    listening = []
    try:
        for subscriber, channels in zip(subscribers, groups, strict=True):
            await subscriber.__aenter__()
            await subscriber.subscribe(*channels)
            listening.append(asyncio.create_task(listen(subscriber)))
        parts = 4 if rate > 200 else 1
        await asyncio.gather(*(write(part, parts) for part in range(parts)))
        async with asyncio.timeout(30):
            while len(latencies) < total:  # noqa: ASYNC110  # counted by several listeners
                await asyncio.sleep(0.05)
    finally:
        for task in listening:
            task.cancel()
        for subscriber in subscribers:
            await subscriber.__aexit__(None, None, None)
    return sorted(latencies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000, help="backlog to drain")
    parser.add_argument("--relays", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each latency measurement")
    given = parser.parse_args()
    with stack() as running:
        for count in sorted({1, given.relays}):
            bare = floor(running, given.events, count)
            rate = drain(running, given.events, count)
            print(
                f"drain, {count} process(es): {rate:,.0f}/s; bare SDK loops {bare:,.0f}/s;"
                f" ratio {rate / bare:.2f}",
                flush=True,
            )
        with (
            relays(running, given.relays) as working,
            psycopg.connect(running.url, autocommit=True) as connection,
        ):
            held = "select count(distinct holder) from orchestration.lanes where holder is not null"
            wait_for(connection, held, given.relays, working)
            for rate in (100, 1000):
                took = asyncio.run(heard(running, rate, given.seconds))
                p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
                print(
                    f"commit to heard, {rate}/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {took[-1]:.1f} ms"
                    f" ({len(took)} events)"
                )


if __name__ == "__main__":
    main()
