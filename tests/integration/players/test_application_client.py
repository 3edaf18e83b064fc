"""Players act as the application's roles, and go on after a lost connection."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from sketchy_orchestration.local.players.application_client import (
    ApplicationClient,
    PlayersNotAdmittedError,
    StatementFailedError,
)

ANN, BOB = str(uuid4()), str(uuid4())


async def create(client: ApplicationClient, user: str = ANN) -> str:
    game = str(uuid4())
    await client.as_user(
        user,
        "create_game",
        {
            "game_id": game,
            "user_id": user,
            "prompt": "A cat",
            "max_players": 2,
            "round_seconds": 30,
            "voting_seconds": 15,
        },
    )
    return game


async def test_acts_twice_are_done_once(application_url: str) -> None:
    async with ApplicationClient(application_url) as client:
        await client.sign_up({ANN: "ann", BOB: "bob"})
        await client.sign_up({ANN: "ann", BOB: "bob"})
        game = await create(client)
        for _ in range(2):
            await client.as_user(ANN, "join", {"game_id": game, "user_id": ANN})
            await client.as_user(ANN, "start", {"game_id": game})
        drawing = {
            "game_id": game,
            "user_id": ANN,
            "submission_id": str(uuid4()),
            "drawing": "{}",
            "elements": 1,
            "seconds": 2,
        }
        assert (await client.as_user(ANN, "draw", drawing)).rows == [], "drawing has not begun"
        with psycopg.connect(application_url) as conn:
            conn.execute("select public.transition_game_status(%s, 'drawing')", [game])
        assert len((await client.as_user(ANN, "draw", drawing)).rows) == 1
        assert len((await client.as_user(ANN, "draw", drawing)).rows) == 1


async def test_row_level_security_holds_for_players(application_url: str) -> None:
    async with ApplicationClient(application_url) as client:
        await client.sign_up({ANN: "ann", BOB: "bob"})
        game = await create(client)
        with psycopg.connect(application_url) as conn:
            conn.execute("select public.transition_game_status(%s, 'briefing')", [game])
            conn.execute("select public.transition_game_status(%s, 'drawing')", [game])
        drawing = {
            "game_id": game,
            "user_id": ANN,
            "submission_id": str(uuid4()),
            "drawing": "{}",
            "elements": 1,
            "seconds": 2,
        }
        with pytest.raises(StatementFailedError, match="row-level security"):
            await client.as_user(BOB, "draw", drawing)


async def test_a_deadline_is_only_moved_nearer_and_only_in_its_phase(application_url: str) -> None:
    async with ApplicationClient(application_url) as client:
        await client.sign_up({ANN: "ann"})
        game = await create(client)
        await client.as_user(ANN, "start", {"game_id": game})
        near = {"game_id": game, "phase": "briefing", "deadline": client.now() + 5}
        moved = (await client.as_service("move_deadline", near)).rows
        assert moved == [(pytest.approx(near["deadline"], abs=0.001),)]
        later = {**near, "deadline": client.now() + 15}
        assert (await client.as_service("move_deadline", later)).rows == []
        other = {**near, "phase": "drawing", "deadline": client.now() + 1}
        assert (await client.as_service("move_deadline", other)).rows == []


async def test_lost_connections_are_replaced(application_url: str) -> None:
    async with ApplicationClient(application_url, connections=2) as client:
        await client.sign_up({ANN: "ann"})
        with psycopg.connect(application_url, autocommit=True) as conn:
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'sketchy play'"
            )
        await create(client)
        assert client.retries >= 1


async def test_the_request_id_is_the_one_sent(application_url: str) -> None:
    async with ApplicationClient(application_url) as client:
        done = await client.as_service("clock", {})
        assert done.request_id.startswith("play-")
        assert done.began <= done.rows[0][0] + client.clock_error_s
        assert done.rows[0][0] <= done.done + client.clock_error_s


async def test_a_database_without_the_application_admits_nobody(empty_database: str) -> None:
    async with ApplicationClient(empty_database) as client:
        with pytest.raises(PlayersNotAdmittedError, match="needs the application's tables"):
            await client.sign_up({ANN: "ann"})


async def test_no_database_is_said_at_once(unused_tcp_port: int) -> None:
    with pytest.raises(PlayersNotAdmittedError, match="no players at"):
        async with ApplicationClient(f"postgresql://a:secret@127.0.0.1:{unused_tcp_port}/b"):
            pass
