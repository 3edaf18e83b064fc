"""Row level security, the catalogue lint, and the application under policies of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from sketchy_orchestration.database import row_security
from sketchy_orchestration.database.migrate import migrate_down, migrate_up, verify
from sketchy_orchestration.database.migration_locks import MigrationBlockedError
from sketchy_orchestration.database.security import lint
from sketchy_orchestration.local import application
from sketchy_orchestration.local.application import Shape
from sketchy_orchestration.local.postgres import RunningPostgres
from tests.integration.gateway.serving import World
from tests.integration.migrations.schema_dump import schema_dump


def test_a_fresh_installation_breaks_no_rule(connection: psycopg.Connection) -> None:
    assert lint(connection) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "alter function orchestration.accept_event reset search_path",
            "function orchestration.accept_event(uuid,text,text,text,jsonb,text)"
            " runs as its owner without an empty search_path",
        ),
        (
            "grant execute on function orchestration.timer_pass(text) to public",
            "function orchestration.timer_pass(text) may be called by public",
        ),
        (
            "grant execute on function orchestration.game_timer(uuid, uuid) to authenticated",
            "function orchestration.game_timer(uuid,uuid) may be called by authenticated",
        ),
        (
            "alter table orchestration.outbox disable row level security",
            "table orchestration.outbox has no row level security",
        ),
        (
            "create table orchestration.forgotten (id int)",
            "table orchestration.forgotten has no row level security",
        ),
        ("grant select on orchestration.outbox to anon", "orchestration.outbox grants SELECT to anon"),
        (
            "grant truncate on orchestration.outbox to sketchy_relay",
            "orchestration.outbox grants TRUNCATE to sketchy_relay",
        ),
        (
            "grant create on schema orchestration to sketchy_operator",
            "sketchy_operator may create objects in schema orchestration",
        ),
    ],
)
def test_the_lint_finds(connection: psycopg.Connection, statement: str, said: str) -> None:
    connection.execute(statement)  # type: ignore[arg-type]  # only texts of this file
    assert lint(connection) == [said]


def test_later_tables_are_secured_by_one_call(connection: psycopg.Connection) -> None:
    connection.execute("create table orchestration.later (id int primary key, told boolean)")
    connection.execute("grant select, insert on orchestration.later to sketchy_relay")
    connection.execute("grant update (told) on orchestration.later to sketchy_relay")
    connection.execute("select orchestration.secure_tables()")
    connection.execute("select orchestration.secure_tables()")
    assert lint(connection) == []
    connection.execute("set role sketchy_relay")
    connection.execute("insert into orchestration.later values (1, false)")
    connection.execute("update orchestration.later set told = true")
    assert connection.execute("select told from orchestration.later").fetchall() == [(True,)]


def test_a_grant_by_mistake_opens_nothing(connection: psycopg.Connection) -> None:
    connection.execute(
        "insert into orchestration.operator_actions (operator, action, reason, request_id)"
        " values ('ann', 'pause', 'test', 'r')"
    )
    connection.execute("grant select on orchestration.operator_actions to anon")
    connection.execute("set role anon")
    assert connection.execute("select * from orchestration.operator_actions").fetchall() == []


@contextmanager
def acting(conn: psycopg.Connection[Any], user: str | None, role: str = "authenticated") -> Iterator[None]:
    """As PostgREST acts for a caller."""
    with conn.transaction():
        conn.execute(
            "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
            [role, json.dumps({"role": role, **({"sub": user} if user else {})})],
        )
        yield


def seen(
    conn: psycopg.Connection[Any], user: str | None, table: str, role: str = "authenticated"
) -> set[str]:
    column = "id" if table == "games" else "game_id"
    with acting(conn, user, role):
        rows = conn.execute(f"select {column}::text from public.{table}").fetchall()  # type: ignore[arg-type]
    return {row[0] for row in rows}


def test_off_unless_switched_on(connection: psycopg.Connection) -> None:
    assert row_security.status(connection) == [("game_participants", False, False), ("games", False, False)]


def test_players_see_their_games_and_open_lobbies(connection: psycopg.Connection) -> None:
    world = World(connection)
    ann, bob = world.user(), world.user()
    lobby = world.game(bob)
    played = world.game(ann, bob, status="drawing", seconds_left=60)
    private = world.game(bob, status="drawing", seconds_left=60)
    assert row_security.switch(connection, True) is True
    assert row_security.switch(connection, True) is False
    for table in ("games", "game_participants"):
        assert seen(connection, ann, table) == {lobby, played}
        assert seen(connection, bob, table) == {lobby, played, private}
        assert seen(connection, None, table, "anon") == set()
        assert seen(connection, None, table, "service_role") == {lobby, played, private}
    # A game one has left is still one's own.
    connection.execute("update public.game_participants set left_at = now() where user_id = %s", [ann])
    assert seen(connection, ann, "games") == {lobby, played}
    assert row_security.switch(connection, False) is True
    assert seen(connection, ann, "games") == {lobby, played, private}


def test_a_game_is_played_through_under_the_policies(connection: psycopg.Connection) -> None:
    row_security.switch(connection, True)
    world = World(connection)
    world.enrol_all()
    ann, bob = world.user(), world.user()
    with acting(connection, ann):
        connection.execute(
            "insert into public.games (id, prompt, created_by) values (gen_random_uuid(), 'x', %s)", [ann]
        )
        row = connection.execute("select id from public.games").fetchone()
        assert row is not None
        game = row[0]
        connection.execute(
            "insert into public.game_participants (game_id, user_id) values (%s, %s)", [game, ann]
        )
    with acting(connection, bob):
        assert connection.execute("select count(*) from public.games where id = %s", [game]).fetchone() == (
            1,
        )
        connection.execute(
            "insert into public.game_participants (game_id, user_id) values (%s, %s)", [game, bob]
        )
        connection.execute(
            "update public.game_participants set is_ready = true where game_id = %s and user_id = %s",
            [game, bob],
        )
        # Nobody is made to join or leave by somebody else.
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(
                "insert into public.game_participants (game_id, user_id) values (%s, %s)",
                [game, ann],
            )
        gone = connection.execute(
            "update public.game_participants set left_at = now() where user_id = %s returning id", [ann]
        ).fetchall()
        assert gone == []
    with acting(connection, ann):
        connection.execute("select public.transition_game_status(%s, 'briefing')", [game])
    connection.execute(
        "update public.games set phase_expires_at = now() - interval '1 second' where id = %s", [game]
    )
    connection.execute("set role sketchy_gateway")
    swept = connection.execute("select processed, errors from orchestration.timer_pass('r')").fetchone()
    connection.execute("reset role")
    assert swept == (1, 0)
    with acting(connection, bob):
        connection.execute(
            "insert into public.submissions (game_id, user_id, drawing_data)"
            " select g.id, %s, '{}' from public.games g where g.id = %s and g.status = 'drawing'",
            [bob, game],
        )
    row = connection.execute(
        "select current_players, status::text from public.games where id = %s", [game]
    ).fetchone()
    assert row == (2, "drawing")
    types = {
        r[0] for r in connection.execute("select type from orchestration.outbox where game_id = %s", [game])
    }
    assert {"player_joined", "player_ready", "phase_changed", "drawing_submitted"} <= types
    row = connection.execute("select count(*) from orchestration.trigger_failures").fetchone()
    assert row == (0,)


@pytest.mark.parametrize("shape", ["current", "old"])
def test_switching_on_and_off_leaves_no_trace(
    postgres: RunningPostgres, empty_database: str, shape: Shape
) -> None:
    application.install(empty_database, shape)
    bare = schema_dump(postgres, empty_database)
    migrate_up(empty_database)
    before = schema_dump(postgres, empty_database)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        row_security.switch(conn, True)
        assert verify(empty_database) == []
        assert {enabled for _, enabled, _ in row_security.status(conn)} == {True}
        row_security.switch(conn, False)
    assert schema_dump(postgres, empty_database) == before
    with psycopg.connect(empty_database, autocommit=True) as conn:
        row_security.switch(conn, True)
    migrate_down(empty_database, 0)
    assert schema_dump(postgres, empty_database) == bare


def test_who_holds_the_tables_is_named(database_url: str, connection: psycopg.Connection) -> None:
    with psycopg.connect(database_url, application_name="a long report") as report:
        report.execute("lock table public.games in row exclusive mode")
        with pytest.raises(MigrationBlockedError, match="a long report"):
            row_security.switch(connection, True, patience=0.3)
        report.rollback()
    assert row_security.switch(connection, True, patience=5) is True


def test_switching_waits_for_nobody_long(database_url: str, connection: psycopg.Connection) -> None:
    waited: list[float] = []
    over = threading.Event()

    def play() -> None:
        import time

        with psycopg.connect(database_url, autocommit=True) as conn:
            while not over.is_set():
                began = time.perf_counter()
                conn.execute("update public.games set prompt = prompt where id = gen_random_uuid()")
                waited.append(time.perf_counter() - began)

    player = threading.Thread(target=play)
    player.start()
    try:
        for on in (True, False) * 5:
            assert row_security.switch(connection, on, patience=10) is True
    finally:
        over.set()
        player.join(10)
    assert waited
    assert max(waited) < 0.5
