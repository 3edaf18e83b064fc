"""One turn of a timer benchmark: shifts as processes, an observer on a connection of its own, what it saw."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from benchmarks import crowd
from benchmarks.ends import SeenIds

SETTLE = 6.0
"""Seconds from dealing games to the first deadline: both sides start from rest."""

FLOOR_SCHEMA = """
    create schema floor;
    create table floor.phases (id bigint generated always as identity primary key,
                               deadline timestamptz not null, ended_at timestamptz);
    create index on floor.phases (deadline) where ended_at is null;
    create table floor.ends (id bigint generated always as identity primary key,
                             phase_id bigint not null, deadline timestamptz not null);
"""
PHASES = """
    insert into floor.phases (deadline)
    select clock_timestamp() + make_interval(secs => %(first)s + %(spread)s * i::float8 / %(count)s)
    from generate_series(1, %(count)s) i
"""
RESTING = "insert into floor.phases (deadline) select now() + interval '1 h' from generate_series(1, %s)"
SEEN = {
    "floor": """select id, phase_id::text,
                       extract(epoch from clock_timestamp() - deadline)::float8 * 1000
                from floor.ends where id > %s order by id""",
    "ours": """select id, game_id || from_phase,
                      extract(epoch from clock_timestamp() - deadline)::float8 * 1000
               from orchestration.transitions where id > %s and cause = 'timer' order by id""",
}
LAST = {
    "floor": "select coalesce(max(id), 0) from floor.ends",
    "ours": "select coalesce(max(id), 0) from orchestration.transitions",
}


@dataclass(frozen=True)
class Place:
    """A database with its crowd."""

    url: str
    superuser_url: str


@dataclass
class Measured:
    """One turn: lateness in ms as the observer saw it."""

    side: str
    scenario: str
    due: int
    seen: int
    early: int
    twice: int
    latenesses_ms: list[float] = field(default_factory=list)

    def at(self, share: float) -> float:
        values = sorted(self.latenesses_ms)
        return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


class Shifts:
    """Two timer shifts, each a process; one of them may be killed and replaced."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.running = [self._start() for _ in range(2)]
        self.wait_for(2)

    def _start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "DATABASE_URL": self._place.url, "LOG_LEVEL": "WARNING"}
        command = [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift", "timer"]
        return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_for(self, count: int) -> None:
        fresh = """select count(*) from orchestration.shifts
                   where ended_at is null and heartbeat_at > clock_timestamp() - interval '2 s'"""
        until = time.monotonic() + 30
        with psycopg.connect(self._place.url, autocommit=True) as connection:
            while connection.execute(fresh).fetchone() != (count,):
                if time.monotonic() > until:
                    raise SystemExit("the timer shifts did not start")
                time.sleep(0.05)

    def kill_one(self) -> None:
        victim = self.running.pop(random.randrange(len(self.running)))
        victim.kill()
        victim.wait(10)

    def replace(self) -> None:
        self.running.append(self._start())
        self.wait_for(2)

    def stop(self) -> None:
        for one in self.running:
            one.send_signal(signal.SIGTERM)
        for one in self.running:
            one.wait(10)


@contextmanager
def shifts(place: Place) -> Iterator[Shifts]:
    started = Shifts(place)
    try:
        yield started
    finally:
        started.stop()


def observe(
    place: Place, side: str, count: int, seconds: float, since: int, killing: Shifts | None
) -> tuple[dict[str, float], int]:
    """Ends by name, with the lateness at which each was first seen; and how many were seen under two ids."""
    first: dict[str, float] = {}
    seen, twice = SeenIds(since), 0
    until = time.monotonic() + seconds
    kill_at = random.uniform(0.2, 0.8) * count
    with psycopg.connect(place.url, autocommit=True) as connection:
        while time.monotonic() < until and len(first) < count:
            for number, what, late in connection.execute(SEEN[side], [seen.below], prepare=True):
                if seen.add(number):
                    twice += what in first
                    first.setdefault(what, late)
            seen.advance()
            if killing is not None and len(first) >= kill_at:
                killing.kill_one()
                killing = None
            time.sleep(0.001)
    return first, twice


def turn(
    place: Place, side: str, scenario: str, count: int, spread: float, *, killing: Shifts | None = None
) -> Measured:
    """One side meets `count` deadlines over `spread` seconds; the other side rests.

    Args:
        killing: of these shifts one is killed with -9 at a random moment, and replaced afterwards.
    """
    with psycopg.connect(place.url, autocommit=True) as connection:
        row = connection.execute(LAST[side]).fetchone()
        since = row[0] if row else 0
        if side == "floor":
            connection.execute(PHASES, {"first": SETTLE, "spread": spread, "count": count})
    seconds = SETTLE + spread + 5
    if side == "floor":
        command = [sys.executable, "-m", "benchmarks.floor", str(seconds)]
        process = subprocess.Popen(command, env={**os.environ, "DATABASE_URL": place.url})
        first, twice = observe(place, side, count, seconds, since, None)
        process.terminate()
        process.wait(10)
    else:
        crowd.deal(place.superuser_url, count, first=SETTLE, spread=spread)
        first, twice = observe(place, side, count, seconds, since, killing)
        crowd.clear(place.superuser_url)
        if killing is not None:
            killing.replace()
    late = list(first.values())
    return Measured(side, scenario, count, len(first), sum(1 for one in late if one < 0), twice, late)
