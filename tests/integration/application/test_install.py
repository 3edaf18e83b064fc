"""The application's tables come to be, once, by whoever owns schema public."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import psycopg
import pytest
from psycopg import sql

from sketchy_orchestration.local.application import (
    TABLES,
    ApplicationMissingError,
    Shape,
    install,
    missing_tables,
)
from sketchy_orchestration.local.postgres import RunningPostgres

SHAPES: tuple[Shape, ...] = get_args(Shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_installs_once_as_an_ordinary_owner(empty_database: str, shape: Shape) -> None:
    with psycopg.connect(empty_database, autocommit=True) as conn:
        assert missing_tables(conn) == list(TABLES)
        assert install(empty_database, shape) is True
        assert missing_tables(conn) == []
        assert install(empty_database, shape) is False


@pytest.mark.parametrize("shape", SHAPES)
def test_the_three_roles_can_be_taken(empty_database: str, shape: Shape) -> None:
    install(empty_database, shape)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        for role in ("anon", "authenticated", "service_role"):
            conn.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
            assert conn.execute("select count(*) from public.games").fetchone() == (0,)
            conn.execute("reset role")


def test_many_installs_at_once_make_it_once(postgres: RunningPostgres, empty_database: str) -> None:
    other = f"test_{uuid.uuid4().hex[:16]}"
    url = postgres.create_database(other)
    try:
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(install, [empty_database, url, empty_database, url]))
    finally:
        postgres.drop_database(other)
    assert sorted(made) == [False, False, True, True]


def test_an_unknown_shape_is_refused(empty_database: str) -> None:
    with pytest.raises(ApplicationMissingError, match="current, old, in_database_sweep"):
        install(empty_database, "ancient")  # type: ignore[arg-type]


def test_half_an_application_is_refused_naming_what_is_missing(empty_database: str) -> None:
    install(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute("drop table public.votes")
    with pytest.raises(ApplicationMissingError, match=r"but not public\.votes"):
        install(empty_database)


@pytest.fixture
def powerless(empty_database: str) -> Iterator[str]:
    """URL of `empty_database` as a role that may create nothing there."""
    name = f"powerless_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(sql.SQL("create role {} login password 'none'").format(sql.Identifier(name)))
        yield psycopg.conninfo.make_conninfo(empty_database, user=name, password="none")
        conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def test_who_may_not_create_is_told_what_to_do(powerless: str) -> None:
    with pytest.raises(ApplicationMissingError) as caught:
        install(powerless)
    message = str(caught.value)
    assert "may not create them" in message
    assert "DATABASE_URL" in message
    assert "\n" not in message


def test_setup_test_data_may_be_called_twice(empty_database: str) -> None:
    install(empty_database)
    with psycopg.connect(empty_database) as conn:
        conn.execute("select public.setup_test_data()")
        conn.execute("select public.setup_test_data()")
        found = conn.execute("select current_status::text from public.find_expired_games()").fetchall()
    assert found == [("drawing",), ("voting",)]


def test_no_results_phase_unless_the_shape_uses_it(empty_database: str) -> None:
    install(empty_database, "in_database_sweep")
    with psycopg.connect(empty_database) as conn:
        conn.execute("select public.setup_test_data()")
        conn.execute("select public.monitor_game_timers_db()")
        statuses = conn.execute("select status::text from public.games order by id").fetchall()
    assert statuses == [("voting",), ("results",), ("briefing",)]
