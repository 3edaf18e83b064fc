"""Shifts come and go without a gap: relieved by a successor, at the hard bound, ended by their supervisor."""

from __future__ import annotations

import signal
import time

import psycopg
import pytest

from sketchy_orchestration.local import processes
from tests.faults.timer.at_work import AtWork
from tests.faults.timer.table import Table
from tests.faults.timer.watching import Watching

pytestmark = pytest.mark.xdist_group("timer faults")

PAST_THE_SOFT_BOUND = "31 minutes"
PAST_THE_HARD_BOUND = "25 hours"


def at(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def test_a_hand_over_under_load_is_not_felt(
    connection: psycopg.Connection, table: Table, shifts: AtWork, watching: Watching
) -> None:
    """Without a successor an old shift stays; with one it leaves, and nobody's deadline is met later."""
    table.wait_for(table.deal(150, spread=3.0))
    before = list(watching.latenesses_ms.values())
    watching.forget()

    oldest = shifts.running[0]
    shifts.make_older(oldest, PAST_THE_SOFT_BOUND)
    games = table.deal(300, spread=8.0)
    table.wait_for(games, 60)
    assert shifts.is_at_work(oldest)

    shifts.start()
    assert processes.wait_until(lambda: oldest.poll() is not None, seconds=10)
    assert oldest.returncode == 0
    assert shifts.end_reason(oldest) == "relieved"
    successor = connection.execute(
        """select n.pid from orchestration.shifts o join orchestration.shifts n on n.shift_id = o.relieved_by
           where o.pid = %s""",
        [oldest.pid],
    ).fetchone()
    assert successor == (shifts.running[-1].pid,)
    table.wait_for(games)
    assert table.wrong() == []
    during = list(watching.latenesses_ms.values())
    # 20 ms would be seen, were there a time in which each shift left a game to another.
    assert at(during, 0.5) <= at(before, 0.5) + 10
    assert at(during, 0.95) <= at(before, 0.99) + watching.bound_ms(20)
    assert watching.worst_ms() <= watching.bound_ms(100)


def test_two_old_shifts_are_not_relieved_by_one(table: Table, shifts: AtWork) -> None:
    for process in shifts.running:
        shifts.make_older(process, PAST_THE_SOFT_BOUND)
    old = shifts.running[:]
    shifts.start()
    assert processes.wait_until(lambda: any(one.poll() is not None for one in old), seconds=10)
    # The other has two more heartbeats in which it does not leave.
    (stays,) = [one for one in old if one.poll() is None]
    assert not processes.wait_until(lambda: stays.poll() is not None, seconds=2.5)
    assert shifts.is_at_work(stays)
    games = table.deal(20)
    table.wait_for(games)
    assert table.wrong() == []


def test_at_the_hard_bound_it_leaves_without_a_successor(table: Table, shifts: AtWork) -> None:
    oldest = shifts.running[0]
    shifts.make_older(oldest, PAST_THE_HARD_BOUND)
    games = table.deal(40, spread=3.0)
    assert processes.wait_until(lambda: oldest.poll() is not None, seconds=10)
    assert shifts.end_reason(oldest) == "hard_bound"
    table.wait_for(games)
    assert table.wrong() == []


def test_told_to_stop_it_leaves_within_a_second_and_the_other_goes_on(
    table: Table, shifts: AtWork, watching: Watching
) -> None:
    games = table.deal(120, spread=3.0)
    table.wait_for(games, 30)
    leaving = shifts.running[0]
    asked = time.monotonic()
    leaving.send_signal(signal.SIGTERM)
    assert processes.wait_until(lambda: shifts.end_reason(leaving) == "stopped", seconds=5)
    assert time.monotonic() - asked < 1.0
    table.wait_for(games)
    assert table.wrong() == []
    assert watching.worst_ms() <= watching.bound_ms(100)


def test_ended_by_its_supervisor_it_leaves_at_the_next_heartbeat(table: Table, shifts: AtWork) -> None:
    ended = shifts.running[0]
    shifts.end_as_supervisor(ended)
    assert processes.wait_until(lambda: ended.poll() is not None, seconds=5)
    assert ended.returncode == 0
    assert shifts.end_reason(ended) == "ended_by_supervisor"
    table.wait_for(table.deal(20))
    assert table.wrong() == []
