"""`sketchy shift`: the same loop without Dagster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest

from sketchy_orchestration.local import processes


@contextmanager
def command(kind: str, database_url: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift", kind],
        env={**os.environ, "DATABASE_URL": database_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def live(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "select count(*) from orchestration.shifts where kind = 'timer' and ended_at is null"
    ).fetchone()
    return int(row[0]) if row else 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_works_shows_in_the_same_table_and_leaves_when_told(
    number: signal.Signals,
    connection: psycopg.Connection,
    database_url: str,
    overdue_game: Callable[..., UUID],
) -> None:
    game = overdue_game()
    with command("timer", database_url) as process:
        assert processes.wait_until(lambda: live(connection) == 1, seconds=30)

        def moved() -> bool:
            row = connection.execute("select status from public.games where id = %s", [game]).fetchone()
            return row is not None and row[0] == "drawing"

        assert processes.wait_until(moved, seconds=10)
        asked = time.monotonic()
        process.send_signal(number)
        assert processes.wait_until(lambda: live(connection) == 0, seconds=5)
        assert time.monotonic() - asked < 1.0
        said, complained = process.communicate(timeout=10)
        assert process.returncode == 0, complained
    assert "timer shift left: stopped" in said
    assert "transitions 1" in said
    row = connection.execute("select end_reason, dagster_run_id from orchestration.shifts").fetchone()
    assert row == ("stopped", None)


def test_an_unreachable_database_is_one_line_and_an_exit_code() -> None:
    with command("timer", "postgresql://nobody:hunter2@127.0.0.1:1/none") as process:
        said, complained = process.communicate(timeout=30)
    assert (process.returncode, said) == (1, "")
    assert complained.startswith("error: no database at nobody@127.0.0.1:1/none")
    assert complained.count("\n") == 1
    assert "hunter2" not in complained
