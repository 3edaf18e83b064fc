"""The statements of the hot path on a million games: they read what is due, not what is there.

Most of them live inside functions, where EXPLAIN does not see them. So they are run, with the plans a shift
has (`force_generic_plan`), and the server's own counters of that transaction say which tables were read in
sequence and how many rows each statement touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest

from benchmarks.crowd import GAMES, gather
from sketchy_orchestration.database import timer
from sketchy_orchestration.database.queries import query
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.local.postgres.cluster import SUPERUSER
from tests.postgres_fixtures import _template

Connection = psycopg.Connection[tuple[Any, ...]]

pytestmark = [
    pytest.mark.xdist_group("plans"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        os.environ.get("SKETCHY_QUICK") == "1",
        reason=f"SKETCHY_QUICK=1: gathering {GAMES:,} games takes half a minute",
    ),
]

# Tables of a page or two, whatever the number of games; reading them in sequence is right.
SMALL = {"flags", "set_aside", "shifts", "lanes", "lane_progress", "circuit", "trigger_failures"}
FEW_ROWS = 100


@pytest.fixture(scope="module")
def superuser(postgres: RunningPostgres) -> Iterator[str]:
    """URL of a database with a million games, for the superuser."""
    name = f"test_{uuid4().hex[:16]}"
    postgres.create_database(name, template=_template(postgres))
    url = postgres.url(SUPERUSER, postgres.credentials.superuser, name)
    gather(url)
    yield url
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def crowded(postgres: RunningPostgres, superuser: str) -> str:
    """Its URL for the owner."""
    return postgres.owner_url(superuser.rpartition("/")[2])


@dataclass(frozen=True)
class Read:
    """What one transaction read of one table."""

    sequential_scans: int
    rows_in_sequence: int
    rows_by_index: int


@contextmanager
def transaction(url: str, role: str, before: str = "select") -> Iterator[Connection]:
    """A session with a shift's plans; what is done in it, and `before` by whoever connects, is undone."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set enable_seqscan = on")
        connection.execute("set plan_cache_mode = force_generic_plan")
        with connection.transaction(force_rollback=True):
            connection.execute(before.encode())
            connection.execute(psycopg.sql.SQL("set role {}").format(psycopg.sql.Identifier(role)))
            yield connection


def read_by(connection: Connection) -> dict[str, Read]:
    return {
        name: Read(scans, in_sequence or 0, by_index or 0)
        for name, scans, in_sequence, by_index in connection.execute(
            """select relname, seq_scan, seq_tup_read, idx_tup_fetch from pg_stat_xact_user_tables
               where schemaname in ('public', 'orchestration')"""
        )
    }


def by_index(connection: Connection, *, at_most: int) -> None:
    """Nothing large was read in sequence, and no more than so many rows by index in any one table."""
    read = read_by(connection)
    assert sum(one.rows_by_index for one in read.values()) > 0, "nothing was measured"
    for name, one in read.items():
        if name in SMALL:
            assert one.rows_in_sequence <= FEW_ROWS * max(1, one.sequential_scans), (name, one)
        else:
            assert one.rows_in_sequence == 0, (name, one)
        assert one.rows_by_index <= at_most, (name, one)


def make_due(url: str, count: int) -> None:
    """Let the deadlines of so many games in each phase pass, past all triggers."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select orchestration.set_flag('triggers', 'test', 'a test', false)")
        connection.execute(
            """with due as (
                   select game_id from (
                       select game_id, row_number() over (partition by phase order by deadline) as n
                       from orchestration.live_games) l where n <= %s
               ), ours as (
                   update orchestration.live_games l set deadline = now() - interval '10 ms'
                   from due where l.game_id = due.game_id
               )
               update public.games g
               set phase_expires_at = case when status <> 'waiting' then now() - interval '10 ms' end,
                   expires_at = now() - interval '10 ms'
               from due where g.id = due.game_id""",
            [count],
        )
        connection.execute("select orchestration.set_flag('triggers', 'test', 'a test', true)")


# What the planner believes: autovacuum has looked at the tables, or not yet, or when they were empty, which a
# plan may have been made for and kept. No belief may make it read all of a table.
_FORGET = """
    delete from pg_statistic;
    update pg_class set reltuples = {tuples}, relpages = {pages}, relallvisible = 0
    where relkind in ('r', 'p') and relnamespace in ('orchestration'::regnamespace, 'public'::regnamespace)
"""
BELIEFS = {
    "analysed": "select",
    "never analysed": _FORGET.format(tuples=-1, pages=0),
    "analysed when empty": _FORGET.format(tuples=0, pages=1),
    "indexes are dear": "set random_page_cost = 1000",
}


@pytest.mark.parametrize("belief", BELIEFS)
@pytest.mark.parametrize("window", [timedelta(seconds=5), None], ids=["window", "whole look"])
def test_a_sweep_with_nothing_due(superuser: str, window: timedelta | None, belief: str) -> None:
    with transaction(superuser, "sketchy_timer", BELIEFS[belief]) as connection:
        row = connection.execute("select pg_current_snapshot()::text").fetchone()
        assert row is not None
        seconds = None if window is None else window.total_seconds()
        swept = timer.sweep(connection, limit=500, window=seconds, look=window is None, seen=row[0])
        assert swept.moved == 0
        by_index(connection, at_most=FEW_ROWS)


def test_a_sweep_moves_what_is_due(crowded: str) -> None:
    make_due(crowded, 25)
    with transaction(crowded, "sketchy_timer") as connection:
        swept = timer.sweep(connection, limit=500, window=60.0)
        assert swept.moved + swept.extended == 100
        # Each game with its players, drawings and votes, in several statements and triggers.
        by_index(connection, at_most=100 * 30)


def test_a_sweep_after_an_outage_reads_no_more_than_it_moves(crowded: str) -> None:
    make_due(crowded, 2_500)
    with transaction(crowded, "sketchy_timer") as connection:
        swept = timer.sweep(connection, limit=100, window=60.0)
        assert swept.moved + swept.extended == 100
        by_index(connection, at_most=100 * 30)


def test_warming_up_touches_no_game(crowded: str) -> None:
    """Or it would fire the application's row triggers, and what they do elsewhere cannot be undone."""
    with transaction(crowded, "sketchy_timer") as connection:
        assert timer.warm_up(connection)
        (written,) = connection.execute(
            "select sum(n_tup_ins + n_tup_upd + n_tup_del)::int from pg_stat_xact_user_tables"
        ).fetchone() or (None,)
        assert written == 0
        for name, one in read_by(connection).items():
            assert name in SMALL or one.rows_in_sequence + one.rows_by_index == 0, (name, one)


