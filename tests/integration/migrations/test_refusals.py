"""What migrating refuses, and that each refusal says what is missing and what to do."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import structlog
from psycopg import sql

from sketchy_orchestration.database.connect import SessionsNeededError
from sketchy_orchestration.database.migrate import (
    DownRefusedError,
    migrate_down,
    migrate_up,
    pending,
    status,
    way_down,
)
from sketchy_orchestration.database.migration_checks import DatabaseNotReadyError
from sketchy_orchestration.database.migration_files import load_migrations
from sketchy_orchestration.database.migration_plan import MigrationChangedError
from sketchy_orchestration.local.postgres import RunningPostgres
from tests.integration.migrations.conftest import StartPooler


def create_game(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("select orchestration.set_flag('enrolment', 'test', 'ours', p_value => 100)")
        conn.execute("insert into public.games (prompt) values ('a house')")


def test_without_the_application_s_tables(empty_database: str) -> None:
    with pytest.raises(
        DatabaseNotReadyError, match=r"lacks the application's tables public\.users, public\.games"
    ):
        migrate_up(empty_database)
    with pytest.raises(DatabaseNotReadyError):
        pending(empty_database)
    with psycopg.connect(empty_database) as conn:
        assert conn.execute("select to_regnamespace('orchestration')").fetchone() == (None,)


@pytest.fixture
def stranger(postgres: RunningPostgres, application: str) -> Iterator[str]:
    """URL of a login that may do nothing in the application's database but connect."""
    name = f"stranger_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres.superuser_url, autocommit=True) as conn:
        conn.execute(sql.SQL("create role {} login password 'pw'").format(sql.Identifier(name)))
        yield postgres.url(name, "pw", application.rpartition("/")[2])
        conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def test_without_permission(stranger: str, application: str) -> None:
    with pytest.raises(DatabaseNotReadyError) as caught:
        migrate_up(stranger)
    said = str(caught.value)
    assert "may not install" in said
    assert "own table public.games (it belongs to" in said
    assert "grant create on database" in said
    assert "role sketchy_timer" in said
    assert "\n" not in said
    migrate_up(application)
    with pytest.raises(DatabaseNotReadyError, match=r"may not read orchestration\.migrations"):
        status(stranger)


def test_a_schema_of_somebody_else(application: str) -> None:
    with psycopg.connect(application, autocommit=True) as conn:
        conn.execute("create schema orchestration")
        conn.execute("create table orchestration.theirs (id int)")
    with pytest.raises(DatabaseNotReadyError, match="it is not ours"):
        migrate_up(application)


def test_a_changed_file(application: str, small: Path) -> None:
    migrate_up(application, folder=small)
    file = small / "0002_second.up.sql"
    file.write_text(file.read_text(encoding="utf-8") + "-- a late thought\n", encoding="utf-8")
    with pytest.raises(MigrationChangedError, match="0002_second was changed after it was applied"):
        migrate_up(application, folder=small)
    with pytest.raises(MigrationChangedError):
        migrate_down(application, 0, folder=small)
    assert [s.state for s in status(application, folder=small)] == ["applied", "changed"]


def test_down_while_games_live_and_events_wait(application: str) -> None:
    migrate_up(application)
    create_game(application)
    with psycopg.connect(application, autocommit=True) as conn:
        conn.execute("update public.games set status = 'briefing', started_at = now()")
    with pytest.raises(
        DownRefusedError, match=r"1 enrolled games are in play; \d+ events wait to be delivered"
    ):
        migrate_down(application, 0)
    assert {s.state for s in status(application)} == {"applied"}
    would, against = way_down(application, 0)
    assert len(would) == len(load_migrations())
    assert len(against) == 2
    with pytest.raises(DownRefusedError, match="reason for discarding is empty"):
        migrate_down(application, 0, "  ")
    with structlog.testing.capture_logs() as logs:
        migrate_down(application, 0, "the experiment is over")
    discarded = [entry for entry in logs if entry["event"] == "migration_discards"]
    assert [entry["reason"] for entry in discarded] == ["the experiment is over"]
    assert discarded[0]["what"][0] == "1 enrolled games are in play"
    assert {s.state for s in status(application)} == {"pending"}


def test_through_a_pooler_in_transaction_mode(application: str, start_pooler: StartPooler) -> None:
    pooled = start_pooler(application, "transaction")
    with pytest.raises(SessionsNeededError, match="use the session port"):
        migrate_up(pooled)


def test_through_a_pooler_in_session_mode(application: str, start_pooler: StartPooler) -> None:
    pooled = start_pooler(application, "session")
    count = len(load_migrations())
    assert len(migrate_up(pooled)) == count
    assert len(migrate_down(pooled, 0)) == count
