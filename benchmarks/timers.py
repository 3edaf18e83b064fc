"""How late phases end: our timer shifts beside a bare loop, taking turns on one Postgres, seen from outside.

An observer on a connection of its own asks about every millisecond which ends it can see, on the database's
clock; no number of the sweeper's own is used. Two shifts run as processes, as in production.

Run: python -m benchmarks.timers [--quick] [--keep FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import EmbeddedPostgres

LIVE = 10_000
RATE = 250
SETTLE = 8.0
"""Seconds from creating games to the first deadline: both sides start from rest."""

FLOOR_SCHEMA = """
    create schema floor;
    create table floor.phases (id bigint generated always as identity primary key,
                               deadline timestamptz not null, ended_at timestamptz);
    create index on floor.phases (deadline) where ended_at is null;
    create table floor.ends (id bigint generated always as identity primary key,
                             phase_id bigint not null, deadline timestamptz not null);
"""
PEOPLE = """
    insert into auth.users (id) select gen_random_uuid() from generate_series(1, 200);
    insert into public.users (id, email, username)
    select id, id || '@bench.invalid', 'bench ' || id from auth.users;
    select orchestration.set_flag('enrolment', 'bench', 'benchmark', null, 100)
"""
# Half of the games leave briefing, half leave voting with two drawings and two votes to count.
GAMES = """
    with made as (
        insert into public.games
            (prompt, status, created_at, started_at, drawing_started_at, voting_started_at,
             current_phase_duration, phase_expires_at)
        select 'a cat', (case when i %% 2 = 0 then 'briefing' else 'voting' end)::public.game_status,
               now() - interval '2 min', now() - interval '2 min',
               case when i %% 2 = 1 then now() - interval '1 min' end,
               case when i %% 2 = 1 then now() - interval '30 s' end, 20,
               clock_timestamp() + make_interval(secs => %(settle)s + %(spread)s * i::float8 / %(count)s)
        from generate_series(1, %(count)s) i
        returning id
    ), players as (
        select m.id as game_id, u.id as user_id, u.place
        from (select id, row_number() over () as n from made) m
        join (select id, row_number() over () as place from public.users) u on u.place %% 100 = m.n %% 100
    ), joined as (
        insert into public.game_participants (game_id, user_id) select game_id, user_id from players
    )
    insert into public.submissions (game_id, user_id, drawing_data) select game_id, user_id, '{}' from players
"""
VOTES = """
    insert into public.votes (game_id, voter_id, submission_id)
    select a.game_id, a.user_id, b.id
    from public.submissions a join public.submissions b on b.game_id = a.game_id and b.user_id <> a.user_id
    join public.games g on g.id = a.game_id and g.status = 'voting'
    where not exists (select from public.votes v where v.game_id = a.game_id)
"""
PHASES = """
    insert into floor.phases (deadline)
    select clock_timestamp() + make_interval(secs => %(settle)s + %(spread)s * i::float8 / %(count)s)
    from generate_series(1, %(count)s) i
"""
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
# Identities are handed out before commits: an end with a smaller id may show up a little later.
OVERLAP = 1500


@dataclass
class Measured:
    """One turn: lateness in ms as the observer saw it."""

    side: str
    scenario: str
    due: int
    seen: int
    early: int
    twice: int
    latenesses_ms: list[float]

    def at(self, share: float) -> float:
        values = sorted(self.latenesses_ms)
        return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def observe(url: str, side: str, count: int, seconds: float, since: int) -> tuple[dict[str, float], int]:
    """Ends by name, with the lateness at which each was first seen; and how many were seen under two ids."""
    first: dict[str, float] = {}
    ids: dict[int, str] = {}
    until = time.monotonic() + seconds
    top = since
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < until and len(first) < count:
            for number, what, late in connection.execute(
                SEEN[side], [max(since, top - OVERLAP)], prepare=True
            ):
                ids.setdefault(number, what)
                first.setdefault(what, late)
                top = max(top, number)
            time.sleep(0.001)
    return first, len(ids) - len(first)


@contextmanager
def shifts(url: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two timer shifts, each a process."""
    env = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
    command = [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift", "timer"]
    running = [subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) for _ in range(2)]
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                row = connection.execute("select count(*) from orchestration.shifts where ended_at is null")
                if row.fetchone() == (2,):
                    break
                time.sleep(0.05)
            else:
                raise SystemExit("the timer shifts did not start")
        yield running
    finally:
        for one in running:
            one.send_signal(signal.SIGINT)
        for one in running:
            one.wait(10)


