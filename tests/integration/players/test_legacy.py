"""Games played on a database where nothing of ours is installed: the control group."""

from __future__ import annotations

import psycopg
import pytest

from sketchy_orchestration.local.application import Shape, install
from sketchy_orchestration.local.legacy import LegacyHandler, LegacySettings, _client
from sketchy_orchestration.local.players.crowd import Crowd, Play, Progress, WrongPlayError
from sketchy_orchestration.local.players.game import Pace
from sketchy_orchestration.local.players.plan import Habits
from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.pubnub.keyset import Keyset


@pytest.mark.parametrize("shape", ["current", "in_database_sweep"])
async def test_games_are_played_to_their_end(empty_database: str, keyset: Keyset, shape: Shape) -> None:
    install(empty_database, shape)
    settings = LegacySettings(every_s=0.2, in_database=shape == "in_database_sweep")
    play = Play(games=6, rate=20, seed=7, pace=Pace(speed=20), habits=Habits(draws_late=0.2))
    with LegacyHandler(empty_database, keyset, settings):
        report = await Crowd(play, empty_database, keyset).run()
    assert report.examples == []
    assert (report.completed, report.legacy_games) == (6, 6)
    assert report.events_heard == report.events_expected
    assert report.lateness is not None
    assert report.lateness.p50 > 0


def test_a_sweep_takes_fifty_games_one_call_and_one_publish_each(
    application_url: str, keyset: Keyset, local_pubnub: LocalPubNub
) -> None:
    """As the seeds have it, every ten seconds: what everything else is compared with."""
    assert LegacySettings() == LegacySettings(every_s=10.0, limit=50, grace_s=10.0, in_database=False)
    with psycopg.connect(application_url, autocommit=True) as conn:
        conn.execute(
            """insert into public.games (prompt, status, created_at, started_at, phase_expires_at)
               select 'a cat', 'briefing', now() - interval '1 h', now() - interval '1 min', now()
               from generate_series(1, 60)"""
        )
        conn.execute("delete from public.legacy_broadcasts")
        handler, pubnub = LegacyHandler(application_url, keyset), _client(keyset)
        try:
            assert [handler.sweep(conn, pubnub) for _ in range(3)] == [50, 10, 0]
        finally:
            pubnub._request_handler.close()
        # Each game in a transaction, so with a moment, of its own.
        moments = conn.execute("select count(distinct drawing_started_at) from public.games").fetchone()
    assert moments == (60,)
    assert (handler.moved, handler.published, handler.errors) == (60, 60, 0)
    assert len(local_pubnub.record()) == 60


async def test_a_handler_that_does_nothing_leaves_games_unfinished(
    application_url: str, keyset: Keyset
) -> None:
    play = Play(games=1, pace=Pace(speed=50, patience_s=0.5), settle_s=0.1, linger_s=0)
    report = await Crowd(play, application_url, keyset).run()
    assert report.violations == {"unfinished": 1}
    assert not report.kept


async def test_cancelled_games_end_too(application_url: str, keyset: Keyset) -> None:
    play = Play(games=4, seed=3, pace=Pace(speed=20), habits=Habits(cancels=1.0))
    with LegacyHandler(application_url, keyset, LegacySettings(every_s=0.2)):
        report = await Crowd(play, application_url, keyset).run()
    assert report.examples == []
    assert report.cancelled == 4


async def test_a_stopped_crowd_reports_what_it_has(application_url: str, keyset: Keyset) -> None:
    play = Play(games=2, forever=True, pace=Pace(speed=1))
    crowd = Crowd(play, application_url, keyset, lambda _: crowd.stop())
    report = await crowd.run()
    assert report.completed == 0
    assert report.violations == {}


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (Play(games=0), "games is 0; it must be between 1"),
        (Play(players=9), "players is 9; it must be between 2 and 8"),
        (Play(pace=Pace(round_seconds=10)), "round-seconds is 10; it must be between 30 and 300"),
        (Play(pace=Pace(speed=0.5)), "speed is 0.5; it must be between 1 and 100"),
    ],
)
def test_a_game_the_application_would_not_allow_is_refused(play: Play, message: str) -> None:
    with pytest.raises(WrongPlayError, match=message):
        play.refuse_wrong()


async def test_players_survive_the_loss_of_all_their_connections(
    application_url: str, keyset: Keyset
) -> None:
    cut = 0

    def cut_once(progress: Progress) -> None:
        nonlocal cut
        if not cut and progress.in_play.get("drawing"):
            with psycopg.connect(application_url, autocommit=True) as conn:
                rows = conn.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and application_name = 'sketchy play'"
                ).fetchall()
            cut = len(rows)

    play = Play(games=6, rate=20, seed=11, pace=Pace(speed=8))
    with LegacyHandler(application_url, keyset, LegacySettings(every_s=0.2)):
        crowd = Crowd(play, application_url, keyset, cut_once)
        report = await crowd.run()
    assert cut > 0
    assert report.examples == []
    assert report.completed == 6
