"""Fifty games over the whole stack: Dagster's shifts, the local PubNub, the official SDK, real players."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres.folders import delete
from tests.e2e.stack_runner import RunningStack, sketchy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

_GAMES = 50


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    home = tmp_path / "home"
    with RunningStack(home, ("--games", "0")) as running:
        running.wait_for("Dagster: ", seconds=120)
        yield running
    delete(home)


def test_fifty_games_are_played_and_every_promise_is_kept(stack: RunningStack) -> None:
    def dagster_works() -> bool:
        shifts = stack.status()["system"]["shifts"]
        return {s["kind"] for s in shifts if s["alive"] and s["dagster_run_id"]} == {"timer", "fanout"}

    assert processes.wait_until(dagster_works, seconds=90, pause=0.5), stack.logs()
    environment = stack.environment()
    words = ("play", "--games", str(_GAMES), "--rate", "10", "--speed", "4", "--json")
    done = sketchy(stack.home, *words, seconds=240, **environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"
    report = json.loads(done.stdout)
    assert (report["completed"], report["unfinished"], report["repeats"]) == (_GAMES, 0, 0), done.stdout
    assert report["violations"] == {}
    assert report["events_heard"] == report["events_expected"] > _GAMES * 10

    with psycopg.connect(environment["DATABASE_URL"]) as conn:
        early = conn.execute(
            "select count(*) from orchestration.transitions where cause = 'timer' and at < deadline"
        ).fetchone()
        twice = conn.execute(
            "select count(*) from (select from orchestration.transitions"
            " group by game_id, from_phase having count(*) > 1) repeated"
        ).fetchone()
        gaps = conn.execute(
            "select count(*) from (select from orchestration.sequenced where game_id is not null"
            " group by game_id"
            " having max(seq) <> count(*) or min(seq) <> 1 or count(distinct seq) <> count(*)) gapped"
        ).fetchone()
        ledger = conn.execute(
            "select (select count(*) from orchestration.outbox),"
            " (select count(*) from orchestration.outcomes where outcome = 'delivered')"
        ).fetchone()
    assert (early, twice, gaps) == ((0,), (0,), (0,))
    assert ledger is not None
    written, delivered = ledger
    assert written == delivered > 0
    status = stack.status()["system"]
    assert (status["waiting_events"], status["dead_letters"], status["overdue"]) == (0, 0, 0)
