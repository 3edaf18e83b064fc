"""Postgres restarts, cuts connections, has a full disk: shifts repair what is theirs and lose nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application, processes
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.local.postgres.folders import delete
from tests.faults.timer.at_work import AtWork, at_work
from tests.faults.timer.table import Table
from tests.faults.timer.watching import Watching

pytestmark = [pytest.mark.fault]

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, with the application and our migrations in its database."""
    home = tmp_path / "home"
    server = EmbeddedPostgres(home)
    try:
        url = server.start().owner_url()
        application.install(url)
        migrate_up(url)
        yield server
    finally:
        server.stop()
        delete(home)


def still_the_same(shifts: AtWork) -> bool:
    """Whether no shift has ended: what was lost was repaired inside the run."""
    return all(shifts.is_at_work(process) for process in shifts.running)


@pytest.mark.parametrize("immediate", [False, True], ids=["fast shutdown", "crash"])
def test_a_restart_under_load(
    own_postgres: EmbeddedPostgres, tmp_path: Path, immediate: bool, chance: random.Random
) -> None:
    url = own_postgres.start().owner_url()
    with (
        psycopg.connect(url, autocommit=True) as before,
        at_work(url, before, tmp_path / "log") as shifts,
    ):
        table = Table(before)
        games = table.deal(200, spread=8.0)
        table.wait_for(games, chance.randrange(20, 60))
        own_postgres.restart(immediate=immediate)
        back = time.monotonic()
        with psycopg.connect(url, autocommit=True) as after:
            table, shifts.connection = table.by(after), after
            overdue = "select count(*) from orchestration.live_games where deadline < clock_timestamp()"
            assert processes.wait_until(lambda: after.execute(overdue).fetchone() == (0,), seconds=5)
            sys.stdout.write(f"caught up {time.monotonic() - back:.2f} s after the return\n")
            table.wait_for(games)
            assert table.wrong() == []
            assert processes.wait_until(lambda: still_the_same(shifts), seconds=5), shifts.said()


def cut(connection: Connection, most: int) -> int:
    """End the sessions of so many shifts, as a network or an administrator does."""
    return connection.execute(
        """select pg_terminate_backend(pid) from pg_stat_activity
           where application_name = 'sketchy timer shift' and datname = current_database()
           order by random() limit %s""",
        [most],
    ).rowcount


def test_connections_cut_one_at_a_time(
    connection: Connection, table: Table, shifts: AtWork, watching: Watching
) -> None:
    games = table.deal(200, spread=4.0)
    for share in (0.1, 0.3, 0.5, 0.7):
        table.wait_for(games, int(len(games) * share))
        assert cut(connection, 1) == 1
    table.wait_for(games)
    assert table.wrong() == []
    assert processes.wait_until(lambda: still_the_same(shifts), seconds=5), shifts.said()
    assert watching.worst_ms() <= watching.bound_ms(100)


def test_all_connections_cut_at_once(
    connection: Connection, table: Table, shifts: AtWork, watching: Watching, chance: random.Random
) -> None:
    games = table.deal(120, spread=3.0)
    table.wait_for(games, chance.randrange(20, 60))
    assert cut(connection, 10) == 2
    table.wait_for(games)
    assert table.wrong() == []
    assert processes.wait_until(lambda: still_the_same(shifts), seconds=5), shifts.said()
    assert watching.worst_ms() <= watching.bound_ms(500)


FULL = """
    create function public.disk_full() returns trigger language plpgsql as $$
    begin
        raise exception 'could not extend file: No space left on device' using errcode = 'disk_full';
    end $$;
    create trigger disk_full before insert on orchestration.transitions
        for each statement execute function public.disk_full()
"""


def test_a_full_disk_is_no_fault_of_any_game(connection: Connection, table: Table, shifts: AtWork) -> None:
    games = table.deal(40, first=1.2, spread=1.0)
    connection.execute(FULL)
    assert processes.wait_until(lambda: "No space left" in shifts.said(), seconds=10), shifts.said()
    assert table.overdue_by(2.5)
    connection.execute("drop trigger disk_full on orchestration.transitions")
    began = time.monotonic()
    table.wait_for(games, seconds=3)
    sys.stdout.write(f"caught up {time.monotonic() - began:.2f} s after the disk had room\n")
    assert table.wrong() == []
    assert processes.wait_until(lambda: still_the_same(shifts), seconds=5), shifts.said()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(folder)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_really_full(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    running = own_postgres.start()
    place = Path(str(running.data_dir) + "-small")
    with (
        small_disk(place, 8) as disk,
        psycopg.connect(running.superuser_url.replace("/postgres", "/sketchy"), autocommit=True) as superuser,
        psycopg.connect(running.owner_url(), autocommit=True) as connection,
        at_work(running.owner_url(), connection, tmp_path / "log") as shifts,
    ):
        inside = disk / "space"
        inside.mkdir()
        inside.chmod(0o777)
        os.chown(inside, running.data_dir.stat().st_uid, running.data_dir.stat().st_gid)
        superuser.execute(psycopg.sql.SQL("create tablespace small location {}").format(str(inside)))
        superuser.execute("alter table orchestration.transitions set tablespace small")
        superuser.execute("alter index orchestration.transitions_game_idx set tablespace small")
        stuffing = disk / "stuffing"
        table = Table(connection)
        with pytest.raises(OSError, match="No space left"):
            stuffing.write_bytes(bytes(16 * 1024 * 1024))
        games = table.deal(400, first=1.2, spread=1.0)
        assert processes.wait_until(lambda: "No space left" in shifts.said(), seconds=15), shifts.said()
        stuffing.unlink()
        table.wait_for(games, seconds=5)
        assert table.wrong() == []
        assert still_the_same(shifts)
        superuser.execute("alter table orchestration.transitions set tablespace pg_default")
        superuser.execute("alter index orchestration.transitions_game_idx set tablespace pg_default")
        superuser.execute("drop tablespace small")
