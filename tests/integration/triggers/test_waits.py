"""Somebody holds locks on our tables, or time is short: the application's statements go on all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest

from tests.integration.sweep.scene import Connection, Scene
from tests.integration.triggers.statements import Battery

TABLES = [
    "flags",
    "enrolments",
    "live_games",
    "transitions",
    "outbox",
    "set_aside",
    "operator_actions",
]
A_WAIT = 0.05
AT_MOST = 0.6
"""A statement may set off several triggers, each of which waits once; and the machine may be busy."""


@contextmanager
def locked(scene: Scene, *tables: str) -> Iterator[None]:
    """An ACCESS EXCLUSIVE lock on tables of ours, held by another session."""
    with scene.another(scene.one("select current_user")) as holder:
        for table in tables:
            holder.execute(f"lock table orchestration.{table} in access exclusive mode")
        yield
        holder.rollback()


@pytest.fixture
def player(scene: Scene) -> Iterator[Connection]:
    """A session of the application, every new game enrolled."""
    scene.flag("enrolment", value=100)
    with scene.another(autocommit=True) as conn:
        yield conn


@pytest.mark.parametrize("table", TABLES)
def test_a_locked_table_costs_a_bounded_wait(scene: Scene, player: Connection, table: str) -> None:
    battery = Battery(player, scene.users(3))
    battery.begin()
    with locked(scene, table):
        battery.play()
        battery.end()
    assert scene.phase(battery.game) == "completed"
    assert battery.worst[0] < AT_MOST
    touched = table not in ("set_aside", "operator_actions")
    assert bool(scene.failures()) is touched
    assert {sqlstate for _, sqlstate, _ in scene.failures()} <= {"55P03"}


def test_locked_tables_and_nowhere_to_say_so(scene: Scene, player: Connection) -> None:
    battery = Battery(player, scene.users(3))
    battery.begin()
    with locked(scene, "outbox", "trigger_failures"):
        battery.play()
        battery.end()
    assert battery.worst[0] < AT_MOST
    assert scene.failures() == []


def test_a_vote_while_the_outbox_is_locked(scene: Scene, player: Connection) -> None:
    game = scene.game("voting", due_in=30, drawings=2)
    first, second = game.users
    with locked(scene, "outbox"):
        began = time.perf_counter()
        player.execute(
            "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)",
            [game.id, first, game.drawings[second]],
        )
        took = time.perf_counter() - began
    assert A_WAIT * 0.9 < took < AT_MOST
    assert scene.failures() == [("orchestration_inserted", "55P03", [game.id])]
    assert scene.one("select count(*) from public.votes where game_id = %s", game.id) == 1
    assert "vote_cast" not in scene.events(game.id)


@pytest.mark.parametrize("tables", [["outbox"], ["flags"], ["enrolments"], ["outbox", "trigger_failures"]])
def test_a_statement_timeout_shorter_than_our_patience(
    scene: Scene, player: Connection, tables: list[str]
) -> None:
    game = scene.game("voting", due_in=30, drawings=2)
    first, second = game.users
    player.execute("set statement_timeout = '60ms'")
    with locked(scene, *tables):
        # On a busy machine 60 ms may be short for the vote itself; with an unbounded wait it would never do.
        for _ in range(10):
            with suppress(psycopg.errors.QueryCanceled):
                vote(player, game.id, first, game.drawings[second])
                break
    assert scene.one("select count(*) from public.votes where game_id = %s", game.id) == 1


def vote(conn: Connection, game: str, voter: str, drawing: str) -> None:
    conn.execute(
        "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)",
        [game, voter, drawing],
    )


def test_the_applications_own_time_outs_stay_as_they_are(scene: Scene, player: Connection) -> None:
    game = scene.game("voting", due_in=30, drawings=2)
    first, second = game.users
    player.execute("set lock_timeout = '7s'")
    player.execute("set statement_timeout = '120ms'")
    with player.transaction(), locked(scene, "outbox"):
        vote(player, game.id, first, game.drawings[second])
        assert player.execute("show lock_timeout").fetchone() == ("7s",)
    assert player.execute("show lock_timeout").fetchone() == ("7s",)
    assert player.execute("show search_path").fetchone() == ('"$user", public',)


def test_a_lock_of_the_applications_own_ends_its_statement_as_ever(scene: Scene, player: Connection) -> None:
    game = scene.game("voting", due_in=30, drawings=2)
    first, second = game.users
    player.execute("set lock_timeout = '30ms'")
    with scene.another() as holder:
        holder.execute("select from public.submissions where game_id = %s for update", [game.id])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            vote(player, game.id, first, game.drawings[second])
    vote(player, game.id, first, game.drawings[second])
    assert scene.events(game.id)[-1] == "vote_cast"


def test_a_cancelled_statement_leaves_nothing_behind(scene: Scene, player: Connection) -> None:
    game = scene.game("voting", due_in=30, drawings=2)
    first, second = game.users
    with scene.another() as holder:
        holder.execute("select from public.submissions where game_id = %s for update", [game.id])
        player.execute("set statement_timeout = '50ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            vote(player, game.id, first, game.drawings[second])
    assert "vote_cast" not in scene.events(game.id)
    assert scene.failures() == []
