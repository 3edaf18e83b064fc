"""The application and the sweep at the same moment, on connections of their own."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from sketchy_orchestration.local.processes import wait_until
from tests.integration.sweep.scene import Connection, Scene

BEFORE_DEADLINE = """
    select clock_timestamp() < phase_expires_at + make_interval(secs => %s)
    from public.games where id = %s and status = 'drawing'
"""


def waits_for_a_lock(scene: Scene, conn: Connection) -> bool:
    return bool(
        scene.one(
            "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s", conn.info.backend_pid
        )
    )


@pytest.mark.parametrize("deadline", ["clock_timestamp() + interval '1 hour'", "null"])
def test_a_deadline_moved_or_cleared_is_honoured(scene: Scene, deadline: str) -> None:
    game, other = scene.game("voting"), scene.game("voting")
    with scene.another() as app:
        app.execute(f"update public.games set phase_expires_at = {deadline} where id = %s", [game.id])
        swept = scene.sweep()
        assert (swept.moved, swept.locked) == (1, 1)
        app.commit()
    assert scene.sweep().moved == 0
    assert (scene.phase(game.id), scene.phase(other.id)) == ("voting", "completed")


@pytest.mark.parametrize("by", ["an update", "an insert", "a lobby", "an operator"])
def test_a_deadline_set_near_by_somebody_else_wakes_the_sweeper(scene: Scene, by: str) -> None:
    """Nearer than a sweeper's look ahead; what lies further away wakes nobody."""
    game = scene.game("voting", due_in=60).id
    near, far = ("clock_timestamp() + interval '200 ms'", "clock_timestamp() + interval '2 min'")
    insert = "insert into public.games (prompt, status, started_at, phase_expires_at)"
    statement = {
        "an update": f"update public.games set phase_expires_at = {{}} where id = '{game}'",
        "an insert": insert + " values ('a cat', 'briefing', now(), {})",
        "a lobby": "insert into public.games (prompt, expires_at) values ('a cat', {})",
        "an operator": f"select orchestration.act_on_game('resume', '{game}', 'voting', null, {{}}, now())",
    }[by]
    with psycopg.connect(scene.url, autocommit=True) as sleeper:
        sleeper.execute("listen orchestration_deadline")
        scene.do(statement.format(far))
        assert list(sleeper.notifies(timeout=0.05)) == []
        scene.do(statement.format(near))
        assert len(list(sleeper.notifies(timeout=10, stop_after=1))) == 1
    due = "select min(deadline) <= clock_timestamp() from orchestration.live_games"
    assert wait_until(lambda: scene.one(due), seconds=10)
    assert scene.sweep().moved == 1
    assert (
        scene.one("select count(*) from orchestration.transitions where cause in ('timer', 'lobby_expired')")
        == 1
    )


@pytest.mark.parametrize(
    "by",
    [
        "select public.transition_game_status(%s, 'completed')",
        "update public.games set status = 'completed' where id = %s",
    ],
)
def test_a_game_overtaken_by_the_application_is_its_own(scene: Scene, by: str) -> None:
    game = scene.game("voting")
    with scene.another() as app:
        app.execute(by, [game.id])
        assert scene.sweep().locked == 1
        app.commit()
    swept = scene.sweep()
    assert (swept.moved, swept.locked) == (0, 0)
    assert scene.transitions(game.id)[-1] == ("voting", "completed", "application", False)
    assert len([t for t in scene.transitions(game.id) if t[1] == "completed"]) == 1


def test_the_application_comes_second_and_finds_it_done(scene: Scene) -> None:
    game = scene.game("drawing", players=0)
    with scene.another("sketchy_timer") as sweeper, scene.another(autocommit=True) as app:
        assert scene.sweep(sweeper).moved == 1
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                app.execute, "select public.transition_game_status(%s, 'voting')", [game.id]
            )
            assert wait_until(lambda: waits_for_a_lock(scene, app), seconds=10)
            sweeper.commit()
            assert waiting.result(10).fetchone() == (True,)
    assert [t for t in scene.transitions(game.id) if t[1] == "voting"] == [
        ("drawing", "voting", "timer", False)
    ]
    assert scene.events(game.id).count("phase_changed") == 2


def test_deadlines_moved_at_the_very_deadline(scene: Scene) -> None:
    """Whoever commits first has it: no game whose deadline was moved in time is ended by the old one."""
    games = [scene.game("drawing", due_in=60, players=0, voting_duration=120) for _ in range(60)]
    scene.do(
        "update public.games g set phase_expires_at = clock_timestamp() + (300 + 5 * n) * interval '1 ms'"
        " from unnest(%s::uuid[]) with ordinality as due (id, n) where due.id = g.id",
        [game.id for game in games],
    )
    over, chance = threading.Event(), random.Random(7)

    def sweep() -> None:
        with scene.another("sketchy_timer", autocommit=True) as conn:
            while not over.is_set():
                scene.sweep(conn, window=5.0)

    def move_deadlines() -> Iterator[str]:
        with scene.another(autocommit=True) as app:
            for game in games:
                near = chance.uniform(-0.003, 0.003)
                while app.execute(BEFORE_DEADLINE, [near, game.id]).fetchone() == (True,):
                    pass  # asks some thousand times a second: to meet the very deadline
                if app.execute(
                    "update public.games set phase_expires_at = clock_timestamp() + interval '1 hour'"
                    " where id = %s and status = 'drawing' returning id",
                    [game.id],
                ).fetchone():
                    yield game.id

    with ThreadPoolExecutor(2) as pool:
        sweepers = [pool.submit(sweep) for _ in range(2)]
        try:
            moved = set(move_deadlines())
            assert wait_until(
                lambda: scene.one("select count(*) = 0 from orchestration.live_games where deadline < now()"),
                seconds=10,
            )
        finally:
            over.set()
        for one in sweepers:
            one.result(10)
    for game in games:
        assert scene.phase(game.id) == ("drawing" if game.id in moved else "voting")
        assert len(scene.transitions(game.id)) == (1 if game.id in moved else 2)
    assert scene.one("select count(*) from orchestration.transitions where lateness_ms < 0") == 0


