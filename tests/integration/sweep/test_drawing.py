"""The end of drawing: who is waited for, and how the sweeper hears of the last drawing."""

from __future__ import annotations

import psycopg

from tests.integration.sweep.scene import Scene


def heard(listener: psycopg.Connection) -> list[str]:
    """Games about which a sweeper was woken so far."""
    return [one.payload for one in listener.notifies(timeout=0.05)]


def test_drawing_ends_with_the_last_drawing(scene: Scene) -> None:
    game = scene.game("drawing", due_in=60, drawings=1)
    with psycopg.connect(scene.url, autocommit=True) as listener:
        listener.execute("listen orchestration_all_submitted")
        assert scene.sweep(look=True).moved == 0
        scene.draw(game.id, game.users[1])
        assert heard(listener) == [game.id]
    swept = scene.sweep(candidates=[game.id])
    assert (swept.moved, swept.lateness_ms) == (1, [])
    assert scene.transitions(game.id)[-1] == ("drawing", "voting", "all_submitted", False)
    assert scene.events(game.id)[-1] == "phase_changed"
    assert "timer_expired" not in scene.events(game.id)


def test_drawing_ends_when_the_missing_player_leaves_or_is_deleted(scene: Scene) -> None:
    leaves, deleted = (scene.game("drawing", due_in=60, drawings=1) for _ in range(2))
    with psycopg.connect(scene.url, autocommit=True) as listener:
        listener.execute("listen orchestration_all_submitted")
        scene.leave(leaves.id, leaves.users[1])
        scene.do("delete from public.users where id = %s", deleted.users[1])
        assert sorted(heard(listener)) == sorted([leaves.id, deleted.id])
    assert scene.sweep(candidates=[leaves.id, deleted.id]).moved == 2


def test_when_the_last_player_is_deleted_nobody_is_waited_for(scene: Scene) -> None:
    game = scene.game("drawing", due_in=60, players=1)
    scene.do("delete from public.game_participants where game_id = %s", game.id)
    assert scene.sweep(look=True, candidates=[game.id]).moved == 0
    scene.do("update public.games set phase_expires_at = clock_timestamp() where id = %s", game.id)
    assert scene.sweep().moved == 1
    assert scene.transitions(game.id)[-1][1:3] == ("voting", "timer")


def test_two_last_drawings_at_once_are_found_by_looking(scene: Scene) -> None:
    """Neither sees the other's: nobody is woken, and the next look finds what both committed since."""
    game = scene.game("drawing", due_in=60)
    with psycopg.connect(scene.url, autocommit=True) as listener:
        listener.execute("listen orchestration_all_submitted")
        seen = scene.sweep(look=True).seen
        with scene.another() as one, scene.another() as two:
            for player, user in ((one, game.users[0]), (two, game.users[1])):
                player.execute(
                    "insert into public.submissions (game_id, user_id, drawing_data) values (%s, %s, '{}')",
                    [game.id, user],
                )
            between = scene.sweep(look=True, seen=seen).seen
            one.commit()
            two.commit()
        assert heard(listener) == []
    assert scene.sweep(look=True, seen=between).moved == 1


def test_what_was_seen_before_is_not_looked_at_again(scene: Scene) -> None:
    """An old transaction does not make every look read everything since it began."""
    with scene.another() as old:
        old.execute("select pg_current_xact_id()")
        game = scene.game("drawing", due_in=60, drawings=1)
        seen = scene.sweep(look=True).seen
        assert scene.rows("select * from orchestration.all_submitted_since(%s)", seen) == []
        scene.do("update orchestration.live_games set phase = 'drawing'")
        scene.draw(game.id, game.users[1])
        found = scene.rows("select i::text from orchestration.all_submitted_since(%s) i", seen)
        assert found == [(game.id,)]
        later = scene.one("select pg_current_snapshot()::text")
        assert scene.rows("select * from orchestration.all_submitted_since(%s)", later) == []


