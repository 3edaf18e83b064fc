"""Results: what the sweep writes equals what the application's own function makes of the same votes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sketchy_orchestration.local.application import Shape
from tests.integration.sweep.conftest import MakeScene
from tests.integration.sweep.scene import Scene

SHAPES: tuple[Shape, ...] = ("current", "old", "in_database_sweep")


def results(scene: Scene, game: str) -> dict[str, Any]:
    """Each player's placement, votes and whether theirs is the winning drawing; and who won."""
    return {
        "players": scene.rows(
            "select p.user_id::text, p.placement, s.vote_count, s.is_winner from public.game_participants p"
            " left join public.submissions s on s.game_id = p.game_id and s.user_id = p.user_id"
            " where p.game_id = %s order by 1",
            game,
        ),
        "winner": scene.one("select winner_id::text from public.games where id = %s", game),
    }


@st.composite
def ballots(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Seconds at which each player drew (negative: never), votes (voter, for whom), and who left."""
    drew = draw(st.lists(st.integers(-1, 2), min_size=1, max_size=5))
    with_drawing = [place for place, moment in enumerate(drew) if moment >= 0]
    votes = []
    for voter in range(len(drew)):
        choices = [place for place in with_drawing if place != voter]
        if choices and draw(st.booleans()):
            votes.append((voter, draw(st.sampled_from(choices))))
    left = draw(st.lists(st.integers(0, len(drew) - 1), max_size=2, unique=True))
    return drew, votes, left


@pytest.mark.parametrize("shape", SHAPES)
def test_as_the_application_calculates_them(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)

    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(ballots())
    def equal(ballot: tuple[list[int], list[tuple[int, int]], list[int]]) -> None:
        drew, votes, left = ballot
        game = scene.game("voting", players=len(drew))
        drawings = {}
        for place, moment in enumerate(drew):
            if moment >= 0:
                drawings[place] = scene.draw(game.id, game.users[place])
                scene.do(
                    "update public.submissions"
                    " set submitted_at = now() - interval '1 hour' + %s * interval '1 s' where id = %s",
                    moment,
                    drawings[place],
                )
        for voter, choice in votes:
            scene.vote(game.id, game.users[voter], drawings[choice])
        for place in left:
            scene.leave(game.id, game.users[place])
        with scene.conn.transaction(force_rollback=True):
            scene.do("select public.calculate_game_results(%s)", game.id)
            theirs = results(scene, game.id)
        assert scene.sweep().moved == 1
        assert results(scene, game.id) == theirs

    equal()


def test_what_the_players_are_told(scene: Scene) -> None:
    game = scene.game("voting", players=3, drawings=2)
    first, second, third = game.users
    scene.vote(game.id, third, game.drawings[second])
    scene.sweep()
    data = scene.one(
        "select data from orchestration.outbox where game_id = %s and type = 'game_completed'", game.id
    )
    assert data["winner"] == {
        "userId": second,
        "username": f"player {second}",
        "submissionId": game.drawings[second],
    }
    told = {one["userId"]: (one.get("placement"), one["voteCount"]) for one in data["results"]}
    assert told == {second: (1, 1), first: (2, 0), third: (None, 0)}
    assert data["completedAt"] == scene.one(
        "select orchestration.iso(completed_at) from public.games where id = %s", game.id
    )


def test_a_game_that_rested_in_results_keeps_them(make_scene: MakeScene) -> None:
    scene = make_scene("in_database_sweep")
    game = scene.game("voting", drawings=2, due_in=60)
    scene.vote(game.id, game.users[0], game.drawings[game.users[1]])
    scene.do("select public.transition_game_status(%s, 'results')", game.id)
    before = results(scene, game.id)
    assert before["winner"] == game.users[1]
    scene.do("update public.games set phase_expires_at = clock_timestamp() where id = %s", game.id)
    assert scene.sweep().moved == 1
    assert results(scene, game.id) == before
    assert scene.transitions(game.id)[-2:] == [
        ("voting", "results", "application", False),
        ("results", "completed", "timer", False),
    ]
    assert scene.events(game.id)[-3:] == ["timer_expired", "phase_changed", "game_completed"]
