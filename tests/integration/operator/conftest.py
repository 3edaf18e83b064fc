"""Enrolled games to act on, through plain SQL as the application would make them."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest

Game = Callable[[], UUID]


@pytest.fixture
def game(connection: psycopg.Connection) -> Game:
    """Makes an enrolled game in briefing with two players."""
    connection.execute("select orchestration.set_flag('enrolment', 'test', 'test', null, 100)")

    def make() -> UUID:
        row = connection.execute("insert into public.games (prompt) values ('a cat') returning id").fetchone()
        assert row is not None
        connection.execute(
            """with people as (insert into auth.users (id) select gen_random_uuid() from generate_series(1, 2)
                               returning id),
                    named as (insert into public.users (id, email, username)
                              select id, id || '@test.invalid', left(id::text, 20) from people returning id)
               insert into public.game_participants (game_id, user_id) select %s, id from named""",
            [row[0]],
        )
        connection.execute("select public.transition_game_status(%s, 'briefing')", [row[0]])
        return UUID(str(row[0]))

    return make
