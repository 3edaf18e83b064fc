"""We do not touch a legacy game, and the legacy handler none of ours, in every shape of the application."""

from __future__ import annotations

from typing import get_args

import psycopg
import pytest

from sketchy_orchestration.local.application import Shape
from tests.integration.sweep.conftest import MakeScene
from tests.integration.sweep.scene import Scene

SHAPES = get_args(Shape)
PHASES = ("briefing", "drawing", "voting")
EVERYTHING = """
    select to_jsonb(r) from public.games r where r.id = %(id)s
    union all select jsonb_agg(r order by r.id) from public.game_participants r where r.game_id = %(id)s
    union all select jsonb_agg(r order by r.id) from public.submissions r where r.game_id = %(id)s
    union all select jsonb_agg(r order by r.id) from public.game_transition_log r where r.game_id = %(id)s
"""


def everything(scene: Scene, game: str) -> list[tuple[object, ...]]:
    """All the application knows of a game."""
    return scene.conn.execute(EVERYTHING, {"id": game}).fetchall()


def legacy_sweep(scene: Scene) -> None:
    """All the sweeps the application has: the cron's, the lobbies', and one along the list of due games."""
    with scene.another(autocommit=True) as conn:
        conn.execute("select public.monitor_game_timers_db()")
        conn.execute("select public.cleanup_expired_games()")
        for game, status in conn.execute(
            "select game_id, current_status::text from public.find_expired_games(50)"
        ).fetchall():
            after = {"briefing": "drawing", "drawing": "voting", "voting": "completed"}[status]
            conn.execute("select public.transition_game_status(%s, %s)", [game, after])


def due_games(scene: Scene, *, enrolled: bool) -> dict[str, str]:
    """A game in each phase, half a minute late, every drawing in; their ids by phase."""
    # Without the timer columns a legacy game has no deadline anybody could see, but a lobby has.
    phases = (*PHASES, "waiting") if scene.timer_columns else ("waiting",)
    return {
        phase: scene.game(phase, due_in=-30, players=2, drawings=2, enrolled=enrolled).id for phase in phases
    }


def moved(scene: Scene, games: dict[str, str]) -> set[str]:
    return {phase for phase, game in games.items() if scene.phase(game) != phase}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_legacy_handler_moves_none_of_ours(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    ours, theirs = due_games(scene, enrolled=True), due_games(scene, enrolled=False)
    before = {phase: everything(scene, game) for phase, game in ours.items()}
    legacy_sweep(scene)
    assert {phase: everything(scene, game) for phase, game in ours.items()} == before
    if scene.timer_columns:  # so that its restraint is not idleness
        assert set(PHASES) <= moved(scene, theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_sweep_moves_none_of_theirs(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    ours, theirs = due_games(scene, enrolled=True), due_games(scene, enrolled=False)
    before = {phase: everything(scene, game) for phase, game in theirs.items()}
    told = scene.one("select count(*) from public.legacy_broadcasts")
    scene.sweep()
    assert {phase: everything(scene, game) for phase, game in theirs.items()} == before
    assert moved(scene, ours) == set(ours)
    assert all(scene.events(game) == [] for game in theirs.values())
    assert scene.one("select count(*) from public.legacy_broadcasts") == told


@pytest.mark.parametrize("shape", SHAPES)
def test_players_of_an_enrolled_game_are_told_of_by_us_alone(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    ours, theirs = scene.game(due_in=60, players=0), scene.game(due_in=60, players=0, enrolled=False)
    for game, told_by_us in ((ours, True), (theirs, False)):
        before = scene.one("select count(*) from public.legacy_broadcasts")
        scene.do("select public.transition_game_status(%s, 'briefing')", game.id)
        by_legacy = scene.one("select count(*) from public.legacy_broadcasts") > before
        assert (bool(scene.events(game.id)), by_legacy) == (told_by_us, not told_by_us)


def test_a_person_may_still_move_an_enrolled_game(make_scene: MakeScene) -> None:
    """Only a sweep is kept away: a move the application asks for by name is its own business."""
    scene = make_scene("in_database_sweep")
    game = scene.game("briefing", due_in=60)
    with scene.another(autocommit=True) as conn:
        conn.execute("select public.transition_game_status(%s, 'drawing')", [game.id])
    assert scene.phase(game.id) == "drawing"
    with pytest.raises(psycopg.Error), scene.another(autocommit=True) as conn:
        conn.execute("select public.transition_game_status(%s, 'waiting')", [game.id])


@pytest.mark.parametrize("shape", SHAPES)
def test_who_handles_a_game_is_not_guessed_while_it_cannot_be_asked(
    make_scene: MakeScene, shape: Shape
) -> None:
    scene = make_scene(shape)
    ours = due_games(scene, enrolled=True)
    before = {phase: everything(scene, game) for phase, game in ours.items()}
    with scene.another(autocommit=False) as holder:
        holder.execute("reset role")
        holder.execute("lock table orchestration.enrolments in access exclusive mode")
        with scene.another(autocommit=True) as conn:
            conn.execute("select public.monitor_game_timers_db()")
            conn.execute("select public.cleanup_expired_games()")
    assert {phase: everything(scene, game) for phase, game in ours.items()} == before
