"""Shifts in a real Dagster: they come to work, are replaced when they die, stop when cancelled."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator

import dagster as dg
import psutil
import psycopg
import pytest

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import RunningPostgres
from tests.e2e.dagster_runner import RunningDagster
from tests.faults.timer.table import Table

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.xdist_group("dagster"),
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:Parameter `owners` of initializer"),
]


@pytest.fixture(scope="module")
def dagster(postgres: RunningPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDagster]:
    """One for all tests here; each begins by waiting until two shifts of each kind are at work."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    url = postgres.create_database(name)
    application.install(url)
    migrate_up(url)
    running = RunningDagster(tmp_path_factory.mktemp("dagster"), url)
    yield running
    running.stop()
    postgres.drop_database(name)


@pytest.fixture(autouse=True)
def settled(dagster: RunningDagster) -> None:
    dagster.wait_until_settled()


def rows(dagster: RunningDagster, kind: str) -> int:
    return len(dagster.execute("select 1 from orchestration.shifts where kind = %s", kind))


def test_two_of_each_kind_and_no_more_come_to_work(dagster: RunningDagster) -> None:
    for kind in ("timer", "fanout"):
        shifts = dagster.at_work(kind)
        assert len({shift["pid"] for shift in shifts}) == 2
        for shift in shifts:
            assert dagster.status(shift["dagster_run_id"]) is dg.DagsterRunStatus.STARTED


@pytest.mark.parametrize("kind", ["timer", pytest.param("fanout", marks=pytest.mark.long)])
def test_a_killed_worker_is_replaced_once(dagster: RunningDagster, kind: str) -> None:
    before = rows(dagster, kind)
    victim, survivor = dagster.at_work(kind)
    os.kill(victim["pid"], signal.SIGKILL)
    dagster.wait(lambda: victim["shift_id"] not in {shift["shift_id"] for shift in dagster.at_work(kind)})
    dagster.wait_until_settled()
    (row,) = dagster.execute("select * from orchestration.shifts where shift_id = %s", victim["shift_id"])
    assert row["end_reason"] == "died"
    assert dagster.status(victim["dagster_run_id"]) is dg.DagsterRunStatus.FAILURE
    assert rows(dagster, kind) == before + 1
    assert survivor["shift_id"] in {shift["shift_id"] for shift in dagster.at_work(kind)}


@pytest.mark.parametrize("kind", ["timer", pytest.param("fanout", marks=pytest.mark.long)])
def test_a_cancelled_run_stops_at_once_and_stays_cancelled(dagster: RunningDagster, kind: str) -> None:
    shift = dagster.at_work(kind)[0]
    asked = time.monotonic()
    assert dagster.instance.run_launcher.terminate(shift["dagster_run_id"])

    def left() -> bool:
        (row,) = dagster.execute("select * from orchestration.shifts where shift_id = %s", shift["shift_id"])
        return row["end_reason"] == "stopped"

    dagster.wait(left, seconds=10)
    # A second is promised on a machine that has time for it; other work may share this one.
    assert time.monotonic() - asked < 5.0
    dagster.wait(lambda: dagster.status(shift["dagster_run_id"]) is dg.DagsterRunStatus.CANCELED, seconds=10)
    dagster.wait(lambda: not psutil.pid_exists(shift["pid"]), seconds=10)


@pytest.mark.long
def test_a_worker_that_dies_unseen_is_ended_and_replaced(dagster: RunningDagster) -> None:
    """The code server dies first: its workers go on, and Dagster never hears of the death of one."""
    victim, survivor = dagster.at_work("timer")
    dagster.code_server.kill()
    dagster.code_server.wait()
    os.kill(victim["pid"], signal.SIGKILL)
    assert survivor["shift_id"] in {shift["shift_id"] for shift in dagster.at_work("timer")}
    dagster.start_code_server()
    dagster.wait(lambda: dagster.status(victim["dagster_run_id"]) is dg.DagsterRunStatus.FAILURE)
    dagster.wait_until_settled()
    (row,) = dagster.execute("select * from orchestration.shifts where shift_id = %s", victim["shift_id"])
    assert row["end_reason"] == "died"
    assert survivor["shift_id"] in {shift["shift_id"] for shift in dagster.at_work("timer")}


