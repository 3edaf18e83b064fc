"""The stand-in behaves as the application does, its faults included."""

from __future__ import annotations

import json
from typing import Any, get_args
from uuid import uuid4

import psycopg
import pytest

from sketchy_orchestration.local.application import Shape, install

SHAPES: tuple[Shape, ...] = get_args(Shape)


class App:
    """A database with the application, and two users in one waiting game."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        self.game = str(uuid4())
        self.users = [str(uuid4()), str(uuid4())]
        for user in self.users:
            conn.execute("insert into auth.users (id, email) values (%s, %s)", [user, user])
            conn.execute(
                "insert into public.users (id, email, username) values (%s, %s, %s)", [user, user, user]
            )
        conn.execute(
            "insert into public.games (id, prompt, created_by, created_at)"
            " values (%s, 'A cat', %s, now() - interval '1 hour')",
            [self.game, self.users[0]],
        )
        for user in self.users:
            conn.execute(
                "insert into public.game_participants (game_id, user_id) values (%s, %s)", [self.game, user]
            )

    def one(self, query: str, *values: object) -> Any:
        row = self.conn.execute(query, values).fetchone()
        return row[0] if row else None

    def move(self, status: str) -> None:
        self.conn.execute("delete from public.game_transition_log")
        self.conn.execute("select public.transition_game_status(%s, %s)", [self.game, status])

    def draw(self, user: str) -> str:
        drawing = str(uuid4())
        self.conn.execute(
            "insert into public.submissions (id, game_id, user_id, drawing_data) values (%s, %s, %s, '{}')",
            [drawing, self.game, user],
        )
        return drawing

    def vote(self, voter: str, drawing: str) -> None:
        self.conn.execute(
            "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)",
            [self.game, voter, drawing],
        )


@pytest.fixture(params=SHAPES)
def app(request: pytest.FixtureRequest, empty_database: str) -> Any:
    install(empty_database, request.param)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        yield App(conn)


def test_players_are_counted(app: App) -> None:
    assert app.one("select current_players from public.games") == 2
    app.conn.execute("update public.game_participants set left_at = now() where user_id = %s", [app.users[0]])
    assert app.one("select current_players from public.games") == 1
    app.conn.execute("delete from public.game_participants")
    assert app.one("select current_players from public.games") == 0


def test_a_game_is_played_through_and_won(app: App) -> None:
    first, second = app.users
    for status in ("briefing", "drawing"):
        app.move(status)
    mine, yours = app.draw(first), app.draw(second)
    app.move("voting")
    app.vote(second, mine)
    app.move("completed")
    assert str(app.one("select winner_id from public.games")) == first
    assert app.one("select placement from public.game_participants where user_id = %s", second) == 2
    assert app.one("select vote_count from public.submissions where id = %s", yours) == 0
    assert app.one("select completed_at >= voting_started_at from public.games") is True


def test_nobody_votes_for_an_own_drawing(app: App) -> None:
    drawing = app.draw(app.users[0])
    with pytest.raises(psycopg.errors.CheckViolation, match="own submission"):
        app.vote(app.users[0], drawing)


def test_impossible_moves_are_refused(app: App) -> None:
    with pytest.raises(psycopg.Error, match="Invalid status transition from waiting to voting"):
        app.move("voting")
    app.move("briefing")
    app.move("briefing")
    assert app.one("select status::text from public.games") == "briefing"


def test_the_timer_is_told_in_whole_seconds(app: App) -> None:
    app.move("briefing")
    row = app.conn.execute(
        "select time_remaining, phase_duration, phase::text from public.get_game_timer_state(%s)", [app.game]
    ).fetchone()
    assert row == (20, 20, "briefing")


def test_lobbies_past_their_time_are_cancelled(app: App) -> None:
    app.conn.execute("update public.games set expires_at = now() - interval '1 s'")
    assert app.one("select public.cleanup_expired_games()") == 1
    assert app.one("select status::text from public.games") == "cancelled"


def test_only_phase_changes_reach_the_right_game_by_the_old_broadcasts(app: App) -> None:
    app.move("briefing")
    drawing = app.draw(app.users[0])
    app.conn.execute(
        "delete from public.legacy_broadcasts where body ->> 'type' not in ('phase_changed', 'vote_cast')"
    )
    app.vote(app.users[1], drawing)
    told = app.conn.execute("select body from public.legacy_broadcasts order by id").fetchall()
    changes = [body for (body,) in told if body["type"] == "phase_changed"]
    assert changes[-1]["gameId"] == app.game
    assert changes[-1]["data"]["newPhase"] == "briefing"
    assert not any(body["type"] == "vote_cast" for (body,) in told), "it reads a column votes do not have"


def test_the_caller_is_known_by_the_claims(app: App) -> None:
    user = app.users[0]
    with app.conn.transaction():
        app.conn.execute("select set_config('role', 'authenticated', true)")
        claims = json.dumps({"sub": user, "role": "authenticated"})
        app.conn.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        assert str(app.one("select auth.uid()")) == user
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.conn.transaction():
            app.draw(app.users[1])
        app.draw(user)
    with app.conn.transaction():
        app.conn.execute("select set_config('request.jwt.claim.sub', %s, true)", [user])
        assert str(app.one("select auth.uid()")) == user
