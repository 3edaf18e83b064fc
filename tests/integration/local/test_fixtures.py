"""The fixtures everybody relies on."""

from __future__ import annotations

import psycopg


def test_an_empty_database_belongs_to_a_role_that_is_no_superuser(empty_database: str) -> None:
    with psycopg.connect(empty_database) as conn:
        row = conn.execute(
            "select rolsuper, rolcreaterole, rolcreatedb, rolbypassrls,"
            " (select nspowner::regrole::text = current_user from pg_namespace where nspname = 'public'),"
            " (select datdba::regrole::text = current_user from pg_database"
            "  where datname = current_database())"
            " from pg_roles where rolname = current_user"
        ).fetchone()
    assert row == (False, True, True, False, True, True)


def test_a_database_has_the_applications_tables_and_ours(connection: psycopg.Connection) -> None:
    row = connection.execute(
        "select to_regclass('public.games') is not null, to_regclass('orchestration.live_games') is not null"
    ).fetchone()
    assert row == (True, True)
