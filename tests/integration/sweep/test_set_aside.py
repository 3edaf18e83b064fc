"""A game that cannot be moved is set aside, and costs the others nothing."""

from __future__ import annotations

import time

import pytest

from tests.integration.sweep.scene import Scene

STARTED_IN_THE_FUTURE = "update public.games set started_at = now() + interval '1 day' where id = %s"


def forbid(scene: Scene, game: str, *, deferred: bool = False) -> None:
    """Somebody's trigger that raises when this game leaves briefing."""
    scene.do("create table if not exists public.forbidden (id uuid primary key)")
    scene.do("insert into public.forbidden values (%s)", game)
    if scene.one("select count(*) from pg_proc where proname = 'forbid'"):
        return
    scene.do(
        """
        create function public.forbid() returns trigger language plpgsql as $$
        begin
            if new.status <> 'briefing' and exists (select from public.forbidden f where f.id = new.id) then
                raise exception 'not this one' using errcode = 'P0001';
            end if;
            return new;
        end $$
        """
    )
    scene.do(
        f"create {'constraint ' if deferred else ''}trigger forbid after update on public.games"
        f" {'deferrable initially deferred' if deferred else ''}"
        " for each row execute function public.forbid()"
    )


def make_retry_due(scene: Scene) -> None:
    scene.do("update orchestration.set_aside set retry_at = clock_timestamp()")


@pytest.mark.parametrize(
    ("how", "sqlstate"),
    [
        ("check", "23514"),
        ("trigger", "P0001"),
        ("deferred trigger", "P0001"),
        ("no length", "22004"),
        ("unreadable", "22P02"),
    ],
)
def test_it_is_set_aside_with_its_error_while_the_others_move(scene: Scene, how: str, sqlstate: str) -> None:
    bad, *good = [scene.game("briefing") for _ in range(5)]
    if how == "check":
        scene.do(STARTED_IN_THE_FUTURE, bad.id)
    elif how == "no length":
        scene.do("alter table public.games alter column round_duration drop not null")
        scene.do("update public.games set round_duration = null where id = %s", bad.id)
    elif how == "unreadable":
        scene.do("alter table public.games drop constraint games_round_duration_check")
        scene.do("alter table public.games alter column round_duration type text")
        scene.do("update public.games set round_duration = 'long' where id = %s", bad.id)
    else:
        forbid(scene, bad.id, deferred=how.startswith("deferred"))
    swept = scene.sweep()
    assert (swept.moved, swept.set_aside, swept.locked) == (4, 1, 0)
    assert {scene.phase(game.id) for game in good} == {"drawing"}
    assert scene.phase(bad.id) == "briefing"
    kept = scene.set_aside(bad.id)
    assert kept is not None
    assert (kept[0], kept[2]) == (sqlstate, 1)
    assert kept[1]
    assert scene.transitions(bad.id)[-1][1] == "briefing"
    assert scene.sweep().due == 0


def test_it_is_tried_again_ever_more_seldom(scene: Scene) -> None:
    bad = scene.game("briefing")
    scene.do(STARTED_IN_THE_FUTURE, bad.id)
    scene.sweep()
    pauses = []
    for attempt in range(2, 16):
        make_retry_due(scene)
        assert scene.sweep().set_aside == 1
        attempts, pause = scene.rows(
            "select attempts, extract(epoch from retry_at - clock_timestamp())::float8"
            " from orchestration.set_aside"
        )[0]
        assert attempts == attempt
        pauses.append(round(pause))
    assert pauses[:5] == [2, 4, 8, 16, 32]
    assert pauses[-1] == 3600


def test_mended_it_moves_on_and_is_forgotten(scene: Scene) -> None:
    bad = scene.game("briefing")
    scene.do(STARTED_IN_THE_FUTURE, bad.id)
    scene.sweep()
    scene.do("update public.games set started_at = now() - interval '1 minute' where id = %s", bad.id)
    assert scene.sweep().moved == 0
    make_retry_due(scene)
    assert scene.sweep().moved == 1
    assert scene.set_aside(bad.id) is None


