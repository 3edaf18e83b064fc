"""What an operator does to games, and reads in their timeline."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest

from sketchy_orchestration.database import games, timer
from tests.integration.operator.conftest import Game


def act(connection: psycopg.Connection, action: str, *ids: UUID, **more: object) -> list[games.Acted]:
    return games.act(connection, games.Act(action), list(ids), by="ann", reason="a test", **more)  # type: ignore[arg-type]


def deadline_in(connection: psycopg.Connection, game_id: UUID) -> float:
    row = connection.execute(
        "select extract(epoch from phase_expires_at - clock_timestamp()) from public.games where id = %s",
        [game_id],
    ).fetchone()
    assert row is not None
    return float(row[0])


def phase(connection: psycopg.Connection, game_id: UUID) -> str:
    row = connection.execute("select status::text from public.games where id = %s", [game_id]).fetchone()
    assert row is not None
    return str(row[0])


def overdue(connection: psycopg.Connection, game_id: UUID) -> None:
    connection.execute(
        "update public.games set phase_expires_at = clock_timestamp() - interval '1 ms' where id = %s",
        [game_id],
    )


def test_a_paused_game_stays_and_a_resumed_one_has_the_time_it_had_left(
    connection: psycopg.Connection, game: Game
) -> None:
    one = game()
    act(connection, "pause", one)
    connection.execute(
        """update orchestration.live_games set deadline = deadline - interval '1 minute',
           paused_at = paused_at - interval '1 minute' where game_id = %s""",
        [one],
    )
    assert timer.sweep(connection, limit=500).moved == 0
    assert phase(connection, one) == "briefing"
    act(connection, "resume", one)
    assert deadline_in(connection, one) == pytest.approx(20, abs=2)
    overdue(connection, one)
    assert timer.sweep(connection, limit=500).moved == 1
    assert phase(connection, one) == "drawing"


def test_a_paused_game_does_not_end_drawing_early(connection: psycopg.Connection, game: Game) -> None:
    one = game()
    act(connection, "advance", one)
    connection.execute(
        """insert into public.submissions (game_id, user_id, drawing_data)
           select game_id, user_id, '{}' from public.game_participants where game_id = %s""",
        [one],
    )
    act(connection, "pause", one)
    assert timer.sweep(connection, limit=500, candidates=[one]).moved == 0
    act(connection, "resume", one)
    assert timer.sweep(connection, limit=500, candidates=[one]).moved == 1


def test_extending_tells_the_players(connection: psycopg.Connection, game: Game) -> None:
    one = game()
    act(connection, "extend", one, seconds=30)
    assert deadline_in(connection, one) == pytest.approx(50, abs=2)
    told = connection.execute(
        """select data ->> 'timeRemaining' from orchestration.outbox
           where game_id = %s and type = 'server_timer_sync'""",
        [one],
    ).fetchall()
    assert [int(row[0]) for row in told] == [pytest.approx(50, abs=2)]


def test_advancing_moves_one_phase_with_the_operator_as_cause(
    connection: psycopg.Connection, game: Game
) -> None:
    one = game()
    act(connection, "advance", one)
    assert phase(connection, one) == "drawing"
    row = connection.execute(
        "select cause, handler from orchestration.transitions where game_id = %s and to_phase = 'drawing'",
        [one],
    ).fetchone()
    assert row == ("operator", "orchestration")


def test_a_dry_run_says_what_would_be_and_changes_nothing(connection: psycopg.Connection, game: Game) -> None:
    one, two = game(), game()
    would = act(connection, "advance", one, two, dry_run=True)
    assert [acted.outcome for acted in would] == ["briefing -> drawing"] * 2
    assert phase(connection, one) == phase(connection, two) == "briefing"
    assert connection.execute("select count(*) from orchestration.operator_actions").fetchone() == (0,)


def test_every_act_leaves_who_when_why(connection: psycopg.Connection, game: Game) -> None:
    one = game()
    for action in ("pause", "resume", "advance"):
        act(connection, action, one)
    kinds = [
        (moment.what, moment.detail)
        for moment in games.timeline(connection, one)
        if moment.kind == "operator"
    ]
    assert [what for what, _ in kinds] == ["pause by ann", "resume by ann", "advance by ann"]
    assert all(detail.startswith("a test (") for _, detail in kinds)


def test_refusals_say_what_is_wrong(connection: psycopg.Connection, game: Game) -> None:
    one = game()
    with pytest.raises(games.GameActError, match="a reason is needed"):
        games.act(connection, games.Act.pause, [one], by="ann", reason=" ")
    with pytest.raises(games.GameActError, match="1 to 3600 seconds"):
        act(connection, "extend", one, seconds=4000)
    assert act(connection, "resume", one)[0].outcome == "is not paused"
    assert act(connection, "pause", uuid4()) == []


def break_game(connection: psycopg.Connection, game_id: UUID) -> None:
    # started_at in the future: the CHECK on the order of timestamps refuses drawing_started_at = now.
    connection.execute(
        "update public.games set started_at = now() + interval '1 day' where id = %s", [game_id]
    )
    overdue(connection, game_id)


def test_a_game_set_aside_is_retried_when_told_to(connection: psycopg.Connection, game: Game) -> None:
    one = game()
    break_game(connection, one)
    assert timer.sweep(connection, limit=500).set_aside == 1
    (row,) = games.set_aside(connection, 10)
    assert row["sqlstate"] == "23514"
    assert timer.sweep(connection, limit=500).due == 0
    connection.execute("update public.games set started_at = created_at where id = %s", [one])
    assert games.retry(connection, [one], by="ann", reason="repaired") == 1
    assert timer.sweep(connection, limit=500).moved == 1
    assert games.set_aside(connection, 10) == []


def test_a_game_set_aside_can_be_dropped(connection: psycopg.Connection, game: Game) -> None:
    one = game()
    break_game(connection, one)
    timer.sweep(connection, limit=500)
    assert games.drop(connection, one, by="ann", reason="corrupt") == "cancelled"
    assert phase(connection, one) == "cancelled"
    assert games.set_aside(connection, 10) == []
    with pytest.raises(games.GameActError, match="not set aside"):
        games.drop(connection, one, by="ann", reason="again")