def test_a_drawing_in_an_open_transaction_hides_no_game(scene: Scene) -> None:
    game = scene.game("drawing", drawings=1)
    with scene.another() as player:
        player.execute(
            "insert into public.submissions (game_id, user_id, drawing_data) values (%s, %s, '{}')",
            [game.id, game.users[1]],
        )
        swept = scene.sweep()
        assert (swept.moved, swept.extended, swept.locked) == (0, 1, 0)
        scene.do("update public.games set phase_expires_at = clock_timestamp() where id = %s", game.id)
        swept = scene.sweep()
        assert (swept.moved, swept.extended, swept.locked) == (1, 0, 0)
        player.commit()
    assert scene.phase(game.id) == "voting"


def test_a_vote_in_an_open_transaction_counts(scene: Scene) -> None:
    """Its drawing's row is locked: the results wait for it, and nothing else does."""
    game, other = (scene.game("voting", drawings=2) for _ in range(2))
    first, second = game.users
    with scene.another() as voter:
        voter.execute(
            "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)",
            [game.id, first, game.drawings[second]],
        )
        swept = scene.sweep()
        assert (swept.moved, swept.locked) == (1, 1)
        voter.commit()
    assert scene.phase(other.id) == "completed"
    assert scene.sweep().moved == 1
    assert scene.one("select winner_id::text from public.games where id = %s", game.id) == second


@pytest.mark.parametrize("table", ["game_participants", "submissions"])
def test_rows_locked_by_the_application_do_not_deadlock_with_results(scene: Scene, table: str) -> None:
    game = scene.game("voting", drawings=2)
    with scene.another() as app, scene.another("sketchy_timer") as sweeper:
        app.execute("set local lock_timeout = '10s'")
        app.execute(f"select from public.{table} where game_id = %s for update", [game.id])
        assert scene.sweep(sweeper).locked == 1
        # The sweep, not yet committed, holds the game; the application, in its order of locks, wants it.
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                app.execute, "update public.games set prompt = 'x' where id = %s", [game.id]
            )
            assert wait_until(lambda: waits_for_a_lock(scene, app), seconds=10)
            sweeper.commit()
            waiting.result(10)
        app.commit()
        assert scene.sweep(sweeper).moved == 1


def test_locked_games_take_nobodys_place(scene: Scene) -> None:
    locked = [scene.game("briefing", due_in=-1.0 - n) for n in range(4)]
    others = [scene.game("briefing") for _ in range(3)]
    with scene.another() as app:
        app.execute("select from public.games where id = any (%s) for update", [[g.id for g in locked]])
        swept = scene.sweep(limit=3)
        assert (swept.moved, swept.locked) == (3, 3)
        assert {scene.phase(game.id) for game in others} == {"drawing"}
        app.rollback()
    assert scene.sweep().moved == 4


def test_two_sweepers_share_what_is_due(scene: Scene) -> None:
    games = [scene.game("briefing") for _ in range(5)]
    with scene.another("sketchy_timer") as first, scene.another("sketchy_timer") as second:
        assert scene.sweep(first, limit=2).moved == 2
        swept = scene.sweep(second)
        assert (swept.moved, swept.locked) == (3, 2)
        second.commit()
        first.commit()
    assert all(len(scene.transitions(game.id)) == 2 for game in games)
    assert scene.sweep().due == 0


def test_a_game_deleted_at_its_deadline_ends_in_silence(scene: Scene) -> None:
    game = scene.game("voting", drawings=2)
    told = scene.events(game.id)
    with scene.another() as app:
        app.execute("delete from public.games where id = %s", [game.id])
        assert scene.sweep().locked == 1
        app.commit()
    assert scene.live(game.id) is None
    swept = scene.sweep()
    assert (swept.due, swept.moved, swept.locked) == (0, 0, 0)
    assert scene.events(game.id) == told


def test_a_lagging_sweeper_takes_only_what_is_left(scene: Scene) -> None:
    fresh, left = scene.game("briefing", due_in=0.0), scene.game("briefing", due_in=-30.0)
    assert scene.sweep(lag=20.0).moved == 1
    assert (scene.phase(fresh.id), scene.phase(left.id)) == ("briefing", "drawing")


def test_the_window_bounds_how_far_it_looks_back(scene: Scene) -> None:
    scene.game("briefing", due_in=-30.0)
    assert scene.sweep(window=5.0).due == 0
    assert scene.sweep().moved == 1
