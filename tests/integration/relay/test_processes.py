"""Relays as processes, killed and paused while events come; heard through the local PubNub's record."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import psycopg
import pytest

from sketchy_orchestration.local.pubnub import Accepted, LocalPubNub
from tests.integration.relay.conftest import outcomes, until, write_event

GAMES = 40
CONCURRENCY = 20


@pytest.fixture
def pubnub() -> Iterator[LocalPubNub]:
    with LocalPubNub() as server:
        yield server


@contextmanager
def relay(url: str, pubnub: LocalPubNub, limit: float = 10) -> Iterator[subprocess.Popen[bytes]]:
    """A relay in a process of its own, with `limit` seconds a publish; killed at the end if it still runs."""
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "PUBNUB_ORIGIN": pubnub.origin,
        "PUBNUB_PUBLISH_KEY": pubnub.publish_key,
        "PUBNUB_SUBSCRIBE_KEY": pubnub.subscribe_key,
        "PUBNUB_SSL": "false",
        "PUBNUB_REQUEST_TIMEOUT": str(limit),
    }
    command = [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift", "fanout"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(10)


def held(connection: psycopg.Connection) -> dict[int, int]:
    """Lanes held, by the process id of the holder."""
    rows = connection.execute(
        """
        select s.pid, count(*) from orchestration.lanes l join orchestration.shifts s on s.shift_id = l.holder
        group by 1
        """
    ).fetchall()
    return dict(rows)


class Writer:
    """Writes one event per game, over and over, until it is told to stop."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._stop = asyncio.Event()
        self.games = [uuid4() for _ in range(GAMES)]
        self.rounds = 0
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while not self._stop.is_set():
            for game in self.games:
                write_event(self._connection, game)
            self.rounds += 1
            await asyncio.sleep(0.1)

    async def stop(self) -> int:
        self._stop.set()
        await self._task
        return self.rounds * GAMES


def check(accepted: list[Accepted], games: list[UUID], rounds: int) -> int:
    """Nothing lost, first acceptances in order; how many were repeats."""
    seen: set[str] = set()
    firsts: dict[str, list[int]] = {}
    for each in accepted:
        if each.message["eventId"] not in seen:
            seen.add(each.message["eventId"])
            firsts.setdefault(each.message["gameId"], []).append(each.message["seq"])
    assert firsts == {str(game): list(range(1, rounds + 1)) for game in games}
    return len(accepted) - len(seen)


def events(pubnub: LocalPubNub) -> list[Accepted]:
    return [each for each in pubnub.record() if each.channel.startswith("game-")]


async def test_a_killed_relay_is_replaced_at_once_and_repeats_no_more_than_was_in_flight(
    database_url: str, connection: psycopg.Connection, pubnub: LocalPubNub
) -> None:
    connection.execute(
        "update orchestration.flags set value = %s where name = 'fanout_concurrency'", [CONCURRENCY]
    )
    pubnub.faults.on("latency", operations=["publish"], delay=0.01, jitter=0.02)
    with relay(database_url, pubnub) as one, relay(database_url, pubnub) as two:
        await until(lambda: held(connection) == {one.pid: 16, two.pid: 16}, limit=30)
        with psycopg.connect(database_url, autocommit=True) as own:
            writer = Writer(own)
            await until(lambda: len(events(pubnub)) > 200)
            one.kill()
            await until(lambda: held(connection) == {two.pid: 32}, limit=10)
            known = len(events(pubnub))
            await until(lambda: len(events(pubnub)) > known + 200)
            written = await writer.stop()
        await until(lambda: outcomes(connection) == {"delivered": written}, limit=30)
        # The dead one counted for a while: nothing may have been given up to it.
        assert held(connection) == {two.pid: 32}
    assert check(events(pubnub), writer.games, writer.rounds) <= CONCURRENCY


def games_held(connection: psycopg.Connection, pid: int, games: list[UUID]) -> list[UUID]:
    """Those of these games whose lanes that process holds."""
    found = connection.execute(
        """
        select g from unnest(%s::uuid[]) g
        join orchestration.lanes l on l.lane = orchestration.lane_of(g)
        join orchestration.shifts s on s.shift_id = l.holder where s.pid = %s
        """,
        [games, pid],
    ).fetchall()
    return [row[0] for row in found]


def rows(connection: psycopg.Connection) -> tuple[int, ...]:
    """Everything written of events: the three tables are only ever inserted into."""
    row = connection.execute(
        """
        select (select count(*) from orchestration.sequenced), (select count(*) from orchestration.outcomes),
               (select count(*) from orchestration.attempts)
        """
    ).fetchone()
    assert row is not None
    return row


async def test_a_paused_relay_loses_its_lanes_and_changes_and_sends_nothing_when_it_goes_on(
    database_url: str, connection: psycopg.Connection, pubnub: LocalPubNub
) -> None:
    connection.execute(
        "update orchestration.flags set value = %s where name = 'fanout_concurrency'", [CONCURRENCY]
    )
    with relay(database_url, pubnub, limit=1) as one, relay(database_url, pubnub) as two:
        await until(lambda: held(connection) == {one.pid: 16, two.pid: 16}, limit=30)
        with psycopg.connect(database_url, autocommit=True) as own:
            writer = Writer(own)
            await until(lambda: len(events(pubnub)) > 100)
            # In flight while it is paused; and the time of these is over when it goes on.
            for game in games_held(connection, one.pid, writer.games)[:5]:
                pubnub.faults.on("hang", operations=["publish"], channels=f"game-{game}")
            await until(lambda: pubnub.faults.struck() >= 5)
            one.send_signal(signal.SIGSTOP)
            pubnub.faults.off()
            await until(lambda: held(connection) == {two.pid: 32}, limit=10)
            written = await writer.stop()
        await until(lambda: outcomes(connection) == {"delivered": written}, limit=30)
        before, heard = rows(connection), len(events(pubnub))
        one.send_signal(signal.SIGCONT)
        # It has given up its lease and begun anew.
        await until(lambda: held(connection) == {one.pid: 16, two.pid: 16}, limit=30)
        assert (rows(connection), len(events(pubnub))) == (before, heard)
        for game in writer.games:
            write_event(connection, game)
        await until(lambda: outcomes(connection) == {"delivered": written + GAMES}, limit=30)
    # Checked by numbers: in order, without gaps, and nothing twice but what was in flight.
    assert check(events(pubnub), writer.games, writer.rounds + 1) <= CONCURRENCY
    twice = connection.execute(
        "select count(*) from (select 1 from orchestration.outcomes group by event_id having count(*) > 1) d"
    ).fetchone()
    assert twice == (0,)
