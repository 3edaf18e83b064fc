"""What the application holds locked: nobody waits but the game concerned, and that one not for long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from sketchy_orchestration.local import processes
from tests.faults.timer.at_work import AtWork
from tests.faults.timer.table import Table
from tests.faults.timer.watching import Watching

pytestmark = [pytest.mark.fault]

Connection = psycopg.Connection[tuple[Any, ...]]

HELD = timedelta(seconds=2)
RELEASE_MS = 40


@contextmanager
def application(url: str) -> Iterator[Connection]:
    """A transaction of the application."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set role service_role")
        connection.autocommit = False
        yield connection


def now(connection: Connection) -> datetime:
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def transition(connection: Connection, game: UUID) -> tuple[Any, ...] | None:
    """(to, cause, deadline, at) of a game's last transition."""
    return connection.execute(
        """select to_phase, cause, deadline, at from orchestration.transitions
           where game_id = %s order by id desc limit 1""",
        [game],
    ).fetchone()


def wait_until_past(connection: Connection, moment: datetime) -> None:
    assert processes.wait_until(lambda: now(connection) > moment, seconds=30)


def test_a_game_locked_for_two_seconds(
    connection: Connection, database_url: str, table: Table, shifts: AtWork, watching: Watching
) -> None:
    locked = table.deal(1, first=1.2, spread=0)[0]
    games = table.deal(150, first=1.2, spread=2.5)
    with application(database_url) as session:
        began = now(session)
        session.execute("select from public.games where id = %s for update", [locked])
        wait_until_past(connection, began + HELD)
        assert transition(connection, locked) is None
        released = now(session)
        session.commit()
        table.wait_for([locked])
        moved = transition(connection, locked)
    assert moved is not None
    after = (moved[3] - released) / timedelta(milliseconds=1)
    table.wait_for(games)
    assert table.wrong() == []
    *others, _ = sorted(watching.latenesses_ms.values())  # the last is the locked one
    assert len(others) >= len(games)
    assert max(others) <= watching.bound_ms(100)
    assert after <= watching.bound_ms(RELEASE_MS)


def test_the_whole_table_locked_for_a_second(
    connection: Connection, database_url: str, table: Table, shifts: AtWork, watching: Watching
) -> None:
    games = table.deal(60, first=1.2, spread=0.5)
    with psycopg.connect(database_url) as session:
        session.execute("lock table public.games in access exclusive mode")
        wait_until_past(session, now(session) + timedelta(seconds=2))
        released = now(session)
        session.commit()
    table.wait_for(games)
    last = connection.execute("select max(at) from orchestration.transitions").fetchone()
    assert last is not None
    assert (last[0] - released) / timedelta(milliseconds=1) <= watching.bound_ms(300)
    assert table.wrong() == []


DRAWING = """
    with made as (
        insert into public.games (prompt, status, started_at, drawing_started_at, current_phase_duration,
                                  phase_expires_at, round_duration, voting_duration)
        values ('a cat', 'drawing', now(), now(), 60, clock_timestamp() + interval '1500 ms', 60, 30)
        returning id, phase_expires_at
    ), joined as (
        insert into public.game_participants (game_id, user_id)
        select made.id, u.id from made cross join public.users u
    )
    select id, phase_expires_at from made
"""
DRAW = "insert into public.submissions (game_id, user_id, drawing_data) values (%s, %s, '{}')"


def live(connection: Connection, game: UUID) -> tuple[Any, ...] | None:
    return connection.execute(
        "select phase, deadline, graced from orchestration.live_games where game_id = %s", [game]
    ).fetchone()


def test_a_drawing_in_an_open_transaction_at_the_deadline(
    connection: Connection, database_url: str, table: Table, shifts: AtWork, watching: Watching
) -> None:
    first, second = (row[0] for row in connection.execute("select id from public.users order by id"))
    row = connection.execute(DRAWING).fetchone()
    assert row is not None
    game, deadline = row
    connection.execute(DRAW, [game, first])
    with application(database_url) as session:
        session.execute(DRAW, [game, second])
        # Nobody but this transaction sees the drawing: the game has its grace period, and on time.
        graced = ("drawing", deadline + timedelta(seconds=10), True)
        assert processes.wait_until(lambda: live(connection, game) == graced, seconds=5)
        late = (now(connection) - deadline) / timedelta(milliseconds=1)
        session.commit()
    assert late <= watching.bound_ms(100)
    assert processes.wait_until(lambda: transition(connection, game) is not None, seconds=5)
    moved = transition(connection, game)
    assert moved is not None
    assert moved[:2] == ("voting", "all_submitted")


def test_a_drawing_in_an_open_transaction_when_grace_ends(
    connection: Connection, database_url: str, table: Table, shifts: AtWork, watching: Watching
) -> None:
    (user,) = connection.execute("select id from public.users order by id limit 1").fetchone() or (None,)
    connection.execute("select orchestration.set_flag('grace_period', 'test', 'test', false)")
    row = connection.execute(DRAWING).fetchone()
    assert row is not None
    game, deadline = row
    with application(database_url) as session:
        session.execute(DRAW, [game, user])
        assert processes.wait_until(lambda: transition(connection, game) is not None, seconds=5)
        moved = transition(connection, game)
        session.commit()
    assert moved is not None
    assert moved[:3] == ("voting", "timer", deadline)
    assert (moved[3] - deadline) / timedelta(milliseconds=1) <= watching.bound_ms(100)
    assert live(connection, game) == ("voting", deadline + timedelta(seconds=30), False)


def test_a_vote_in_an_open_transaction_when_voting_ends(
    connection: Connection, database_url: str, table: Table, shifts: AtWork, watching: Watching
) -> None:
    games = table.deal(20, first=1.5, spread=0.3)
    (game,) = connection.execute(
        "select id from public.games where status = 'voting' and id = any (%s)", [games]
    ).fetchone() or (None,)
    connection.execute("delete from public.votes where game_id = %s", [game])
    with application(database_url) as session:
        session.execute(
            """insert into public.votes (game_id, voter_id, submission_id)
               select a.game_id, a.user_id, b.id from public.submissions a
               join public.submissions b on b.game_id = a.game_id and b.user_id > a.user_id
               where a.game_id = %s""",
            [game],
        )
        # A vote counts itself in its drawing, whose row it holds until it commits: the results wait for it.
        table.wait_for(games, len(games) - 1)
        assert watching.worst_ms() <= watching.bound_ms(100)
        released = now(session)
        session.commit()
    table.wait_for(games)
    moved = transition(connection, game)
    assert moved is not None
    assert (moved[3] - released) / timedelta(milliseconds=1) <= watching.bound_ms(RELEASE_MS)
    assert connection.execute(
        "select vote_count, is_winner from public.submissions where game_id = %s order by vote_count", [game]
    ).fetchall() == [(0, False), (1, True)]
    assert table.wrong() == []
