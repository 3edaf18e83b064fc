"""A shift is killed, or paused, in the middle of its work: the other one goes on within its 20 ms."""

from __future__ import annotations

import os
import random
import signal
import sys

import pytest

from sketchy_orchestration.local import processes
from tests.faults.timer.at_work import AtWork
from tests.faults.timer.table import Table
from tests.faults.timer.watching import Watching

pytestmark = [pytest.mark.fault]

ROUNDS = int(os.environ.get("SKETCHY_FAULT_ROUNDS", "3"))
FIGURE_MS = 100


@pytest.mark.timeout(60 + 15 * ROUNDS)
def test_killed_at_random_moments_under_load(
    table: Table, shifts: AtWork, watching: Watching, chance: random.Random
) -> None:
    for number in range(ROUNDS):
        games = table.deal(120)
        table.wait_for(games, chance.randrange(len(games) - 10))
        victim = chance.choice(shifts.running)
        shifts.kill(victim)
        table.wait_for(games)
        sys.stdout.write(
            f"round {number}: worst {watching.worst_ms():.0f} ms, machine {watching.machine_ms():.0f} ms\n"
        )
        shifts.start()
    assert table.wrong() == []
    assert watching.worst_ms() <= watching.bound_ms(FIGURE_MS)


def test_both_killed_and_replaced(table: Table, shifts: AtWork, watching: Watching) -> None:
    games = table.deal(80)
    table.wait_for(games, 20)
    for victim in list(shifts.running):
        shifts.kill(victim)
    shifts.start()
    table.wait_for(games)
    assert table.wrong() == []


def test_paused_and_continued(
    table: Table, shifts: AtWork, watching: Watching, chance: random.Random
) -> None:
    first = table.deal(80)
    table.wait_for(first, chance.randrange(60))
    victim = shifts.running[0]
    victim.send_signal(signal.SIGSTOP)
    table.wait_for(first)
    assert watching.worst_ms() <= watching.bound_ms(FIGURE_MS)

    # Until the other has noticed the silence and moved up a rank.
    assert processes.wait_until(lambda: not shifts.is_at_work(victim), seconds=10)
    second = table.deal(80)
    table.wait_for(second, chance.randrange(60))
    victim.send_signal(signal.SIGCONT)
    table.wait_for(second)
    assert processes.wait_until(lambda: shifts.is_at_work(victim), seconds=10), shifts.said()
    table.wait_for(table.deal(40))
    assert table.wrong() == []
    assert watching.worst_ms() <= watching.bound_ms(FIGURE_MS)


def test_ended_while_paused_it_leaves_when_continued(
    table: Table, shifts: AtWork, watching: Watching
) -> None:
    victim = shifts.running[0]
    victim.send_signal(signal.SIGSTOP)
    assert processes.wait_until(lambda: not shifts.is_at_work(victim), seconds=10)
    shifts.end_as_supervisor(victim)
    games = table.deal(40, first=1.2)
    table.wait_for(games, 10)
    victim.send_signal(signal.SIGCONT)
    assert victim.wait(10) == 0
    assert "ended_by_supervisor" in shifts.said()
    table.wait_for(games)
    assert table.wrong() == []
