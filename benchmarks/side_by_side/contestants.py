"""Who takes part: how each is installed, given its work, and run, with the best settings we know of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import crowd
from benchmarks.side_by_side.tools import PEERS, Tools
from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application

SCHEMA = """
    create schema bench;
    create table bench.games (id uuid primary key default gen_random_uuid(), deadline timestamptz not null,
                              status text not null default 'drawing', ended_at timestamptz);
    create index on bench.games (deadline) where ended_at is null;
    create table bench.ends (id bigint generated always as identity primary key, game_id uuid not null,
                             deadline timestamptz not null);
    create table bench.events (id bigint generated always as identity primary key, message jsonb not null);
    create function bench.end_phase(game uuid) returns jsonb language sql begin atomic
      with ended as (
        update bench.games set status = 'voting', ended_at = clock_timestamp()
        where id = game and ended_at is null returning id, deadline
      ), recorded as (insert into bench.ends (game_id, deadline) select id, deadline from ended)
      select jsonb_build_object('type', 'phase_changed', 'gameId', game, 'eventId', game);
    end;
"""
"""The least a game and its record can be; we and the legacy handler have the application's tables."""


@dataclass(frozen=True)
class Contestant:
    """One system with one set of settings.

    Attributes:
        settings: what was set, for the report; "defaults" where nothing was.
        commands: its worker processes, as arguments; at a kill one more of each of `doubled` runs.
        schedule: SQL that makes a job of each waiting game in bench.games; None where the game's row is all.
        chatter: SQL that makes a job of one event, given as the text %(message)s; None where it has none.
        kind: whose tables it works on: bench, ours, or legacy (the application's, nobody enrolled).
        slow: cannot hold a steady rate at all; it meets fewer games.
        told: hears of each chatter event, once committed, through its standard input.
    """

    name: str
    settings: str
    commands: tuple[tuple[str, ...], ...]
    install: tuple[str, ...] | None = None
    schedule: str | None = None
    chatter: str | None = None
    kind: str = "bench"
    tuned: bool = True
    slow: bool = False
    told: bool = False

    @property
    def title(self) -> str:
        """As it stands in the report."""
        return f"{self.name}, {self.settings}"


_OURS = (sys.executable, "-m", "sketchy_orchestration.cli.main", "shift")
_PGQUEUER = (
    "insert into pgqueuer (priority, entrypoint, payload, execute_after, status)"
    " select 0, 'end_phase', convert_to(id::text, 'UTF8'), deadline, 'queued'"
    " from bench.games where ended_at is null",
    "insert into pgqueuer (priority, entrypoint, payload, execute_after, status)"
    " values (0, 'chatter', convert_to(%(message)s, 'UTF8'), now(), 'queued')",
)
_PROCRASTINATE = (
    "select procrastinate_defer_jobs_v1(array_agg(row('default', 'end_phase', 0, null, null,"
    " jsonb_build_object('game', id), deadline)::procrastinate_job_to_defer_v1))"
    " from bench.games where ended_at is null",
    "select procrastinate_defer_jobs_v1(array[row('default', 'chatter', 0, null, null,"
    " %(message)s::jsonb, null)::procrastinate_job_to_defer_v1])",
)
_GRAPHILE = (
    "select count(*) from graphile_worker.add_jobs(array("
    "select row('end_phase', json_build_object('game', id), null, deadline, null, null, null, null)"
    "::graphile_worker.job_spec from bench.games where ended_at is null))",
    "select graphile_worker.add_job('chatter', %(message)s::json)",
)
# As its own insert has them: the queue's heartbeats, and the notification where the queue wants one.
_PG_BOSS = (
    "insert into pgboss.job (name, data, start_after, heartbeat_seconds)"
    " select q.name, jsonb_build_object('game', g.id), g.deadline, q.heartbeat_seconds"
    " from bench.games g, pgboss.queue q where g.ended_at is null and q.name = 'end_phase'",
    "with added as (insert into pgboss.job (name, data, heartbeat_seconds)"
    " select name, %(message)s::jsonb, heartbeat_seconds from pgboss.queue where name = 'chatter'"
    " returning id) select pg_notify('pgboss_' || left(encode(sha224('pgboss'), 'hex'), 24), 'chatter')"
    " from added, pgboss.queue q where q.name = 'chatter' and q.notify",
)


