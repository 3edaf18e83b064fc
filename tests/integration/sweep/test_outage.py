"""After an outage: one phase at a time. Around a switch-off: nothing commits after it has committed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg

from sketchy_orchestration.local.processes import wait_until
from tests.integration.sweep.scene import Scene


def test_after_an_outage_games_go_on_from_now_one_phase_at_a_time(scene: Scene) -> None:
    games = [scene.game("briefing", due_in=-3600, players=1, drawings=0) for _ in range(3)]
    swept = scene.sweep()
    assert (swept.moved, swept.more) == (3, False)
    for game in games:
        assert scene.transitions(game.id)[-1] == ("briefing", "drawing", "timer", True)
        lasts = scene.one(
            "select extract(epoch from l.deadline - g.drawing_started_at)::float8"
            " from orchestration.live_games l join public.games g on g.id = l.game_id where g.id = %s",
            game.id,
        )
        assert lasts == 60
    assert scene.sweep().due == 0


def test_everything_overdue_takes_as_many_sweeps_as_there_are_batches(scene: Scene) -> None:
    for _ in range(10):
        scene.game("briefing", due_in=-60, players=0)
    moved = []
    while (swept := scene.sweep(limit=4)).moved:
        moved.append((swept.moved, swept.more))
    assert moved == [(4, True), (4, True), (2, False)]


def test_a_late_sweep_within_a_second_keeps_the_schedule(scene: Scene) -> None:
    game = scene.game("briefing", due_in=-0.5)
    before = scene.live(game.id)
    assert scene.sweep().moved == 1
    after = scene.live(game.id)
    assert before is not None
    assert after is not None
    assert (after[1] - before[1]).total_seconds() == 60


def test_a_switch_off_waits_for_sweeps_at_work_and_nothing_commits_after_it(scene: Scene) -> None:
    games = [scene.game("briefing") for _ in range(3)]
    waits = "select wait_event = 'advisory' from pg_stat_activity where pid = %s"
    with (
        scene.another("sketchy_timer") as sweeper,
        psycopg.connect(scene.url) as operator,
        scene.another("sketchy_timer", autocommit=True) as late,
        ThreadPoolExecutor(2) as pool,
    ):
        assert scene.sweep(sweeper, limit=1).moved == 1
        operator.execute("select orchestration.set_flag('timer_monitoring', 'test', 'stop', false)")
        # A transaction left open after its change holds up nobody.
        assert scene.sweep(limit=1).moved == 1
        switch = pool.submit(operator.commit)
        assert wait_until(lambda: scene.one(waits, operator.info.backend_pid), seconds=10)
        # Not committed yet, but no sweep can slip in any more.
        late_sweep = pool.submit(scene.sweep, late)
        assert wait_until(lambda: scene.one(waits, late.info.backend_pid), seconds=10)
        sweeper.commit()
        switch.result(10)
        swept = late_sweep.result(10)
    assert swept.switched_off
    assert (swept.due, swept.moved) == (0, 0)
    assert sorted(scene.phase(game.id) for game in games) == ["briefing", "drawing", "drawing"]
    assert scene.sweep().switched_off
    scene.flag("timer_monitoring", enabled=True)
    assert scene.sweep().moved == 1


def test_no_other_change_waits_for_a_sweep_that_hangs_nor_holds_up_others(scene: Scene) -> None:
    for _ in range(2):
        scene.game("briefing")
    with scene.another("sketchy_timer") as hanging:
        assert scene.sweep(hanging, limit=1).moved == 1
        scene.do("set lock_timeout = '5s'")
        scene.flag("enrolment", value=50)
        scene.flag("grace_seconds", value=5)
        scene.flag("timer_sync_seconds", enabled=True)
        assert scene.sweep(limit=1).moved == 1


def test_a_switch_off_taken_back_changes_nothing(scene: Scene) -> None:
    scene.game("briefing")
    with psycopg.connect(scene.url) as operator:
        operator.execute("select orchestration.set_flag('timer_monitoring', 'test', 'stop', false)")
        operator.rollback()
    assert scene.sweep().moved == 1


def test_without_triggers_nothing_moves_and_afterwards_everything_is_repaired(scene: Scene) -> None:
    ours, moved_meanwhile = scene.game("briefing"), scene.game("briefing", due_in=30)
    scene.flag("triggers", enabled=False)
    told = scene.events(moved_meanwhile.id)
    scene.put(moved_meanwhile.id, "drawing", -0.1)
    unseen = scene.game("briefing")
    assert scene.sweep().switched_off
    assert scene.events(moved_meanwhile.id) == told
    scene.flag("triggers", enabled=True)
    assert scene.live(unseen.id) is None
    scene.do("select * from orchestration.reconcile()")
    assert scene.events(moved_meanwhile.id) == [*told, "phase_changed"]
    # One player is missing a drawing: the grace period.
    swept = scene.sweep()
    assert (swept.moved, swept.extended) == (1, 1)
    assert scene.phase(ours.id) == "drawing"
    assert scene.phase(unseen.id) == "briefing"
