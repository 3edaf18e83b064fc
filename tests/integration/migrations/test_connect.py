"""Each role's session, and what is said when there is none to be had."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from sketchy_orchestration.database.connect import (
    DatabaseRefusedError,
    Role,
    RoleMissingError,
    SessionsNeededError,
    connect,
    connect_async,
)
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.settings import Settings
from tests.integration.migrations.conftest import StartPooler

NARROW = [role for role in Role if role is not Role.owner]
WHO = "select current_user::text, current_setting('application_name')"


def settings(**urls: str) -> Settings:
    return Settings(_env_file=None, **urls)  # type: ignore[call-arg,arg-type]


@pytest.mark.parametrize("role", NARROW)
async def test_a_role_is_become(database_url: str, role: Role) -> None:
    with connect(settings(database_url=database_url), role) as conn:
        assert conn.execute(WHO).fetchone() == (f"sketchy_{role}", f"sketchy {role}")
        conn.execute("reset role")
        assert conn.execute(WHO).fetchone() == (f"sketchy_{role}", f"sketchy {role}")
    async with await connect_async(settings(database_url=database_url), role, application_name="x") as again:
        assert await (await again.execute(WHO)).fetchone() == (f"sketchy_{role}", "x")


@pytest.mark.parametrize("role", NARROW)
def test_a_role_does_only_what_it_needs(database_url: str, role: Role) -> None:
    with connect(settings(database_url=database_url), role) as conn:
        for statement in (
            "create table orchestration.mine (id int)",
            "delete from orchestration.outbox",
            "update orchestration.flags set enabled = false",
            "insert into public.games (prompt) values ('a house')",
            "delete from orchestration.migrations",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(statement)  # type: ignore[arg-type]  # only texts of this file
        assert conn.execute("select count(*) > 0 from orchestration.migrations").fetchone() == (True,)


def test_time_outs_and_transactions_are_as_asked(database_url: str) -> None:
    ours = settings(database_url=database_url)
    asked = "select current_setting('statement_timeout'), current_setting('lock_timeout')"
    with connect(ours, Role.timer, statement_timeout=1.5, lock_timeout=0.02, autocommit=False) as conn:
        assert conn.execute(asked).fetchone() == ("1500ms", "20ms")
        conn.rollback()
        assert conn.execute(asked).fetchone() == ("1500ms", "20ms")
        assert not conn.autocommit
    # Nothing of ours is without them.
    with connect(ours, Role.timer) as conn:
        assert conn.execute(asked).fetchone() == ("30s", "5s")


@pytest.fixture
def own_login(postgres: RunningPostgres, database_url: str) -> Iterator[str]:
    """URL of a login that may become none of our roles."""
    name = f"login_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres.superuser_url, autocommit=True) as conn:
        conn.execute(sql.SQL("create role {} login password 'geheim'").format(sql.Identifier(name)))
        yield postgres.url(name, "geheim", database_url.rpartition("/")[2])
        conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


async def test_a_url_of_its_own_stays_who_it_is(database_url: str, own_login: str) -> None:
    with connect(settings(database_url=database_url, relay_database_url=own_login), Role.relay) as conn:
        row = conn.execute(WHO).fetchone()
        assert row is not None
        assert row[0].startswith("login_")


async def test_refusals_are_one_line_without_the_password(own_login: str) -> None:
    wrong = own_login.replace("geheim", "geraten")
    for url, error, said in (
        (own_login, RoleMissingError, "may not become sketchy_timer"),
        (wrong, DatabaseRefusedError, "refused the password of login_"),
        (own_login + "x", DatabaseRefusedError, "does not exist"),
    ):
        with pytest.raises(error, match=said) as caught:
            connect(settings(database_url=url), Role.timer)
        with pytest.raises(error, match=said):
            await connect_async(settings(database_url=url), Role.timer)
        assert "\n" not in str(caught.value)
        assert "geheim" not in str(caught.value)
        assert "geraten" not in str(caught.value)


async def test_a_pooler_in_transaction_mode_is_noticed(database_url: str, start_pooler: StartPooler) -> None:
    pooled = settings(database_url=start_pooler(database_url, "transaction"))
    with pytest.raises(SessionsNeededError, match="use the session port in DATABASE_URL"):
        connect(pooled, Role.timer)
    with pytest.raises(SessionsNeededError):
        await connect_async(pooled, Role.owner)


async def test_a_pooler_in_session_mode_will_do(database_url: str, start_pooler: StartPooler) -> None:
    pooled = settings(database_url=start_pooler(database_url, "session"))
    with connect(pooled, Role.timer, statement_timeout=1.5) as conn:
        assert conn.execute(WHO).fetchone() == ("sketchy_timer", "sketchy timer")
        assert conn.execute("show statement_timeout").fetchone() == ("1500ms",)
        conn.execute("select pg_advisory_lock(1)")
        async with await connect_async(pooled, Role.relay) as other:
            assert await (await other.execute(WHO)).fetchone() == ("sketchy_relay", "sketchy relay")
            assert await (await other.execute("select pg_try_advisory_lock(1)")).fetchone() == (False,)