def contestants(tools: Tools) -> list[Contestant]:
    """Everybody; floor and ours first."""

    def python(script: str) -> tuple[str, ...]:
        return (tools.python, str(PEERS / f"{script}.py"))

    def node(script: str) -> tuple[str, ...]:
        return (tools.node, str(tools.scripts / f"{script}.mjs"))

    def peer(
        name: str, settings: str, command: tuple[str, ...], sql: tuple[str, str], *, tuned: bool = True
    ) -> Contestant:
        return Contestant(
            name,
            settings,
            ((*command, "work"),),
            install=(*command, "install"),
            schedule=sql[0],
            chatter=sql[1],
            tuned=tuned,
        )

    graphile, boss = node("graphile_worker"), node("pg_boss")
    pgqueuer, procrastinate = python("pgqueuer_worker"), python("procrastinate_worker")
    here = (sys.executable, "-m")
    return [
        Contestant(
            "floor",
            "a bare loop",
            ((*here, "benchmarks.side_by_side.floor"),),
            chatter="insert into bench.events (message) values (%(message)s::jsonb)",
            told=True,
        ),
        Contestant(
            "ours",
            "defaults: two timer shifts, two fan-out shifts",
            ((*_OURS, "timer"), (*_OURS, "fanout"), (*_OURS, "timer"), (*_OURS, "fanout")),
            kind="ours",
        ),
        peer("graphile-worker", "poll 10 ms, local queue 500, 24 jobs at once", graphile, _GRAPHILE),
        peer("PgQueuer", "asyncpg, uvloop, look every 10 ms, batch 50, heartbeat 5 s", pgqueuer, _PGQUEUER),
        peer(
            "procrastinate",
            "poll 10 ms, 16 at once, stalled jobs again after 3 s",
            procrastinate,
            _PROCRASTINATE,
        ),
        peer(
            "pg-boss",
            "ten workers, poll 0.5 s each, batch 50, notify, burst, supervised every 1 s",
            boss,
            _PG_BOSS,
        ),
        peer("graphile-worker", "defaults", graphile, _GRAPHILE, tuned=False),
        peer("PgQueuer", "defaults", pgqueuer, _PGQUEUER, tuned=False),
        peer("procrastinate", "defaults", procrastinate, _PROCRASTINATE, tuned=False),
        peer("pg-boss", "defaults", boss, _PG_BOSS, tuned=False),
        Contestant(
            "legacy handler",
            "every 10 s, 50 games, one at a time",
            ((*here, "benchmarks.side_by_side.legacy"),),
            kind="legacy",
            slow=True,
        ),
        Contestant(
            "a Dagster run per sweep",
            "one after the other",
            ((*here, "benchmarks.side_by_side.dagster_runs"),),
            kind="ours",
            slow=True,
        ),
    ]


def install(
    contestant: Contestant, url: str, superuser_url: str, env: dict[str, str], cwd: Path, resting: int
) -> None:
    """Its tables and the application's, or the least of them, with `resting` games whose deadlines are far.

    Raises:
        subprocess.CalledProcessError: the peer's own installer failed.
    """
    if contestant.kind == "bench":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA)
            connection.execute(
                "insert into bench.games (deadline)"
                " select now() + interval '1 hour' from generate_series(1, %s)",
                [resting],
            )
    else:
        application.install(url)
        migrate_up(url, told=lambda _: None)
        crowd.gather(superuser_url, resting, resting)
    if contestant.install is not None:
        # Their jobs are made with those of the first deal.
        subprocess.run(contestant.install, env=env, cwd=cwd, check=True)


def deal(
    contestant: Contestant, url: str, superuser_url: str, count: int, *, first: float, spread: float
) -> None:
    """Give it `count` games whose deadlines begin in `first` seconds and lie over `spread` seconds.

    The deadlines are fixed before the jobs are made of them; the referee makes sure that all was in time.
    """
    if contestant.kind != "bench":
        crowd.deal(superuser_url, count, first=first, spread=spread)
        if contestant.kind == "legacy":
            with psycopg.connect(superuser_url, autocommit=True) as connection:
                connection.execute("update orchestration.enrolments set handler = 'legacy'")
                connection.execute("delete from orchestration.live_games")
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "insert into bench.games (deadline)"
            " select clock_timestamp()"
            " + make_interval(secs => %(first)s + %(spread)s * i::float8 / %(count)s)"
            " from generate_series(1, %(count)s) i",
            {"first": first, "spread": spread, "count": count},
        )
        if contestant.schedule:
            connection.execute(contestant.schedule.encode())
        connection.execute("analyze")


GAMES = {
    "bench": """select id, extract(epoch from deadline)::float8 from bench.games
                where ended_at is null and deadline < now() + interval '10 min'""",
    "ours": """select l.game_id, extract(epoch from l.deadline)::float8 from orchestration.live_games l
               join public.games g on g.id = l.game_id where g.round_duration = 300""",
    "legacy": """select id, extract(epoch from phase_expires_at)::float8 from public.games
                 where round_duration = 300 and status in ('briefing', 'voting')""",
}
"""What was dealt: games with their deadlines in seconds since 1970, on the database's clock."""

ENDS: dict[str, str] = {
    "bench": """select id, game_id, extract(epoch from clock_timestamp() - deadline)::float8 * 1000
                from bench.ends where id > %s order by id""",
    "ours": """select id, game_id, extract(epoch from clock_timestamp() - deadline)::float8 * 1000
               from orchestration.transitions where id > %s and cause = 'timer' order by id""",
}
"""Ends after an id, with their lateness in ms at the moment of looking; of the legacy handler only what is
heard is measured, for its record carries no such id."""


def environment(contestant: Contestant, url: str, origin: str) -> dict[str, str]:
    """What its processes find in theirs; the password is on no command line."""
    return {
        **os.environ,
        "BENCH_URL": url,
        "BENCH_ORIGIN": origin,
        "BENCH_TUNED": "1" if contestant.tuned else "0",
        "DATABASE_URL": url,
        "PUBNUB_ORIGIN": origin,
        "PUBNUB_PUBLISH_KEY": "pub-c-local",
        "PUBNUB_SUBSCRIBE_KEY": "sub-c-local",
        "PUBNUB_SSL": "false",
        "LOG_LEVEL": "WARNING",
    }
