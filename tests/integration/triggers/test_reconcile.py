"""What triggers could not do is found and done: live_games, and the news that clients missed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sketchy_orchestration.local.application import Shape
from tests.integration.sweep.conftest import MakeScene
from tests.integration.sweep.scene import Played, Scene
from tests.integration.triggers.statements import Battery

SHAPES: tuple[Shape, ...] = ("current", "old", "in_database_sweep")


@contextmanager
def broken(scene: Scene, *, silently: bool = False) -> Iterator[None]:
    """No event can be written, and with `silently` not even that one could not."""
    tables = ["outbox", *(["trigger_failures"] if silently else [])]
    for table in tables:
        scene.do(f"alter table orchestration.{table} add constraint refused check (false) not valid")
    yield
    for table in tables:
        scene.do(f"alter table orchestration.{table} drop constraint refused")


def reconcile(scene: Scene, *, dry_run: bool = False, limit: int = 500) -> list[tuple[str, str]]:
    with scene.another("sketchy_timer", autocommit=True) as conn:
        return conn.execute(
            "select game_id::text, repair from orchestration.reconcile(%s, %s)", [dry_run, limit]
        ).fetchall()


def unresolved(scene: Scene) -> int:
    count: int = scene.one("select count(*) from orchestration.trigger_failures where resolved_at is null")
    return count


@pytest.mark.parametrize("silently", [False, True], ids=["recorded", "in silence"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_missed_phase_is_told_and_its_deadline_kept(
    make_scene: MakeScene, shape: Shape, silently: bool
) -> None:
    scene = make_scene(shape)
    game = scene.game("waiting", due_in=1800)
    with broken(scene, silently=silently):
        scene.do("select public.transition_game_status(%s, 'briefing')", game.id)
    assert scene.live(game.id) is not None
    assert scene.transitions(game.id) == []
    assert [game_id for game_id, _ in reconcile(scene)] == [game.id]
    assert scene.transitions(game.id) == [("waiting", "briefing", "recovery", False)]
    assert scene.events(game.id)[-2:] == ["game_started", "phase_changed"]
    phase, deadline = scene.live(game.id) or (None, None)
    assert phase == "briefing"
    due = scene.one(
        "select extract(epoch from %s - started_at) from public.games where id = %s", deadline, game.id
    )
    assert due == 20
    assert reconcile(scene) == []
    assert unresolved(scene) == 0


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_a_missed_end_is_told_once(scene: Scene, end: str) -> None:
    game = scene.game("voting", due_in=30)
    with broken(scene):
        scene.do("update public.games set status = %s where id = %s", end, game.id)
    reconcile(scene)
    reconcile(scene)
    assert scene.live(game.id) is None
    assert scene.transitions(game.id)[-1] == ("voting", end, "recovery", False)
    told = scene.events(game.id)
    assert told[-1] == ("game_completed" if end == "completed" else "phase_changed")
    assert told.count("game_completed") == (end == "completed")


def test_a_deadline_moved_unseen_is_told_as_a_time_sync(scene: Scene) -> None:
    game = scene.game("drawing", due_in=30)
    with broken(scene):
        scene.do(
            "update public.games set phase_expires_at = phase_expires_at + interval '1 minute' where id = %s",
            game.id,
        )
    reconcile(scene)
    assert scene.one(
        "select l.deadline = g.phase_expires_at"
        " from orchestration.live_games l join public.games g on g.id = l.game_id"
    )
    assert scene.events(game.id)[-1] == "server_timer_sync"


def missed_by_players(scene: Scene, *, silently: bool) -> tuple[Played, dict[str, str]]:
    """A game in drawing in which everything that players do goes unseen; what must be told, by user."""
    game = scene.game("drawing", due_in=120, players=4)
    stays, leaves, is_removed, readies = game.users
    (joins,) = scene.users(1)
    with broken(scene, silently=silently):
        scene.join(game.id, joins)
        scene.leave(game.id, leaves)
        scene.do(
            "delete from public.game_participants where game_id = %s and user_id = %s", game.id, is_removed
        )
        scene.do(
            "update public.game_participants set is_ready = true where game_id = %s and user_id = %s",
            game.id,
            readies,
        )
        drawing = scene.draw(game.id, stays)
        scene.vote(game.id, readies, drawing)
    return game, {
        joins: "player_joined",
        leaves: "player_left",
        is_removed: "player_left",
        readies: "player_ready",
        stays: "drawing_submitted",
    }


@pytest.mark.parametrize(
    ("silently", "over"),
    [(False, False), (True, False), (True, True)],
    ids=["recorded", "in silence", "in silence, and the game is over"],
)
def test_what_players_did_unseen_is_told_once(scene: Scene, silently: bool, over: bool) -> None:
    game, wanted = missed_by_players(scene, silently=silently)
    if over:
        scene.do("update public.games set status = 'cancelled' where id = %s", game.id)
        assert scene.live(game.id) is None
    before = scene.one("select max(id) from orchestration.outbox")
    reconcile(scene)
    reconcile(scene)
    told = scene.rows(
        "select user_id, type from orchestration.outbox where game_id = %s and id > %s", game.id, before
    )
    voter = next(user for user, kind in wanted.items() if kind == "player_ready")
    assert sorted(told) == sorted([*wanted.items(), (voter, "vote_cast")])
    assert unresolved(scene) == 0


def test_a_dry_run_says_the_same_and_does_nothing(scene: Scene) -> None:
    game, _ = missed_by_players(scene, silently=False)
    told = len(scene.events(game.id))
    would = sorted(reconcile(scene, dry_run=True))
    assert len(would) == 6
    assert len(scene.events(game.id)) == told
    assert unresolved(scene) > 0
    assert sorted(reconcile(scene)) == would


def test_when_nothing_was_missed_there_is_nothing_to_do(scene: Scene) -> None:
    scene.flag("enrolment", value=100)
    with scene.another(autocommit=True) as conn:
        battery = Battery(conn, scene.users(3))
        battery.begin()
        assert reconcile(scene) == []
        battery.play()
        assert reconcile(scene) == []
        battery.end()
        assert reconcile(scene) == []


def test_rejoining_and_unreadying_unseen(scene: Scene) -> None:
    game = scene.game("waiting", due_in=600)
    back, unready = game.users
    scene.leave(game.id, back)
    scene.do("update public.game_participants set is_ready = true where user_id = %s", unready)
    with broken(scene):
        scene.do("update public.game_participants set left_at = null where user_id = %s", back)
        scene.do("update public.game_participants set is_ready = false where user_id = %s", unready)
    told = len(scene.events(game.id))
    reconcile(scene)
    news = scene.rows(
        "select user_id, type, data ->> 'isReady' from orchestration.outbox"
        " where game_id = %s order by id offset %s",
        game.id,
        told,
    )
    assert sorted(news) == sorted([(back, "player_joined", "false"), (unready, "player_ready", "false")])


def test_live_games_lost_or_left_over(scene: Scene) -> None:
    kept = scene.game("drawing", due_in=60)
    lost = scene.game("voting", due_in=60)
    gone = scene.game("briefing", due_in=60)
    live = scene.live(lost.id)
    scene.do("delete from orchestration.live_games where game_id = %s", lost.id)
    scene.do("alter table public.games disable trigger orchestration_deleted")
    scene.do("delete from public.games where id = %s", gone.id)
    assert sorted(game for game, _ in reconcile(scene)) == sorted([lost.id, gone.id])
    assert scene.live(lost.id) == live
    assert scene.live(gone.id) is None
    assert scene.live(kept.id) is not None
    assert reconcile(scene) == []


def test_games_of_others_are_left_alone(scene: Scene) -> None:
    legacy = scene.game("drawing", due_in=60, enrolled=False)
    scene.do("insert into orchestration.trigger_failures (game_ids) values (array[%s::uuid])", legacy.id)
    assert reconcile(scene) == []
    assert scene.events(legacy.id) == []
    assert unresolved(scene) == 0


def test_each_call_is_bounded_and_all_are_found_in_time(scene: Scene) -> None:
    games = [scene.game("waiting", due_in=600, players=0) for _ in range(30)]
    scene.do("update orchestration.live_games set deadline = deadline + interval '1 second'")
    repaired: set[str] = set()
    for _ in range(1000):
        found = reconcile(scene, limit=5)
        assert len(found) <= 5
        repaired |= {game for game, _ in found}
        if len(repaired) == len(games):
            break
    assert repaired == {game.id for game in games}


def test_many_games_that_are_over_are_looked_at_in_one_call(scene: Scene) -> None:
    games = [scene.game("voting", due_in=60, players=1, drawings=1) for _ in range(12)]
    with broken(scene, silently=True):
        for game in games:
            (voter,) = scene.users(1)
            scene.vote(game.id, voter, next(iter(game.drawings.values())))
    scene.do("update public.games set status = 'completed'")
    # A batch of five at a time, and twenty times as many in all.
    assert {game for game, _ in reconcile(scene, limit=5)} == {game.id for game in games}
    assert reconcile(scene) == []


def test_a_locked_game_waits_for_the_next_time(scene: Scene) -> None:
    game = scene.game("drawing", due_in=60)
    scene.do("update orchestration.live_games set phase = 'briefing'")
    with scene.another() as holder:
        holder.execute("select from public.games where id = %s for update", [game.id])
        assert reconcile(scene) == []
    assert [found for found, _ in reconcile(scene)] == [game.id]


def test_two_at_once_tell_nothing_twice(scene: Scene) -> None:
    missed_by_players(scene, silently=True)
    with scene.another("sketchy_timer") as first:
        first.execute("select * from orchestration.reconcile()")
        assert reconcile(scene) == []
        first.commit()
    assert reconcile(scene) == []


def test_a_sweep_repairs_what_it_cannot_move(scene: Scene) -> None:
    behind = scene.game("drawing", due_in=-2, players=0)
    scene.do("update orchestration.live_games set phase = 'briefing'")
    first = scene.sweep()
    assert (first.moved, first.locked) == (0, 1)
    assert scene.live(behind.id) is not None
    second = scene.sweep()
    assert (second.moved, second.locked) == (1, 0)
    assert scene.phase(behind.id) == "voting"


def test_looking_locks_no_game(scene: Scene) -> None:
    """A game that is only looked at is not late because of it."""
    games = [scene.game("briefing", due_in=60) for _ in range(3)]
    missed_by_players(scene, silently=True)
    with scene.another("sketchy_timer") as looking:
        assert len(looking.execute("select * from orchestration.reconcile()").fetchall()) == 6
        scene.do("update public.games set phase_expires_at = clock_timestamp() where status = 'briefing'")
        assert scene.sweep().moved == len(games)
