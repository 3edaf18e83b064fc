"""What the application does is recorded with its cause and told with its request id."""

from __future__ import annotations

import json

import pytest

from sketchy_orchestration.local.application import Shape
from tests.integration.sweep.conftest import MakeScene
from tests.integration.sweep.scene import Scene
from tests.integration.triggers.statements import Battery

SHAPES: tuple[Shape, ...] = ("current", "old", "in_database_sweep")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_game_as_its_players_hear_it(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    scene.flag("enrolment", value=100)
    with scene.another(autocommit=True) as conn:
        battery = Battery(conn, scene.users(3))
        battery.begin()
        battery.play()
        battery.end()
    assert scene.events(battery.game) == [
        *["player_joined"] * 3,
        "player_ready",
        "player_left",
        "player_joined",
        "game_started",
        "phase_changed",
        "phase_changed",
        *["drawing_submitted"] * 2,
        "phase_changed",
        *["vote_cast"] * 2,
        "player_left",
        "phase_changed",
        "game_completed",
    ]
    assert {(cause, rebased) for _, _, cause, rebased in scene.transitions(battery.game)} == {
        ("application", False)
    }
    assert scene.failures() == []
    assert scene.one("select count(*) from public.legacy_broadcasts") == 0


@pytest.mark.parametrize(
    "how",
    [
        "select public.transition_game_status(%s, 'drawing')",
        "update public.games set status = 'drawing', drawing_started_at = now() where id = %s",
    ],
)
def test_a_move_by_the_application_is_recorded_with_its_cause(scene: Scene, how: str) -> None:
    game = scene.game("briefing", due_in=15)
    left = scene.live(game.id)
    scene.do(how, game.id)
    moved = scene.rows(
        "select cause, handler, deadline, next_deadline, lateness_ms from orchestration.transitions"
        " where game_id = %s order by id desc limit 1",
        game.id,
    )[0]
    assert left is not None
    now = scene.live(game.id)
    assert now is not None
    assert moved == ("application", "orchestration", left[1], now[1], None)
    assert now[1] == scene.one("select phase_expires_at from public.games where id = %s", game.id)


def test_several_games_moved_by_one_statement(scene: Scene) -> None:
    games = {scene.game("briefing", due_in=15, players=0).id for _ in range(5)}
    scene.do("update public.games set status = 'cancelled'")
    assert {
        game
        for (game,) in scene.rows(
            "select game_id::text from orchestration.transitions where to_phase = 'cancelled'"
        )
    } == games
    assert scene.one("select count(*) from orchestration.live_games") == 0


def test_a_legacy_game_is_recorded_and_not_told(scene: Scene) -> None:
    game = scene.game("briefing", due_in=15, enrolled=False)
    deadline = scene.one("select phase_expires_at from public.games where id = %s", game.id)
    scene.do("select public.transition_game_status(%s, 'drawing')", game.id)
    assert scene.rows(
        "select handler, cause, deadline from orchestration.transitions"
        " where game_id = %s and to_phase = 'drawing'",
        game.id,
    ) == [("legacy", "application", deadline)]
    assert scene.events(game.id) == []


def test_the_callers_request_id_is_in_log_outbox_and_nowhere_else(scene: Scene) -> None:
    game = scene.game("briefing", due_in=15)
    headers = json.dumps({"host": "x", "x-request-id": "req-4711", "accept": "*/*"})
    with scene.another() as conn:
        conn.execute("select set_config('request.headers', %s, true)", [headers])
        conn.execute("select public.transition_game_status(%s, 'drawing')", [game.id])
        conn.commit()
        conn.execute("select public.transition_game_status(%s, 'voting')", [game.id])
        conn.commit()
    logged = dict(
        scene.rows("select to_phase, request_id from orchestration.transitions where game_id = %s", game.id)
    )
    told = dict(
        scene.rows(
            "select data ->> 'newPhase', request_id from orchestration.outbox"
            " where game_id = %s and type = 'phase_changed'",
            game.id,
        )
    )
    assert logged["drawing"] == told["drawing"] == "req-4711"
    assert logged["voting"] == told["voting"]
    assert len(logged["voting"]) == 36


@pytest.mark.parametrize(
    "headers",
    [
        "",
        "not json",
        '{"x-request-id": ""}',
        '{"x-request-id": "a b"}',
        '{"x-request-id": 7}',
        json.dumps({"x-request-id": "x" * 200}),
    ],
)
def test_what_is_no_request_id_is_replaced(scene: Scene, headers: str) -> None:
    game = scene.game("briefing", due_in=15)
    with scene.another() as conn:
        conn.execute("select set_config('request.headers', %s, true)", [headers])
        conn.execute("select public.transition_game_status(%s, 'drawing')", [game.id])
        conn.commit()
    ids = {
        *scene.rows("select request_id from orchestration.transitions where to_phase = 'drawing'"),
        *scene.rows("select request_id from orchestration.outbox where data ->> 'newPhase' = 'drawing'"),
    }
    assert len(ids) == 1
    assert len(ids.pop()[0]) == 36
    assert scene.failures() == []


def test_one_sweep_has_one_request_id_also_in_the_applications_log(scene: Scene) -> None:
    games = [scene.game("briefing") for _ in range(3)]
    scene.sweep()
    ids = {
        *scene.rows("select request_id from orchestration.transitions where cause = 'timer'"),
        *scene.rows("select request_id from orchestration.outbox where type = 'timer_expired'"),
        *scene.rows(
            "select split_part(triggered_by, ':', 2) from public.game_transition_log"
            " where triggered_by like 'orchestration:%%'"
        ),
    }
    assert len(games) == 3
    assert len(ids) == 1


def test_switched_off_triggers_do_nothing_at_all(scene: Scene) -> None:
    scene.flag("triggers", enabled=False)
    with scene.another(autocommit=True) as conn:
        Battery(conn, scene.users(3)).whole()
    for table in ("enrolments", "live_games", "outbox", "transitions", "trigger_failures"):
        assert scene.one(f"select count(*) from orchestration.{table}") == 0
