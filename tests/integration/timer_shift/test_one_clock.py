"""Only the database's clock counts: what the worker's clock says changes nothing."""

from __future__ import annotations

import ast
import inspect
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sketchy_orchestration.database import shifts as shift_rows
from sketchy_orchestration.database import timer as timer_sql
from sketchy_orchestration.domain import timer as decisions
from sketchy_orchestration.local import processes
from sketchy_orchestration.realtime import one_by_one, stop, timer_shift
from sketchy_orchestration.realtime.shift import EndReason, RunningShift, ShiftKind, new_identity
from sketchy_orchestration.realtime.timer_shift import start_timer_shift
from sketchy_orchestration.settings import Settings
from tests.faults.clock import HOUR, WrongClock
from tests.faults.timer.at_work import AtWork
from tests.faults.timer.table import Table
from tests.faults.timer.watching import Watching

pytestmark = pytest.mark.xdist_group("timer faults")

WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today", "time.localtime"}


@contextmanager
def running_shift(settings: Settings) -> Iterator[RunningShift]:
    """A shift in a thread of this process."""
    running = start_timer_shift(new_identity(ShiftKind.timer), settings)
    try:
        yield running
    finally:
        running.stop()
        assert running.join(5)


def test_a_jumping_clock_changes_nothing(
    settings: Settings, database_url: str, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = itertools.cycle([-86_400.0, 0.0, 3_600.0, 1e9])
    honest = time.time
    with running_shift(settings) as running, Watching(database_url) as watching:
        monkeypatch.setattr(time, "time", lambda: honest() + next(jumps))
        monkeypatch.setattr(time, "time_ns", lambda: int((honest() + next(jumps)) * 1e9))
        games = table.deal(80)
        table.wait_for(games)
        monkeypatch.undo()
        assert table.wrong() == []
        assert watching.worst_ms() <= watching.bound_ms(100)
    assert running.end_reason is EndReason.stopped


@pytest.mark.parametrize("module", [timer_shift, one_by_one, stop, decisions, timer_sql, shift_rows])
def test_nothing_on_the_way_reads_the_wall_clock(module: object) -> None:
    read = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(inspect.getsource(module)))  # type: ignore[arg-type]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert read.isdisjoint(WALL_CLOCKS)


def test_a_worker_that_lives_tomorrow(
    database_url: str,
    table: Table,
    shifts: AtWork,
    watching: Watching,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """… and whose clock jumps an hour on and back while games are due."""
    clock = WrongClock(tmp_path, 24 * HOUR)
    honest = shifts.running[:]
    with monkeypatch.context() as patch:
        for name, value in clock.environment.items():
            patch.setenv(name, value)
        confused = shifts.start()
    assert clock.is_loaded_by(confused.pid)
    for process in honest:
        shifts.kill(process)
    assert processes.wait_until(lambda: shifts.is_at_work(confused), seconds=5)
    watching.forget()
    games = table.deal(80)
    for ended, ahead in ((15, 25 * HOUR), (30, 24 * HOUR), (45, 23 * HOUR), (60, 24 * HOUR)):
        table.wait_for(games, ended)
        clock.jump_to(ahead)
    table.wait_for(games)
    assert table.wrong() == []
    assert watching.worst_ms() <= watching.bound_ms(100)
    assert shifts.is_at_work(confused)
