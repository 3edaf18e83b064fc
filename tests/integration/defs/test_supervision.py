"""Supervision against the real table of shifts; the runs that host them are a list in memory."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import pytest

from sketchy_orchestration.database import releases
from sketchy_orchestration.domain.supervision import Run, Stage
from sketchy_orchestration.realtime.shift import ShiftKind
from sketchy_orchestration.realtime.supervision import SupervisionError, supervise
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.version import Version, this_version
from tests.integration.defs.conftest import MakeShift


@dataclass
class ListedRuns:
    """The interface `Runs` on lists."""

    listed: list[Run] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    ended: list[str] = field(default_factory=list)

    def unfinished(self, kind: ShiftKind) -> list[Run]:  # noqa: ARG002
        return self.listed

    def has_finished(self, run_id: str) -> bool:
        return run_id in self.finished

    def end(self, run_id: str, why: str) -> None:  # noqa: ARG002
        self.ended.append(run_id)


def end_of(connection: psycopg.Connection, shift_id: UUID) -> str | None:
    row = connection.execute(
        "select end_reason from orchestration.shifts where shift_id = %s and ended_at is not null", [shift_id]
    ).fetchone()
    return row[0] if row else None


def test_an_empty_table_wants_both(its_settings: Settings) -> None:
    assert supervise(its_settings, ShiftKind.timer, ListedRuns(), {}).launch == 2


def test_kinds_are_counted_apart(its_settings: Settings, make_shift: MakeShift) -> None:
    make_shift("fanout")
    make_shift("fanout")
    assert supervise(its_settings, ShiftKind.timer, ListedRuns(), {}).launch == 2
    assert supervise(its_settings, ShiftKind.fanout, ListedRuns(), {}).launch == 0


def test_a_silent_shift_is_ended_at_the_second_look_and_its_run_with_it(
    its_settings: Settings, make_shift: MakeShift, connection: psycopg.Connection
) -> None:
    make_shift()
    silent = make_shift(silence=30, age=40, run_id="run")
    runs = ListedRuns([Run("run", Stage.started, 40)])
    wait_until_the_server_is_older_than(connection, 6)
    first = supervise(its_settings, ShiftKind.timer, runs, {})
    assert (first.launch, end_of(connection, silent), runs.ended) == (0, None, [])
    second = supervise(its_settings, ShiftKind.timer, runs, first.suspects)
    assert (second.launch, end_of(connection, silent), runs.ended) == (1, "stale", ["run"])


def wait_until_the_server_is_older_than(connection: psycopg.Connection, seconds: float) -> None:
    """Silence is counted from the server's start at the earliest: nobody beats without one."""
    connection.execute(
        "select pg_sleep(extract(epoch from pg_postmaster_start_time() - clock_timestamp()) + %s)", [seconds]
    )


def test_a_shift_whose_run_has_finished_is_ended_at_once(
    its_settings: Settings, make_shift: MakeShift, connection: psycopg.Connection
) -> None:
    wait_until_the_server_is_older_than(connection, 3)
    dead = make_shift(silence=30, run_id="run")
    assert supervise(its_settings, ShiftKind.timer, ListedRuns(finished={"run"}), {}).launch == 2
    assert end_of(connection, dead) == "died"


def test_a_shift_whose_process_is_gone_is_ended_at_once(
    its_settings: Settings, make_shift: MakeShift, connection: psycopg.Connection
) -> None:
    wait_until_the_server_is_older_than(connection, 3)
    gone = make_shift(silence=30, host=socket.gethostname(), pid=2**22 + 1)
    here = make_shift(silence=30, host=socket.gethostname(), pid=os.getpid())
    supervise(its_settings, ShiftKind.timer, ListedRuns(), {})
    assert (end_of(connection, gone), end_of(connection, here)) == ("died", None)


def test_a_run_of_somebody_elses_dagster_is_not_taken_for_finished(
    its_settings: Settings, make_shift: MakeShift, connection: psycopg.Connection
) -> None:
    foreign = make_shift(silence=30, run_id="unknown here")
    supervise(its_settings, ShiftKind.timer, ListedRuns(), {})
    assert end_of(connection, foreign) is None


def test_a_heartbeat_that_comes_meanwhile_saves_the_shift(
    its_settings: Settings, make_shift: MakeShift, connection: psycopg.Connection
) -> None:
    from sketchy_orchestration.database import supervision

    shift_id = make_shift(silence=30)
    (row,) = supervision.shift_rows(connection, "timer", [], "")
    connection.execute("update orchestration.shifts set heartbeat_at = clock_timestamp()")
    assert not supervision.end_shift(connection, shift_id, row.heartbeat, "stale")
    assert end_of(connection, shift_id) is None


def test_an_aged_shift_gets_a_successor(its_settings: Settings, make_shift: MakeShift) -> None:
    make_shift(age=1900)
    make_shift(age=1000)
    assert supervise(its_settings, ShiftKind.timer, ListedRuns(), {}).launch == 1


def test_a_run_that_outlived_its_shift_is_ended(
    its_settings: Settings, make_shift: MakeShift, connection: psycopg.Connection
) -> None:
    make_shift(run_id="run")
    connection.execute("update orchestration.shifts set ended_at = clock_timestamp() - interval '1 minute'")
    runs = ListedRuns([Run("run", Stage.started, 100)])
    supervise(its_settings, ShiftKind.timer, runs, {})
    assert runs.ended == ["run"]


def test_the_flag_stops_timer_shifts_from_being_started_and_fanout_shifts_not(
    its_settings: Settings, connection: psycopg.Connection
) -> None:
    for flag in ("timer_monitoring", "pubnub_broadcasting"):
        connection.execute("select orchestration.set_flag(%s, 'ann', 'a test of it', false)", [flag])
    timer = supervise(its_settings, ShiftKind.timer, ListedRuns(), {})
    assert timer.launch == 0
    assert "switched off by ann (a test of it)" in timer.reason
    assert supervise(its_settings, ShiftKind.fanout, ListedRuns(), {}).launch == 2


def test_a_database_without_our_schema_is_explained(empty_database: str) -> None:
    settings = Settings(database_url=empty_database)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="sketchy migrate up") as raised:
        supervise(settings, ShiftKind.timer, ListedRuns(), {})
    assert isinstance(raised.value, SupervisionError) or "migrations are not applied" in str(raised.value)


def test_the_release_before_does_not_creep_back(
    its_settings: Settings, make_shift: MakeShift, connection: psycopg.Connection
) -> None:
    """Dagster goes on asking the code server that it knows, which after a deployment is the old one."""
    new = Version("9.9.9", "b", "m", "s")
    for _ in range(2):
        make_shift(age=7200)
    connection.execute("update orchestration.shifts set release = %s", [new.label])
    releases.make_current(connection, new, {}, by="ann", reason="a release")
    found = supervise(its_settings, ShiftKind.timer, ListedRuns(), {})
    assert (found.launch, "2 of the current release stay" in found.reason) == (0, True)
    # One that is missing is replaced all the same: an old one is better than none.
    connection.execute(
        "update orchestration.shifts set ended_at = now()"
        " where shift_id = (select shift_id from orchestration.shifts limit 1)"
    )
    assert supervise(its_settings, ShiftKind.timer, ListedRuns(), {}).launch == 1
    make_shift()
    # Taken back, this release is the current one: the others get successors again.
    releases.make_current(connection, this_version(its_settings), {}, by="ann", reason="back")
    assert supervise(its_settings, ShiftKind.timer, ListedRuns(), {}).launch == 1