LAST_DRAWINGS = "select * from orchestration.all_submitted_since(%s::pg_snapshot)"


@contextmanager
def seen_beside_another(url: str) -> Iterator[str]:
    """A snapshot taken while somebody is at work, as nearly always, if only in another database."""
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as later:
        other.execute("select pg_current_xact_id()")
        later.execute("select pg_current_xact_id()")
        row = later.execute("select s::text from pg_current_snapshot() s, pg_snapshot_xip(s)").fetchone()
        assert row is not None
        yield row[0]


@pytest.mark.parametrize("belief", BELIEFS)
def test_a_last_drawing_is_found_among_what_is_new(superuser: str, belief: str) -> None:
    with (
        seen_beside_another(superuser) as seen,
        transaction(superuser, "sketchy_timer", BELIEFS[belief]) as connection,
    ):
        connection.execute(LAST_DRAWINGS, [seen])
        read = read_by(connection)
        assert sum(one.rows_in_sequence for one in read.values()) == 0
        assert sum(one.rows_by_index for one in read.values()) <= FEW_ROWS


def test_a_plan_made_while_a_day_was_empty_reads_no_more_when_it_is_full(superuser: str) -> None:
    def read(connection: Connection) -> int:
        connection.execute(LAST_DRAWINGS, [seen])
        return sum(
            one.rows_by_index for name, one in read_by(connection).items() if name.startswith("outbox")
        )

    empty = "truncate orchestration.outbox; analyze orchestration.outbox"
    with (
        seen_beside_another(superuser) as seen,
        transaction(superuser, SUPERUSER, empty) as connection,
    ):
        before = read(connection)
        connection.execute(
            """insert into orchestration.outbox (game_id, lane, type, data, channels, request_id, txid)
               select game_id, 0, 'phase_changed', '{}', '{game-x}', 'r', '3'
               from orchestration.enrolments limit 10000"""
        )
        assert read(connection) - before <= FEW_ROWS


APPLICATION: dict[str, LiteralString] = {
    "a game begins": "update public.games set status = 'briefing' where id = %(waiting)s",
    "a player joins": """insert into public.game_participants (game_id, user_id)
        select %(waiting)s, u.id from public.users u
        where not exists (select from public.game_participants p
                          where p.game_id = %(waiting)s and p.user_id = u.id) limit 1""",
    "a player leaves": "update public.game_participants set left_at = now() where game_id = %(drawing)s",
    "a player draws": """insert into public.submissions (game_id, user_id, drawing_data)
        select game_id, user_id, '{}' from public.game_participants where game_id = %(drawing)s""",
    "a player votes": """update public.submissions set vote_count = vote_count where game_id = %(voting)s""",
    "a game is made": "insert into public.games (prompt) values ('a dog')",
    "a game is cancelled": "update public.games set status = 'cancelled' where id = %(drawing)s",
}


@pytest.mark.parametrize("what", APPLICATION)
def test_our_triggers_on_the_applications_statements(crowded: str, what: str) -> None:
    with psycopg.connect(crowded) as connection:
        games = dict(
            connection.execute(
                """select distinct on (phase) phase, game_id from orchestration.live_games
                   where deadline > now() + interval '1 minute' order by phase, deadline desc"""
            ).fetchall()
        )
    with transaction(crowded, "service_role") as connection:
        done = connection.execute(APPLICATION[what], games)
        assert done.rowcount > 0
        connection.execute("set constraints all immediate")
        read = read_by(connection)
        in_sequence = {name: one for name, one in read.items() if one.rows_in_sequence > FEW_ROWS * 20}
        assert in_sequence.keys() <= {"users"}  # the test's own choice of somebody who is not in the game
        assert all(one.rows_by_index <= 10 * FEW_ROWS for one in read.values()), read


def explained(connection: Connection, statement: LiteralString, values: dict[str, Any]) -> str:
    """The plan of a named query, for a client that passes values."""
    rows = psycopg.ClientCursor(connection).execute(b"explain " + statement.encode(), values).fetchall()
    return "\n".join(row[0] for row in rows)


NAMED: dict[str, dict[str, Any]] = {
    "timer.overdue": {"by": timedelta(seconds=2)},
    "shifts.beat": {
        "shift_id": uuid4(),
        "report": "{}",
        "hard_bound": timedelta(hours=24),
        "fresh": timedelta(seconds=3),
    },
    "supervision.overdue_games": {"by": timedelta(seconds=2), "limit": 1000},
}


@pytest.mark.parametrize("name", NAMED)
def test_named_queries_go_by_index(crowded: str, name: str) -> None:
    with transaction(crowded, "sketchy_operator") as connection:
        plan = explained(connection, query(name), NAMED[name])
    for table in ("games", "live_games", "outbox", "transitions", "enrolments"):
        assert f"Seq Scan on {table}" not in plan, plan
