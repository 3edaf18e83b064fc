"""`sketchy migrate` as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg

from sketchy_orchestration.database.migration_files import load_migrations

ROOT = Path(__file__).resolve().parents[3]
COUNT = len(load_migrations())


def sketchy(url: str | None, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command with nothing but a database in its environment."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    if url is not None:
        environment["DATABASE_URL"] = url
    return subprocess.run(
        [sys.executable, "-m", "sketchy_orchestration.cli.main", "migrate", *words],
        cwd=ROOT / "tests",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def error(url: str | None, *words: str) -> str:
    """The one line on stderr of a command that fails."""
    done = sketchy(url, *words)
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


def test_the_whole_way(application: str) -> None:
    planned = sketchy(application, "up", "--dry-run")
    assert f"would go up through {COUNT} migrations" in planned.stdout
    assert {row["state"] for row in json.loads(sketchy(application, "status", "--json").stdout)} == {
        "pending"
    }
    first = sketchy(application, "up")
    assert first.returncode == 0, first.stderr
    assert f"{COUNT} migrations applied" in first.stdout
    assert "nothing to do" in sketchy(application, "up").stdout
    assert "as the migrations made it" in sketchy(application, "verify").stdout
    table = sketchy(application, "status")
    assert "0001_schema" in table.stdout
    assert {row["state"] for row in json.loads(sketchy(application, "status", "--json").stdout)} == {
        "applied"
    }
    assert (
        f"would go down through {COUNT - 1} migrations"
        in sketchy(application, "down", "--to", "1", "--dry-run").stdout
    )
    assert f"{COUNT} migrations taken back" in sketchy(application, "down").stdout


def test_the_application_comes_along_when_asked_for(empty_database: str) -> None:
    assert "lacks the application's tables" in error(empty_database, "up")
    done = sketchy(empty_database, "up", "--with-application", "--to", "3")
    assert "made the application's tables" in done.stdout
    assert "3 migrations applied" in done.stdout


def test_down_needs_a_reason_to_discard(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("select orchestration.set_flag('enrolment', 'test', 'ours', p_value => 100)")
        conn.execute("insert into public.games (prompt) values ('a house')")
    assert "1 enrolled games are in play" in error(database_url, "down")
    assert "go together" in error(database_url, "down", "--discard")
    assert "go together" in error(database_url, "down", "--reason", "over")
    assert "against it: 1 enrolled games" in sketchy(database_url, "down", "--dry-run").stdout
    done = sketchy(database_url, "down", "--discard", "--reason", "over")
    assert done.returncode == 0, done.stderr
    assert "migration_discards" in done.stdout + done.stderr


def test_verify_lists_what_differs(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("drop index orchestration.live_games_deadline_idx")
    done = sketchy(database_url, "verify")
    assert done.stdout == "index orchestration.live_games_deadline_idx is missing\n"
    assert done.stderr == "error: 1 differences from what the migrations make\n"
    assert done.returncode == 1


def test_wrong_input_is_one_line() -> None:
    assert "or set DATABASE_URL" in error(None, "status")
    assert "no database at" in error("postgresql://owner:geheim@127.0.0.1:1/games", "up")
    assert "geheim" not in error("postgresql://owner:geheim@127.0.0.1:1/games", "up")
