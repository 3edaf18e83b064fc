"""A game whose move never ends: somebody's trigger sleeps. Nothing inside the database can end that."""

from __future__ import annotations

import psycopg
import pytest

from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.realtime.one_by_one import sweep_after_time_out, try_hanging_again
from sketchy_orchestration.realtime.shift import ShiftKind, new_identity
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


def test_a_shift_finds_it_and_goes_on(scene: Scene) -> None:
    bad, *good = [scene.game("briefing") for _ in range(4)]
    hang(scene, bad.id)
    settings = Settings(_env_file=None, database_url=scene.url)  # type: ignore[call-arg,arg-type]
    shift = start_timer_shift(new_identity(ShiftKind.timer), settings)
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
