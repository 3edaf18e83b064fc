"""`verify` sees what was changed by hand, and the catalogue keeps the rules of the house."""

from __future__ import annotations

import psycopg
import pytest

from sketchy_orchestration.database.migrate import migrate_down, migrate_up, verify
from sketchy_orchestration.database.migration_checks import breaches


def change(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(statement)  # type: ignore[arg-type]  # only texts of this file


def test_a_fresh_installation_is_as_migrated_and_keeps_the_rules(connection: psycopg.Connection) -> None:
    assert breaches(connection) == []


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "create or replace function orchestration.flag_on(p_name text) returns boolean"
            " language sql stable parallel safe set search_path = '' return true",
            "function orchestration.flag_on(text) was changed",
        ),
        (
            "drop index orchestration.live_games_deadline_idx",
            "index orchestration.live_games_deadline_idx is missing",
        ),
        ("create table orchestration.extra (id int)", "table orchestration.extra does not belong"),
        ("alter table orchestration.flags add note text", "column orchestration.flags.note does not belong"),
        (
            "alter table orchestration.flags alter reason drop not null",
            "column orchestration.flags.reason was changed",
        ),
        (
            "alter table public.votes disable trigger orchestration_inserted",
            "trigger orchestration_inserted of public.votes was changed",
        ),
        (
            "drop trigger orchestration_updated on public.games",
            "trigger orchestration_updated of public.games is missing",
        ),
        ("grant delete on orchestration.outbox to sketchy_relay", "table orchestration.outbox was changed"),
        (
            "grant update (value) on orchestration.flags to sketchy_relay",
            "column orchestration.flags.value was changed",
        ),
        (
            "create or replace function public.broadcast_game_event() returns trigger"
            " language plpgsql security definer as 'begin return null; end'",
            "guard of public.broadcast_game_event() is missing",
        ),
        (
            "grant execute on function orchestration.flag_on(text) to public",
            "function orchestration.flag_on(text) may be called by everybody",
        ),
        (
            "alter function orchestration.set_flag reset all",
            "function orchestration.set_flag(text,text,text,boolean,numeric,text[],text[])"
            " runs as its owner without an empty search_path",
        ),
        (
            "grant select on orchestration.flags to public",
            "table orchestration.flags grants SELECT to everybody",
        ),
        (
            "grant select (name) on orchestration.flags to public",
            "column orchestration.flags.name grants SELECT to everybody",
        ),
    ],
)
def test_what_was_changed_by_hand_is_named(database_url: str, statement: str, problem: str) -> None:
    assert verify(database_url) == []
    change(database_url, statement)
    assert problem in verify(database_url)


def test_partitions_come_and_go(database_url: str) -> None:
    change(database_url, "select orchestration.ensure_partitions(9)")
    assert verify(database_url) == []


def test_what_is_not_applied_is_named(application: str) -> None:
    assert "migration 0001_schema is not applied" in verify(application)
    migrate_up(application, 4)
    assert verify(application)[0].startswith("migration 0005")
    migrate_up(application)
    assert verify(application) == []


def test_a_way_back_is_compared_too(application: str) -> None:
    migrate_up(application)
    migrate_down(application, 5)
    assert [p for p in verify(application) if "is not applied" not in p] == []
    change(application, "drop table orchestration.circuit")
    assert "table orchestration.circuit is missing" in verify(application)