def test_a_third_of_a_batch_is_bad_and_the_others_move(scene: Scene) -> None:
    games = [scene.game("briefing", players=0) for _ in range(60)]
    bad = {game.id for game in games[::3]}
    scene.do("update public.games set started_at = now() + interval '1 day' where id = any (%s)", list(bad))
    sweeps = 0
    began = time.monotonic()
    while (swept := scene.sweep()).more:
        sweeps += 1
        assert swept.moved + swept.set_aside > 0
    took = time.monotonic() - began
    assert sweeps <= 3
    assert took < 10
    assert {game.id for game in games if scene.phase(game.id) == "briefing"} == bad
    assert scene.one("select count(*) from orchestration.set_aside") == len(bad)
    # From now on they are in nobody's way: tried alone, a few at a time, after everything else.
    others = [scene.game("briefing", players=0) for _ in range(5)]
    make_retry_due(scene)
    swept = scene.sweep(limit=5)
    assert (swept.moved, swept.set_aside) == (5, 10)
    assert {scene.phase(game.id) for game in others} == {"drawing"}


def test_one_bad_game_in_many_is_found_by_halving(scene: Scene) -> None:
    games = [scene.game("briefing", players=0) for _ in range(100)]
    scene.do(STARTED_IN_THE_FUTURE, games[63].id)
    swept = scene.sweep()
    assert (swept.moved, swept.set_aside, swept.more) == (99, 1, False)


def test_somebody_elses_lock_on_what_a_move_needs_is_not_waited_for(scene: Scene) -> None:
    """The winner's row in users: a lock that we would need, and that does not lock the game."""
    stuck, other = scene.game("voting", drawings=2), scene.game("voting", drawings=2)
    winner = stuck.users[0]
    for game in (stuck, other):
        scene.vote(game.id, game.users[1], game.drawings[game.users[0]])
    with scene.another() as app:
        app.execute("select from public.users where id = %s for update", [winner])
        began = time.monotonic()
        swept = scene.sweep()
        assert time.monotonic() - began < 2
        assert (swept.moved, swept.set_aside) == (1, 1)
        assert scene.phase(other.id) == "completed"
        kept = scene.set_aside(stuck.id)
        assert kept is not None
        assert kept[0] == "55P03"
        app.rollback()
    scene.do("update orchestration.set_aside set retry_at = clock_timestamp()")
    assert scene.sweep().moved == 1
    assert scene.one("select winner_id::text from public.games where id = %s", stuck.id) == winner


def test_what_fails_leaves_nothing_half_done(scene: Scene) -> None:
    game = scene.game("voting", drawings=2)
    scene.vote(game.id, game.users[0], game.drawings[game.users[1]])
    forbid(scene, game.id)
    before = scene.rows("select placement from public.game_participants order by id")
    told = scene.events(game.id)
    assert scene.sweep().set_aside == 1
    assert scene.rows("select placement from public.game_participants order by id") == before
    assert scene.events(game.id) == told
    assert scene.one("select count(*) from public.game_transition_log where to_status = 'completed'") == 0


def test_an_error_of_ours_sets_aside_too(scene: Scene) -> None:
    """The sweep must not move a game that nobody would hear of."""
    game = scene.game("briefing")
    scene.do("alter table orchestration.outbox add constraint refused check (false) not valid")
    assert scene.sweep().set_aside == 1
    assert scene.phase(game.id) == "briefing"
    scene.do("alter table orchestration.outbox drop constraint refused")
    make_retry_due(scene)
    assert scene.sweep().moved == 1
    assert scene.failures() == []


def test_a_deleted_game_is_set_aside_no_longer(scene: Scene) -> None:
    game = scene.game("briefing")
    scene.do(STARTED_IN_THE_FUTURE, game.id)
    scene.sweep()
    scene.do("delete from public.games where id = %s", game.id)
    make_retry_due(scene)
    assert scene.sweep().due == 0
    assert scene.set_aside(game.id) is None
