"""One hand: a game of ours is not touched by the legacy handler, nor one of its by us."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local.application import Shape, install
from tests.integration.sweep.conftest import MakeScene
from tests.integration.sweep.scene import Scene

SHAPES: tuple[Shape, ...] = ("current", "old", "in_database_sweep")
PHASES = ("waiting", "briefing", "drawing", "voting", "results")
TABLES = {
    "games": "id",
    "game_participants": "game_id",
    "submissions": "game_id",
    "votes": "game_id",
    "game_transition_log": "game_id",
    "game_metadata": "game_id",
}


def everything(scene: Scene, game: str) -> dict[str, list[str]]:
    """Every row of the application about the game, and whether the legacy handler told anything."""
    rows = {
        table: [
            str(row)
            for (row,) in scene.rows(
                f"select to_jsonb(t) from public.{table} t where {key} = %s order by 1", game
            )
        ]
        for table, key in TABLES.items()
    }
    rows["told by legacy"] = [
        str(
            scene.one(
                "select count(*) from public.legacy_broadcasts where body::text like '%%' || %s || '%%'", game
            )
        )
    ]
    return rows


def legacy_handler_at_work(scene: Scene) -> None:
    """The in-database sweep twice, the clean-up, and the sweep over HTTP: list, then one call a game."""
    for _ in range(2):
        scene.do("select public.monitor_game_timers_db()")
    scene.do("select public.cleanup_expired_games()")
    for game, status in scene.rows("select game_id, current_status::text from public.find_expired_games(50)"):
        following = {"briefing": "drawing", "drawing": "voting"}.get(status, "completed")
        scene.do("select public.transition_game_status(%s, %s)", game, following)


def overdue(scene: Scene, phase: str, *, enrolled: bool) -> str:
    """A game long past its deadline by either reckoning, with a vote to be counted."""
    game = scene.game(phase, due_in=-30, drawings=2, players=3, enrolled=enrolled)
    if phase in ("voting", "results"):
        scene.vote(game.id, game.users[2], game.drawings[game.users[1]])
    scene.do("update public.games set expires_at = now() - interval '1 minute' where id = %s", game.id)
    # The old shape refuses a second move within half a second.
    scene.do("update public.game_transition_log set created_at = created_at - interval '1 minute'")
    return game.id


@pytest.mark.parametrize("shape", SHAPES)
def test_the_legacy_handler_touches_no_game_of_ours(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    games = {phase: overdue(scene, phase, enrolled=True) for phase in PHASES}
    before = {phase: everything(scene, game) for phase, game in games.items()}
    legacy_handler_at_work(scene)
    assert {phase: everything(scene, game) for phase, game in games.items()} == before
    assert {tuple(rows["told by legacy"]) for rows in before.values()} == {("0",)}


@pytest.mark.parametrize("shape", SHAPES)
def test_we_touch_no_game_of_the_legacy_handler(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    games = {phase: overdue(scene, phase, enrolled=False) for phase in PHASES}
    before = {phase: everything(scene, game) for phase, game in games.items()}
    swept = scene.sweep(look=True, candidates=[uuid.UUID(game) for game in games.values()])
    scene.do("select * from orchestration.reconcile()")
    assert (swept.due, swept.moved) == (0, 0)
    assert {phase: everything(scene, game) for phase, game in games.items()} == before
    assert scene.one("select count(*) from orchestration.live_games") == 0
    legacy_handler_at_work(scene)
    for phase, game in games.items():
        assert everything(scene, game) != before[phase], phase
    assert scene.one("select count(*) from orchestration.outbox") == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_both_hands_side_by_side(make_scene: MakeScene, shape: Shape) -> None:
    scene = make_scene(shape)
    ours, theirs = (overdue(scene, "briefing", enrolled=enrolled) for enrolled in (True, False))
    legacy_handler_at_work(scene)
    assert (scene.phase(ours), scene.phase(theirs)) == ("briefing", "drawing")
    assert scene.sweep().moved == 1
    assert (scene.phase(ours), scene.phase(theirs)) == ("drawing", "drawing")
    handlers = scene.rows(
        "select game_id::text, handler, cause from orchestration.transitions where to_phase = 'drawing'"
    )
    assert sorted(handlers) == sorted([(ours, "orchestration", "timer"), (theirs, "legacy", "application")])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_full_list_of_ours_does_not_hide_theirs(make_scene: MakeScene, shape: Shape) -> None:
    """The list's limit counts legacy games only."""
    scene = make_scene(shape)
    for _ in range(3):
        overdue(scene, "briefing", enrolled=True)
    theirs = overdue(scene, "voting", enrolled=False)
    assert scene.rows("select game_id::text from public.find_expired_games(2)") == [(theirs,)]


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_whoever_could_read_the_list_still_can(scene: Scene, role: str) -> None:
    with scene.another(role) as conn:
        assert conn.execute("select count(*) from public.find_expired_games(50)").fetchone() == (0,)


def test_the_list_keeps_its_callers_when_it_runs_as_whoever_calls(empty_database: str) -> None:
    install(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("alter function public.find_expired_games(integer) security invoker")
        conn.execute("revoke execute on function public.find_expired_games(integer) from public, anon")
    migrate_up(empty_database)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute("set role authenticated")
        assert conn.execute("select count(*) from public.find_expired_games(50)").fetchone() == (0,)
        conn.execute("reset role")
        conn.execute("set role anon")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("select * from public.find_expired_games(50)")


@pytest.mark.parametrize("shape", SHAPES)
def test_games_from_before_the_installation_are_never_enrolled(empty_database: str, shape: Shape) -> None:
    install(empty_database, shape)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        game = conn.execute(
            "insert into public.games (prompt, created_at) values ('a cat', now() - interval '1 hour')"
            " returning id::text"
        ).fetchone()
        assert game is not None
        migrate_up(empty_database)
        scene = Scene(empty_database, conn)
        scene.flag("enrolment", value=100)
        scene.do("update public.games set status = 'briefing', started_at = now()")
        scene.join(game[0], scene.users(1)[0])
        scene.do("select * from orchestration.reconcile()")
        assert scene.one("select count(*) from orchestration.enrolments") == 0
        assert scene.live(game[0]) is None
        assert scene.events(game[0]) == []
        assert not scene.one("select orchestration.is_enrolled(%s)", game[0])


def test_a_conflicting_insert_leaves_no_decision_behind(scene: Scene) -> None:
    game = scene.game("drawing", due_in=60, enrolled=False)
    scene.flag("enrolment", value=100)
    scene.do(
        "insert into public.games (id, prompt) values (%s, 'again') on conflict (id) do nothing", game.id
    )
    assert scene.one("select count(*) from orchestration.enrolments where game_id = %s", game.id) == 1
    assert scene.live(game.id) is None
    with pytest.raises(psycopg.errors.UniqueViolation):
        scene.do("insert into public.games (id, prompt) values (%s, 'again')", game.id)
    assert scene.one("select count(*) from orchestration.live_games") == 0


def test_the_decision_stands_before_the_applications_own_triggers_run(make_scene: MakeScene) -> None:
    """The old shape tells of new games, too: of an enrolled one it must not."""
    scene = make_scene("old")
    scene.flag("enrolment", value=100)
    scene.do("insert into public.games (prompt) select 'a cat' from generate_series(1, 3)")
    assert scene.one("select count(*) from public.legacy_broadcasts") == 0
    assert scene.one("select count(*) from orchestration.live_games") == 3