@pytest.mark.long
def test_shifts_outlive_daemon_and_code_server(dagster: RunningDagster) -> None:
    """Webserver, daemon and code server are killed in turn: games go on, and nobody's shift is replaced."""
    before = {shift["shift_id"] for kind in ("timer", "fanout") for shift in dagster.at_work(kind)}
    dagster.start_webserver()
    assert dagster.webserver is not None
    with psycopg.connect(dagster.database_url, autocommit=True) as connection:
        table = Table(connection)
        for process in (dagster.webserver, dagster.daemon, dagster.code_server):
            games = table.deal(40, first=1.2, spread=2.0)
            process.kill()
            process.wait()
            table.wait_for(games)
        assert table.wrong() == []
    killed_at = dagster.execute("select clock_timestamp() as now")[0]["now"]

    def all_beat_since() -> bool:
        beats = dagster.execute(
            "select count(*) as n from orchestration.shifts where ended_at is null and heartbeat_at > %s",
            killed_at,
        )
        return bool(beats[0]["n"] == 4)

    dagster.wait(all_beat_since, seconds=10)
    dagster.start_code_server()
    dagster.start_daemon()
    looks = dagster.said("daemon").count("timer: 2 of 2 at work; fanout: 2 of 2 at work")
    dagster.wait(
        lambda: dagster.said("daemon").count("timer: 2 of 2 at work; fanout: 2 of 2 at work") >= looks + 2
    )
    after = {shift["shift_id"] for kind in ("timer", "fanout") for shift in dagster.at_work(kind)}
    assert after == before


@pytest.mark.long
def test_a_paused_worker_is_ended_replaced_and_leaves_when_it_wakes(dagster: RunningDagster) -> None:
    paused = dagster.at_work("timer")[0]
    os.kill(paused["pid"], signal.SIGSTOP)
    try:
        dagster.wait(
            lambda: paused["shift_id"] not in {shift["shift_id"] for shift in dagster.at_work("timer")}
        )
        dagster.wait_until_settled()
    finally:
        os.kill(paused["pid"], signal.SIGCONT)
    (row,) = dagster.execute("select * from orchestration.shifts where shift_id = %s", paused["shift_id"])
    assert row["end_reason"] == "stale"
    dagster.wait(lambda: not psutil.pid_exists(paused["pid"]), seconds=30)
    assert dagster.status(paused["dagster_run_id"]).value in {"CANCELED", "FAILURE", "SUCCESS"}


@pytest.mark.long
def test_an_aged_shift_hands_over_without_a_gap(dagster: RunningDagster) -> None:
    aged = dagster.at_work("timer")[0]
    dagster.execute(
        "update orchestration.shifts set started_at = started_at - interval '1 hour' where shift_id = %s",
        aged["shift_id"],
    )
    fewest = 2

    def handed_over() -> bool:
        nonlocal fewest
        fewest = min(fewest, len(dagster.at_work("timer")))
        (row,) = dagster.execute("select * from orchestration.shifts where shift_id = %s", aged["shift_id"])
        return row["end_reason"] == "relieved"

    dagster.wait(handed_over)
    assert fewest == 2
    dagster.wait(lambda: dagster.status(aged["dagster_run_id"]) is dg.DagsterRunStatus.SUCCESS)


@pytest.mark.long
def test_nothing_is_started_while_the_flag_is_off(dagster: RunningDagster) -> None:
    ever = "select count(*) as n from orchestration.shifts where kind = 'timer'"
    dagster.execute("select orchestration.set_flag('timer_monitoring', 'ann', 'a test', false)")
    try:
        started = dagster.execute(ever)
        os.kill(dagster.at_work("timer")[0]["pid"], signal.SIGKILL)
        dagster.wait(lambda: "timer: 1 of 2 at work, starting none" in dagster.said("daemon"))
        assert dagster.execute(ever) == started
        assert len(dagster.at_work("timer")) == 1
    finally:
        dagster.execute("select orchestration.set_flag('timer_monitoring', 'ann', 'a test', true)")
