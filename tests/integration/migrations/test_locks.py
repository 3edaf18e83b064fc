"""Two migrators at once, a lock that is not to be had, and a migration that would hold the application up."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from sketchy_orchestration.database.connect import DatabaseUnreachableError
from sketchy_orchestration.database.migrate import (
    MigrationFailedError,
    migrate_down,
    migrate_up,
    status,
    verify,
)
from sketchy_orchestration.database.migration_files import load_migrations
from sketchy_orchestration.database.migration_locks import MigrationBlockedError, MigrationsBusyError
from sketchy_orchestration.local.processes import wait_until
from tests.integration.migrations.conftest import MakeDatabase, add

# A transaction that stays in the way, as a report or a forgotten console does.
IN_THE_WAY = "lock table public.games in row exclusive mode"
WAIT_FOR_GAMES = "create trigger t before update on public.games for each row execute function suppress_redundant_updates_trigger();"  # noqa: E501


def in_the_way(url: str, lock: str = IN_THE_WAY) -> psycopg.Connection:
    blocker = psycopg.connect(url, application_name="a long report")
    blocker.execute(lock)
    return blocker


def test_two_at_once_apply_each_migration_once(application: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = [run.result() for run in [pool.submit(migrate_up, application) for _ in range(3)]]
    numbers = sorted(step.number for steps in done for step in steps)
    assert numbers == [m.number for m in load_migrations()]
    assert verify(application) == []


def test_two_at_once_go_down_once(application: str) -> None:
    count = len(migrate_up(application))
    with ThreadPoolExecutor(2) as pool:
        done = [run.result() for run in [pool.submit(migrate_down, application, 0) for _ in range(2)]]
    assert sum(len(steps) for steps in done) == count


def test_several_databases_of_one_cluster_at_once(make_database: MakeDatabase) -> None:
    urls = [make_database("current") for _ in range(4)]

    def there_and_back(url: str) -> int:
        return len(migrate_up(url)) + len(migrate_down(url, 0)) + len(migrate_up(url))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(there_and_back, urls)) == [3 * len(load_migrations())] * 4


def test_giving_up_names_the_blocker(application: str) -> None:
    with in_the_way(application) as blocker:
        pid = blocker.info.backend_pid
        with pytest.raises(MigrationBlockedError) as caught:
            migrate_up(application, patience=0.6)
    said = str(caught.value)
    assert "migration 0008_attach_games gave up after" in said
    assert f"blocked by pid {pid}, application 'a long report'" in said
    assert "idle in transaction, in its transaction for" in said
    assert IN_THE_WAY in said
    assert "\n" not in said
    # What came before stays, what failed left nothing, and the rest follows once the way is free.
    assert {s.state for s in status(application)[:7]} == {"applied"}
    assert {s.state for s in status(application)[7:]} == {"pending"}
    assert migrate_up(application)[0].number == 8
    assert verify(application) == []


def test_it_goes_on_when_the_blocker_leaves(application: str) -> None:
    with in_the_way(application) as blocker, ThreadPoolExecutor(1) as pool:
        run = pool.submit(migrate_up, application)
        assert wait_until(
            lambda: len([s for s in status(application) if s.state == "applied"]) == 7, seconds=20
        )
        seen: set[object] = set()

        def tried_twice() -> bool:
            seen.update(waits(application))
            return len(seen) > 1

        assert wait_until(tried_twice, seconds=20)
        blocker.rollback()
        steps = run.result(30)
    assert steps[7].tries > 1
    assert [s.tries for s in steps[:7]] == [1] * 7


def waits(url: str) -> set[object]:
    """Since when somebody has stood in line for the table of games; each try has its own moment."""
    with psycopg.connect(url, autocommit=True) as conn:
        rows = conn.execute(
            "select waitstart from pg_locks where not granted and relation = 'public.games'::regclass"
            " and waitstart is not null"
        ).fetchall()
    return {row[0] for row in rows}


def test_a_directive_gives_up_at_once(application: str, small: Path) -> None:
    add(small, "0003_busy", f"-- no-lock-retry\n{WAIT_FOR_GAMES}", "drop trigger t on public.games;")
    with in_the_way(application), pytest.raises(MigrationBlockedError, match="gave up after 1 tries"):
        migrate_up(application, folder=small)


def test_the_application_never_waits_long_for_a_lock_we_hold(application: str, small: Path) -> None:
    add(small, "0003_slow", f"{WAIT_FOR_GAMES} select pg_sleep(0.7);", "drop trigger t on public.games;")
    waited: list[float] = []
    over = threading.Event()

    def play() -> None:
        with psycopg.connect(application, autocommit=True) as conn:
            while not over.is_set():
                began = time.perf_counter()
                conn.execute("update public.games set prompt = prompt where id = gen_random_uuid()")
                waited.append(time.perf_counter() - began)
                over.wait(0.005)

    player = threading.Thread(target=play)
    player.start()
    try:
        with pytest.raises(MigrationBlockedError, match="because the application waited for it"):
            migrate_up(application, folder=small, patience=2)
    finally:
        over.set()
        player.join()
    assert max(waited) > 0.06, "nobody met the lock"
    assert max(waited) < 0.25  # 0.15 s and what a busy machine adds
    # With nobody there to wait, it may take its time.
    assert [s.number for s in migrate_up(application, folder=small)] == [3]


def test_another_migrator_that_does_not_finish_is_named(application: str) -> None:
    with psycopg.connect(application, autocommit=True, application_name="a stuck deploy") as other:
        other.execute("select pg_advisory_lock(5273, 0)")
        with pytest.raises(
            MigrationsBusyError, match=f"pid {other.info.backend_pid}, application 'a stuck deploy'"
        ):
            migrate_up(application, patience=0.3)


def test_a_broken_migration_leaves_nothing(application: str, small: Path) -> None:
    add(small, "0003_broken", "create table orchestration.half (id int); select 1/0;", "select 1;")
    with pytest.raises(
        MigrationFailedError, match=r"0003_broken failed and left nothing behind: division by zero"
    ):
        migrate_up(application, folder=small)
    with psycopg.connect(application) as conn:
        assert conn.execute("select to_regclass('orchestration.half')").fetchone() == (None,)
    assert [s.state for s in status(application, folder=small)] == ["applied", "applied", "pending"]


def test_a_session_ended_half_way_leaves_nothing(application: str, small: Path) -> None:
    add(small, "0003_ended", "create table orchestration.half (id int); select pg_sleep(20);", "select 1;")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(application, autocommit=True) as conn:
        run = pool.submit(migrate_up, application, folder=small)
        end = (
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where query like %s and pid <> pg_backend_pid() and datname = current_database()"
        )
        assert wait_until(lambda: conn.execute(end, ["%pg_sleep(20)%"]).fetchone() is not None, seconds=20)
        with pytest.raises(DatabaseUnreachableError, match="terminating connection"):
            run.result(20)
        assert conn.execute("select to_regclass('orchestration.half')").fetchone() == (None,)
    # The lock died with the session.
    assert migrate_up(application, 2, folder=small, patience=5) == []
