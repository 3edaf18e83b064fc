"""From outbox to listener: draining a backlog beside bare SDK loops, under load, beside an old transaction.

Postgres (fsync on), the local PubNub, the relays, and for the floor as many bare loops of SDK publishes, run
as processes of their own; a subscriber with the official SDK's calls listens here. Nothing the relay says of
itself is used: a drain ends when every outcome is committed, an event is heard when the subscriber has it.

Run: python -m benchmarks.fanout [--events N] [--relays N] [--seconds S] [--pinned S]
"""

from __future__ import annotations

import argparse
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
from uuid import uuid4

import psycopg
from pydantic import SecretStr

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.pubnub.keyset import Keyset

GAMES = 500
# Never loses its meaning, so that a backlog is sent and not marked expired.
WRITE = """
    insert into orchestration.outbox (game_id, lane, type, data, channels, request_id)
    select g, orchestration.lane_of(g), 'MATCH_FOUND', %(data)s::jsonb, array['game-' || g], 'bench'
    from unnest(%(games)s::uuid[]) as g
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
            migrate_up(url, told=lambda _: None)
            server = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.roomy_pubnub"],
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
    pause: float = 0.1,
) -> float:
    began = time.monotonic()
    while number(connection, sql) < least:
        assert time.monotonic() - began < limit, f"{sql} did not reach {least} in {limit} s"
        assert all(process.poll() is None for process in working), "a relay has ended"
        # Looking costs the same two cores: seldom enough not to matter.
        time.sleep(pause)
    return time.monotonic() - began


def broadcasting(connection: psycopg.Connection, on: bool) -> None:
    connection.execute(
        "select orchestration.set_flag('pubnub_broadcasting', 'bench', 'benchmark', p_enabled => %s)", [on]
    )


def connected(stack: Stack) -> psycopg.Connection:
    return psycopg.connect(stack.url, autocommit=True)


def all_at_work(connection: psycopg.Connection, working: list[subprocess.Popen[bytes]]) -> None:
    held = "select count(distinct holder) from orchestration.lanes where holder is not null"
    wait_for(connection, held, len(working), working)


def drain(stack: Stack, events: int, count: int) -> float:
    """Events a second from the moment publishing is allowed to the last outcome's commit."""
    with connected(stack) as connection, relays(stack, count) as working:
        all_at_work(connection, working)
        return burst(connection, events, working)


def burst(connection: psycopg.Connection, events: int, working: list[subprocess.Popen[bytes]]) -> float:
    """The same with relays that are at work already."""
    games = [uuid4() for _ in range(GAMES)]
    broadcasting(connection, False)
    for _ in range(events // GAMES):
        connection.execute(WRITE, {"games": games, "data": DATA})
    # Each game's events are sequenced and settled in order: when its last one is, all are. Counting all of
    # them again and again would cost the same two cores as much as sending every twentieth.
    last = int(number(connection, "select max(id) from orchestration.outbox"))
    sequenced = "select count(*) from orchestration.sequenced where outbox_id"
    settled = "select count(*) from orchestration.outcomes where outbox_id"
    wait_for(connection, f"{sequenced} > {last - GAMES}", GAMES, working)
    broadcasting(connection, True)
    began = time.monotonic()
    wait_for(connection, f"{settled} = {last}", 1, working, pause=0.02)
    wait_for(connection, f"{settled} > {last - GAMES}", GAMES, working, pause=0.02)
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


def row(what: str, measured: str, wanted: str, beside: str = "") -> None:
    print(f"| {what} | {measured} | {beside} | {wanted} |", flush=True)


def main() -> None:
    from benchmarks import fanout_heard, fanout_pinned

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000, help="backlog to drain")
    parser.add_argument("--relays", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement under load")
    parser.add_argument("--pinned", type=float, default=60.0, help="seconds an old transaction is held open")
    given = parser.parse_args()
    print("| what | measured | beside | wanted |\n|---|---|---|---|")
    with stack() as running:
        for count in sorted({1, given.relays}):
            bare = floor(running, given.events, count)
            rate = drain(running, given.events, count)
            row(
                f"draining {given.events:,} events, {count} process(es)",
                f"{rate:,.0f}/s, {rate / bare:.2f} of the floor",
                "≥ 2,000/s, ≥ 0.80",
                f"bare SDK loops {bare:,.0f}/s",
            )
        with relays(running, given.relays) as working, connected(running) as connection:
            all_at_work(connection, working)
            fanout_heard.measure(running, connection, given.seconds)
    fanout_pinned.measure(given.relays, given.pinned, given.events)


if __name__ == "__main__":
    main()
