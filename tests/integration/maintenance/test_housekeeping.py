"""What leaves, what stays, and that a dry run only says so."""

from __future__ import annotations

import threading
from datetime import date, timedelta

import psycopg
import pytest

from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.monitoring import housekeeping
from sketchy_orchestration.settings import Settings
from tests.integration.monitoring.conftest import Facts


def tables(connection: psycopg.Connection) -> set[str]:
    rows = connection.execute(
        "select relname from pg_class where relnamespace = 'orchestration'::regnamespace and relkind = 'r'"
    )
    return {row[0] for row in rows}


def make_day(connection: psycopg.Connection, days_ago: int) -> str:
    """A day's partitions, as they were made when it was ahead; its suffix."""
    row = connection.execute(
        "select (clock_timestamp() at time zone 'UTC')::date - %s", [days_ago]
    ).fetchone()
    assert row is not None
    day = row[0]
    for parent in ("outbox", "sequenced", "outcomes", "attempts"):
        connection.execute(
            f"create table orchestration.{parent}_{day:%Y%m%d} partition of orchestration.{parent}"
            f" for values from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')"
        )
    return f"{day:%Y%m%d}"


def test_settled_days_leave_and_the_ledger_keeps_count(
    settings: Settings, connection: psycopg.Connection, facts: Facts
) -> None:
    old, held = make_day(connection, 3), make_day(connection, 4)
    for _ in range(5):
        facts.event(age=3 * 86_400)
    facts.event(age=4 * 86_400, took=None)
    before = tables(connection)
    dry = housekeeping.partitions(settings, dry_run=True)
    assert tables(connection) == before
    done = housekeeping.partitions(settings, ahead=9)
    assert dry.removed["days"] == done.removed["days"] == 1
    assert dry.freed == done.freed > 0
    assert done.removed["tables"] == 4
    assert done.made["partitions made ahead"] == 8
    assert done.kept == [f"{date.fromisoformat(held)}: 1 events still wait"]
    left = tables(connection)
    assert f"outbox_{old}" not in left
    assert f"outbox_{held}" in left
    ledger = connection.execute(
        "select sum(written), sum(delivered), bool_and(closed) from orchestration.ledger where written > 0"
        " and hour < now() - interval '2 days' and hour > now() - interval '85 hours'"
    ).fetchone()
    assert ledger == (5, 5, True)
    assert "| removed days | 1 |" in done.markdown()


def test_a_lock_in_the_way_is_tried_again(
    settings: Settings, connection: psycopg.Connection, database_url: str, facts: Facts
) -> None:
    make_day(connection, 3)
    waited = threading.Event()
    with psycopg.connect(database_url) as reader:
        reader.execute("select count(*) from orchestration.outbox")

        def pause(_: float) -> None:
            waited.set()
            reader.rollback()

        done = housekeeping.partitions(settings, pause=pause)
    assert waited.is_set()
    assert done.removed["days"] == 1


