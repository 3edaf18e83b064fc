"""What our triggers write is what the types of the events promise."""

from __future__ import annotations

import jsonschema_rs
import psycopg
import pytest

from sketchy_orchestration.gateway.client_types import json_schema
from sketchy_orchestration.local.application import Shape, install
from tests.integration.gateway.serving import EVENTS, Serving, World

WRITTEN = {
    "player_joined",
    "player_ready",
    "player_left",
    "game_started",
    "phase_changed",
    "timer_expired",
    "server_timer_sync",
    "drawing_submitted",
    "vote_cast",
    "game_completed",
}


def test_every_event_of_a_whole_game(gateway: Serving, world: World) -> None:
    conn = world.conn
    world.enrol_all()
    ann, bob, eve = (world.user() for _ in range(3))
    game = world.game(ann, bob, eve)

    def due() -> None:
        conn.execute(
            "update public.games set phase_expires_at = now() - interval '10 ms' where id = %s", [game]
        )
        conn.execute("select orchestration.sweep()")

    conn.execute("update public.game_participants set is_ready = true where game_id = %s", [game])
    conn.execute("select public.transition_game_status(%s, 'briefing')", [game])
    due()
    conn.execute(
        "update public.game_participants set left_at = clock_timestamp() where game_id = %s and user_id = %s",
        [game, eve],
    )
    drawing = conn.execute(
        "insert into public.submissions (game_id, user_id, drawing_data) values (%s, %s, '{}') returning id",
        [game, ann],
    ).fetchone()
    assert drawing is not None
    due()  # bob has not drawn: the grace period
    due()
    conn.execute(
        "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)",
        [game, bob, drawing[0]],
    )
    due()
    count = conn.execute("select count(*) from orchestration.outbox where game_id = %s", [game]).fetchone()
    assert count is not None
    world.sequence(game, *["delivered"] * count[0])
    told = gateway.player(ann, EVENTS, {"gameId": game}).json()
    assert told["complete"] is True
    assert {each["event"]["type"] for each in told["events"]} == WRITTEN
    valid = jsonschema_rs.validator_for(json_schema())
    for each in told["events"]:
        problems = [error.message for error in valid.iter_errors(each["event"])]
        assert problems == [], each["event"]


@pytest.mark.parametrize("shape", ["old", "in_database_sweep"])
def test_the_clock_on_other_versions_of_the_application(empty_database: str, shape: Shape) -> None:
    from sketchy_orchestration.database.migrate import migrate_up

    install(empty_database, shape)
    migrate_up(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        world = World(conn)
        player = world.user()
        game = world.game(player)
        conn.execute("select public.transition_game_status(%s, 'briefing')", [game])
        timer = conn.execute(
            "select phase, plays, time_remaining, phase_duration from orchestration.game_timer(%s, %s)",
            [game, player],
        ).fetchone()
    assert timer is not None
    assert (timer[0], timer[1], timer[3]) == ("briefing", True, 20)
    assert 18 <= timer[2] <= 20
