"""A game whose move never ends: somebody's trigger sleeps. Nothing inside the database can end that."""

from __future__ import annotations

import os
import signal

import psycopg
import pytest

from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.realtime import timer_shift
from sketchy_orchestration.realtime.one_by_one import sweep_after_time_out, try_hanging_again
from sketchy_orchestration.realtime.shift import EndReason, RunningShift, ShiftKind, new_identity
from sketchy_orchestration.realtime.timer_shift import start_timer_shift
from sketchy_orchestration.settings import Settings
from tests.integration.sweep.scene import Scene


def hang(scene: Scene, game: str) -> None:
    """Somebody's trigger that sleeps when this game leaves briefing."""
    scene.do(
        """
        create function public.hang() returns trigger language plpgsql as $$
        begin
            if new.status <> 'briefing' then perform pg_sleep(60); end if;
            return new;
        end $$
        """
    )
    scene.do(
        "create trigger hang before update on public.games for each row"
        f" when (old.id = '{game}') execute function public.hang()"
    )


def make_retry_due(scene: Scene) -> None:
    scene.do("update orchestration.set_aside set retry_at = clock_timestamp()")


def test_it_is_set_aside_and_takes_nobody_along(scene: Scene) -> None:
    bad, *good = [scene.game("briefing") for _ in range(5)]
    hang(scene, bad.id)
    with scene.another("sketchy_timer", autocommit=True) as sweeper:
        sweeper.execute("set statement_timeout = '300ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            scene.sweep(sweeper)
        swept = sweep_after_time_out(sweeper)
        assert (swept.moved, swept.set_aside) == (4, 1)
        assert {scene.phase(game.id) for game in good} == {"drawing"}
        kept = scene.set_aside(bad.id)
        assert kept is not None
        assert (kept[0], kept[2]) == ("57014", 1)
        assert "hangs" in kept[1]

        # Its backoff over, it is still not taken up with others, who would be undone with it.
        make_retry_due(scene)
        other = scene.game("briefing")
        swept = scene.sweep(sweeper)
        assert (swept.moved, swept.locked) == (1, 0)
        assert scene.phase(other.id) == "drawing"
        again = try_hanging_again(sweeper)
        assert again is not None
        assert (again.moved, again.set_aside) == (0, 1)
        assert try_hanging_again(sweeper) is None
        kept = scene.set_aside(bad.id)
        assert kept is not None
        assert kept[2] == 2

        scene.do("drop trigger hang on public.games")
        make_retry_due(scene)
        again = try_hanging_again(sweeper)
        assert again is not None
        assert again.moved == 1
    assert scene.set_aside(bad.id) is None
    assert scene.transitions(bad.id)[-1][:3] == ("briefing", "drawing", "timer")


def start(scene: Scene) -> RunningShift:
    settings = Settings(_env_file=None, database_url=scene.url)  # type: ignore[call-arg,arg-type]
    return start_timer_shift(new_identity(ShiftKind.timer), settings)


def test_a_shift_finds_it_and_goes_on(scene: Scene) -> None:
    bad, *good = [scene.game("briefing") for _ in range(4)]
    hang(scene, bad.id)
    shift = start(scene)
    try:
        assert wait_until(lambda: {scene.phase(game.id) for game in good} == {"drawing"}, seconds=20)
        assert scene.set_aside(bad.id) is not None
        later = scene.game("briefing", due_in=0.2)
        assert wait_until(lambda: scene.phase(later.id) == "drawing", seconds=5)
        scene.do("drop trigger hang on public.games")
        assert wait_until(lambda: scene.phase(bad.id) == "drawing", seconds=20)
    finally:
        shift.stop()
        assert shift.join(10)
    (numbers,) = [report.numbers for report in shift.reports()]
    assert numbers["slow_sweeps"] == 1
    assert numbers["set_aside"] >= 1


@pytest.mark.parametrize("frozen", [False, True], ids=["it can be cancelled", "its server is frozen"])
def test_a_stop_breaks_off_what_hangs(scene: Scene, monkeypatch: pytest.MonkeyPatch, frozen: bool) -> None:
    """Not by its time-out, which here would come after a minute."""
    monkeypatch.setattr(timer_shift, "SWEEP_TIMEOUT", 60.0)
    bad = scene.game("briefing")
    hang(scene, bad.id)
    hangs = """select pid from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()
               and application_name = 'sketchy timer shift'"""
    shift = start(scene)
    try:
        assert wait_until(lambda: scene.one(hangs) is not None, seconds=20)
        server = scene.one(hangs)
        if frozen:
            os.kill(server, signal.SIGSTOP)
    finally:
        shift.stop()
        left = shift.join(20)
        if frozen:
            os.kill(server, signal.SIGCONT)
    assert left
    assert (shift.end_reason, shift.error) == (EndReason.stopped, None)
    # Nobody hears of the end over a session that had to be cut off.
    assert scene.one("select end_reason from orchestration.shifts") == (None if frozen else "stopped")
    assert scene.set_aside(bad.id) is None
    assert wait_until(lambda: scene.one(hangs) is None, seconds=20)


def test_a_stop_is_heard_between_games_that_hang(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them would take longer than anybody waits; meanwhile the heart beats."""
    monkeypatch.setattr(timer_shift, "SWEEP_TIMEOUT", 0.5)
    games = [scene.game("briefing", players=0) for _ in range(40)]
    scene.do(
        "create function public.hang() returns trigger language plpgsql as"
        " $$ begin perform pg_sleep(60); return new; end $$"
    )
    scene.do("create trigger hang before update on public.games for each row execute function public.hang()")
    aside = "select count(*) from orchestration.set_aside"
    shift = start(scene)
    try:
        beat = "select heartbeat_at > started_at + interval '1.5 s' from orchestration.shifts"
        assert wait_until(lambda: scene.one(beat), seconds=20)
    finally:
        shift.stop()
        assert shift.join(20)
    assert shift.end_reason is EndReason.stopped
    assert 0 < scene.one(aside) < len(games)
    assert scene.one("select end_reason from orchestration.shifts") == "stopped"