def test_a_lock_that_never_goes_ends_the_job(
    settings: Settings, connection: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_day(connection, 3)
    monkeypatch.setattr(housekeeping, "TRIES", 3)
    with psycopg.connect(database_url) as reader:
        reader.execute("select count(*) from orchestration.outbox")
        with pytest.raises(housekeeping.HousekeepingError, match="no lock in 3 tries"):
            housekeeping.partitions(settings, pause=lambda _: None)


def test_what_commits_while_a_day_is_being_detached_keeps_it(
    settings: Settings, connection: psycopg.Connection, database_url: str, facts: Facts
) -> None:
    day = make_day(connection, 3)
    facts.event(age=3 * 86_400)
    connection.execute("alter function orchestration.detach_day(date) set lock_timeout = '20s'")
    waiting = (
        "select from pg_stat_activity"
        " where application_name = 'sketchy partitions' and wait_event_type = 'Lock'"
    )
    done: list[housekeeping.Done] = []
    cleaner = threading.Thread(target=lambda: done.append(housekeeping.partitions(settings)))
    with psycopg.connect(database_url) as writer:
        Facts(writer).event(age=3 * 86_400, took=None)
        cleaner.start()
        assert wait_until(lambda: connection.execute(waiting).fetchone() is not None, seconds=20)
    cleaner.join(30)
    assert done[0].kept == [
        f"{date.fromisoformat(day)}: 1 events of {date.fromisoformat(day)} still wait to be delivered"
    ]
    assert f"outbox_{day}" in tables(connection)


def test_finished_games_are_forgotten_and_games_in_play_are_not(
    settings: Settings, connection: psycopg.Connection, facts: Facts
) -> None:
    connection.execute(
        """
        with games as (select gen_random_uuid() as id, n from generate_series(1, 20) n),
             enrolled as (insert into orchestration.enrolments (game_id, handler, percentage, decided_at)
                          select id, 'orchestration', 100, now() - interval '8 days' from games),
             live as (insert into orchestration.live_games (game_id, phase, deadline)
                      select id, 'drawing', now() from games where n <= 3)
        insert into orchestration.transitions (game_id, from_phase, to_phase, at, cause, handler, request_id)
        select id, 'waiting', 'briefing',
               now() - case when n <= 5 then interval '1 day' else interval '8 days' end,
               'application', 'orchestration', 'r' from games
        """
    )
    dry = housekeeping.finished_games(settings, dry_run=True)
    assert (dry.removed["enrolments"], dry.removed["transitions"]) == (15, 15)
    done = housekeeping.finished_games(settings)
    assert done.removed["enrolments"] == 15
    assert connection.execute("select count(*) from orchestration.transitions").fetchone() == (5,)
    assert housekeeping.finished_games(settings).removed["enrolments"] == 0


def test_old_rows_go(settings: Settings, connection: psycopg.Connection, facts: Facts) -> None:
    facts.transition(age=30 * 86_400, count=3)
    facts.transition()
    connection.execute(
        "insert into orchestration.observations (name, value, at)"
        " values ('canary', 1, now() - interval '8 days'), ('canary', 1, now())"
    )
    connection.execute(
        "insert into orchestration.metric_minutes (minute, metric, minutes, count)"
        " values (date_trunc('hour', now()) - interval '101 days', 'x', 60, 1)"
    )
    dry = housekeeping.old_rows(settings, dry_run=True)
    done = housekeeping.old_rows(settings)
    assert done.removed == dry.removed
    assert (done.removed["transitions"], done.removed["observations"], done.removed["metric_minutes"]) == (
        3,
        1,
        1,
    )
    assert connection.execute("select count(*) from orchestration.transitions").fetchone() == (1,)


def test_reconciling_says_what_it_repaired(
    settings: Settings, connection: psycopg.Connection, facts: Facts
) -> None:
    game = facts.live_game()
    dry = housekeeping.reconcile(settings, dry_run=True)
    done = housekeeping.reconcile(settings)
    assert dry.made == {"repairs needed": 1}
    assert done.made == {"repairs": 1}
    assert done.details == [f"{game}: live_games: drawing -> none, because the game is gone"]
    assert housekeeping.reconcile(settings).made == {"repairs": 0}


def test_keys_grow_old(settings: Settings, connection: psycopg.Connection) -> None:
    known = settings.model_copy(
        update={"keys_rotated": {"CRON_SECRET": date(2026, 1, 1)}, "supabase_jwt_secret": "x"}
    )
    done = housekeeping.key_ages(known, today=date(2026, 4, 10))
    assert done.made["keys due"] == 1
    assert done.details == ["CRON_SECRET is 99 days old: rotate it, 90 days have passed"]
    assert done.kept == ["SUPABASE_JWT_SECRET is in use and KEYS_ROTATED has no date for it"]
    seen = connection.execute("select label, value from orchestration.observations").fetchall()
    assert seen == [("CRON_SECRET", 99.0)]