def turn(url: str, side: str, scenario: str, count: int, spread: float) -> Measured:
    """One side makes `count` deadlines over `spread` seconds; the other side rests."""
    values = {"settle": SETTLE, "spread": spread, "count": count}
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(LAST[side]).fetchone()
        since = row[0] if row else 0
        connection.execute(PHASES if side == "floor" else GAMES, values)
        if side == "ours":
            connection.execute(VOTES)
            connection.execute("analyze public.games, orchestration.live_games")
    seconds = SETTLE + spread + 5
    if side == "floor":
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.floor", url, str(seconds)])
        first, twice = observe(url, side, count, seconds, since)
        process.wait(seconds + 5)
    else:
        first, twice = observe(url, side, count, seconds, since)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "update public.games set status = 'cancelled' where status in ('drawing', 'voting')"
            )
    late = list(first.values())
    return Measured(side, scenario, count, len(first), sum(1 for one in late if one < 0), twice, late)


def report(results: list[Measured]) -> str:
    """A Markdown table, a row per scenario and side, with the ratio to the floor."""
    lines = [
        "| scenario | side | seen / due | early | twice | p50 ms | p99 ms | max ms | p50, p99 / floor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for scenario in dict.fromkeys(one.scenario for one in results):
        floor: Measured | None = None
        for side in ("floor", "ours"):
            turns = [one for one in results if one.scenario == scenario and one.side == side]
            whole = Measured(side, scenario, 0, 0, 0, 0, [])
            for one in turns:
                whole.due += one.due
                whole.seen += one.seen
                whole.early += one.early
                whole.twice += one.twice
                whole.latenesses_ms += one.latenesses_ms
            floor = whole if side == "floor" else floor
            ratio = (
                "1"
                if side == "floor" or floor is None
                else (f"{whole.at(0.5) / floor.at(0.5):.2f}, {whole.at(0.99) / floor.at(0.99):.2f}")
            )
            largest = max(whole.latenesses_ms, default=0)
            lines.append(
                f"| {scenario} | {side} | {whole.seen} / {whole.due} | {whole.early} | {whole.twice} "
                f"| {whole.at(0.5):.1f} | {whole.at(0.99):.1f} | {largest:.1f} | {ratio} |"
            )
    return "\n".join(lines)


def machine() -> str:
    python = platform.python_version()
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {python}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one short turn each")
    parser.add_argument("--keep", type=Path, help="write every lateness to this JSON file")
    options = parser.parse_args()
    seconds, turns = (8.0, 1) if options.quick else (30.0, 2)
    results: list[Measured] = []
    with (
        tempfile.TemporaryDirectory(prefix="sketchy-bench-") as home,
        EmbeddedPostgres(Path(home)) as postgres,
    ):
        url = postgres.owner_url()
        application.install(url)
        migrate_up(url, told=lambda _: None)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(FLOOR_SCHEMA)
            for statement in PEOPLE.split(";"):
                connection.execute(statement)
        with shifts(url):
            for _ in range(turns):
                for side in ("floor", "ours"):
                    name = f"{RATE}/s over {seconds:.0f} s, {int(RATE * seconds):,} live"
                    results.append(turn(url, side, name, int(RATE * seconds), seconds))
                    results.append(turn(url, side, "1,000 at once", 1000, 0.0))
                    print(f"# {side}: {results[-2].at(0.5):.1f} / {results[-2].at(0.99):.1f} ms", flush=True)
    print(f"\n{machine()}, PostgreSQL {postgres.version}, fsync on\n")
    print(report(results))
    if options.keep:
        options.keep.write_text(json.dumps([asdict(one) for one in results]))


if __name__ == "__main__":
    main()