def test_drawing_again_counts_once_and_is_told_again(scene: Scene) -> None:
    game = scene.game("drawing", due_in=60, drawings=1)
    scene.do("update public.submissions set drawing_data = '{\"more\": 1}' where game_id = %s", game.id)
    assert scene.events(game.id).count("drawing_submitted") == 2
    assert scene.sweep(look=True, candidates=[game.id]).moved == 0
    told = scene.rows(
        "select distinct data ->> 'submissionId' from orchestration.outbox where type = 'drawing_submitted'"
    )
    assert told == [(game.drawings[game.users[0]],)]


def test_a_vote_does_not_tell_of_the_drawing_again(scene: Scene) -> None:
    game = scene.game("voting", due_in=60, drawings=2)
    before = scene.events(game.id)
    scene.vote(game.id, game.users[0], game.drawings[game.users[1]])
    assert scene.events(game.id) == [*before, "vote_cast"]


def test_many_drawings_changed_at_once_are_told_each_once(scene: Scene) -> None:
    game = scene.game("drawing", due_in=60, drawings=2)
    before = scene.events(game.id)
    first = game.drawings[game.users[0]]
    scene.do(
        "update public.submissions set element_count = 3,"
        " drawing_data = case when id = %s then '{\"a\": 1}' else drawing_data end",
        first,
    )
    assert scene.events(game.id) == [*before, "drawing_submitted"]


def test_whoever_comes_back_is_waited_for_again(scene: Scene) -> None:
    game = scene.game("drawing", due_in=60, drawings=1)
    scene.leave(game.id, game.users[1])
    scene.do("update public.game_participants set left_at = null where user_id = %s", game.users[1])
    assert scene.sweep(look=True, candidates=[game.id]).moved == 0
    assert scene.events(game.id)[-2:] == ["player_left", "player_joined"]


def test_the_drawing_of_one_who_left_stays_in_the_game(scene: Scene) -> None:
    game = scene.game("drawing", due_in=60, players=3, drawings=2)
    scene.leave(game.id, game.users[0])
    assert scene.sweep(look=True).moved == 0
    scene.draw(game.id, game.users[2])
    assert scene.sweep(look=True).moved == 1
    for voter in game.users[1:]:
        scene.vote(game.id, voter, game.drawings[game.users[0]])
    scene.do("update public.games set phase_expires_at = clock_timestamp() where id = %s", game.id)
    assert scene.sweep().moved == 1
    assert scene.one("select winner_id::text from public.games where id = %s", game.id) == game.users[0]


def test_grace_moves_the_deadline_and_sends_a_time_sync(scene: Scene) -> None:
    game = scene.game("drawing", drawings=1)
    before = scene.live(game.id)
    assert scene.sweep().extended == 1
    after = scene.live(game.id)
    assert before is not None
    assert after is not None
    assert (after[1] - before[1]).total_seconds() == 10
    assert scene.events(game.id)[-1] == "server_timer_sync"
    data = scene.one(
        "select data from orchestration.outbox where game_id = %s order by id desc limit 1", game.id
    )
    assert (data["phase"], data["timeRemaining"]) == ("drawing", 10)
    key, until = scene.rows("select key, expires_at from public.game_metadata where game_id = %s", game.id)[0]
    assert (key, until) == (f"drawing_grace_{game.id}", after[1])
    # An application that tidies up what has expired does not get its players a second one.
    scene.do("delete from public.game_metadata")
    scene.do("update public.games set phase_expires_at = clock_timestamp() where id = %s", game.id)
    assert scene.sweep().moved == 1
    assert scene.transitions(game.id)[-1][1:3] == ("voting", "timer")


def test_the_last_drawing_ends_the_grace_period(scene: Scene) -> None:
    game = scene.game("drawing", drawings=1)
    assert scene.sweep().extended == 1
    scene.draw(game.id, game.users[1])
    assert scene.sweep(candidates=[game.id]).moved == 1
    assert scene.transitions(game.id)[-1][1:3] == ("voting", "all_submitted")
    assert scene.one("select count(*) from public.game_metadata") == 0
