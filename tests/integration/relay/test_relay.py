"""The relay as a whole, on a real Postgres, with the publisher in memory."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest

from sketchy_orchestration.database import games
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.realtime import sequencing
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import by_game, outcomes, running, sent, until, write_event


async def test_every_event_is_published_once_in_order(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = MemoryPublisher(latency=0.005)
    games = [uuid4() for _ in range(50)]
    for _ in range(4):
        for game in games:
            write_event(connection, game)
    async with running(settings, publisher):
        for _ in range(6):
            for game in games:
                write_event(connection, game)
        await until(lambda: outcomes(connection) == {"delivered": 500})
    assert len(sent(publisher)) == 500
    assert by_game(sent(publisher)) == {str(game): list(range(1, 11)) for game in games}
    message = sent(publisher)[0].message
    assert message["after"] == message["seq"] - 1  # type: ignore[operator]
    held = connection.execute("select count(*) from orchestration.lanes where holder is not null").fetchone()
    assert held == (0,)


async def test_a_successor_goes_on_where_it_left(settings: Settings, connection: psycopg.Connection) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    for round_ in range(1, 4):
        for _ in range(5):
            write_event(connection, game)
        async with running(settings, publisher):
            await until(lambda expected=5 * round_: outcomes(connection) == {"delivered": expected})
    assert by_game(sent(publisher)) == {str(game): list(range(1, 16))}
    assert [each.message["after"] for each in sent(publisher)] == list(range(15))


async def test_a_match_found_goes_to_two_channels_and_a_retry_repeats_only_the_missing_one(
    settings: Settings, connection: psycopg.Connection
) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    both = [f"game-{game}", "user-u"]
    publisher.answer(503, channel="user-u", times=2)
    write_event(connection, game, channels=both)
    async with running(settings, publisher) as relay:
        await until(lambda: outcomes(connection) == {"delivered": 1})
        await until(lambda: relay.tenure is not None and not relay.tenure.sending.in_flight)
    assert sorted(each.channel for each in sent(publisher)) == sorted(both)
    assert publisher.attempts >= 4
    timetokens = {each.channel: each.timetoken for each in sent(publisher)}
    row = connection.execute("select timetokens, attempts from orchestration.outcomes").fetchone()
    assert row == (timetokens, 3)
    tried = connection.execute(
        "select channel, attempt, verdict, reason from orchestration.attempts order by attempt, channel"
    ).fetchall()
    failed = [("user-u", n, "moment", "server_error") for n in (1, 2)]
    assert tried == [(f"game-{game}", 1, "accepted", "accepted"), *failed]
    told = [moment.detail for moment in games.timeline(connection, game) if moment.kind == "attempt"]
    assert sorted(told) == [
        f"attempt 1 accepted: {timetokens[f'game-{game}']}",
        "attempt 1 failed: moment, server_error",
        "attempt 2 failed: moment, server_error",
    ]


@pytest.mark.parametrize(
    ("game", "hangs"), [(uuid4(), False), (None, True)], ids=["of a game, refused", "of no game, hangs"]
)
async def test_a_successor_repeats_only_the_missing_channel(
    settings: Settings, connection: psycopg.Connection, game: UUID | None, hangs: bool
) -> None:
    publisher = MemoryPublisher()
    if hangs:
        publisher.hang(channel="user-u", times=None)
    else:
        publisher.answer(503, channel="user-u", times=None)
    write_event(connection, game, channels=["lobby", "user-u"])
    async with running(settings, publisher) as relay:
        relay.leave_within = 0.4
        await until(lambda: len(sent(publisher)) == 1)
    publisher.heal()
    async with running(settings, publisher):
        await until(lambda: outcomes(connection) == {"delivered": 1})
    assert [each.channel for each in sent(publisher)] == ["lobby", "user-u"]
    row = connection.execute("select timetokens from orchestration.outcomes").fetchone()
    assert row == ({each.channel: each.timetoken for each in sent(publisher)},)


async def test_an_event_of_no_game_is_sent_without_a_place(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = MemoryPublisher()
    write_event(connection, None, "test")
    async with running(settings, publisher):
        await until(lambda: outcomes(connection) == {"delivered": 1})
    (accepted,) = sent(publisher)
    assert (accepted.channel, accepted.message["gameId"]) == ("game-none", None)
    assert not {"seq", "after"} & accepted.message.keys()


async def test_too_large_an_event_is_sent_slim(settings: Settings, connection: psycopg.Connection) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    write_event(connection, game, data='{"short": 1, "long": "%s"}' % ("x" * 40_000))
    async with running(settings, publisher):
        await until(lambda: outcomes(connection) == {"delivered": 1})
    (accepted,) = sent(publisher)
    assert (accepted.message["truncated"], accepted.message["data"]) == (True, {"short": 1})


async def test_what_does_not_even_fit_slim_is_a_dead_letter_and_the_next_goes_on(
    settings: Settings, connection: psycopg.Connection
) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    connection.execute(
        "update orchestration.outbox set user_id = repeat('u', 40000) where id = %s",
        [write_event(connection, game)],
    )
    write_event(connection, game)
    async with running(settings, publisher):
        await until(lambda: outcomes(connection) == {"delivered": 1, "dead": 1})
    letters = connection.execute("select seq, reason, attempts from orchestration.dead_letters").fetchall()
    assert letters == [(1, "too_large", 1)]
    assert [each.message["seq"] for each in sent(publisher)] == [2]


async def test_more_than_memory_holds_is_sent_all_the_same(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = MemoryPublisher()
    games = [uuid4() for _ in range(3)]
    connection.execute("update orchestration.flags set enabled = false where name = 'pubnub_broadcasting'")
    async with running(settings, publisher) as relay:
        await until(lambda: relay.tenure is not None and relay.gate.looked_at > 0)
        assert relay.tenure is not None
        relay.tenure.games.room = 10
        for _ in range(100):
            for game in games:
                write_event(connection, game)
        await until(lambda: relay.tally.sequenced == 300)
        assert relay.tenure.games.held <= 20
        connection.execute("update orchestration.flags set enabled = true where name = 'pubnub_broadcasting'")
        await until(lambda: outcomes(connection) == {"delivered": 300})
    assert by_game(sent(publisher)) == {str(game): list(range(1, 101)) for game in games}


@pytest.mark.parametrize("saved", [False, True], ids=["never saved", "saved"])
async def test_what_nobody_numbered_is_taken_over_in_slices(
    settings: Settings, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    monkeypatch.setattr(sequencing, "LIMIT", 7)
    monkeypatch.setattr(sequencing, "SLICE", 9)
    monkeypatch.setattr(sequencing, "PAGE", 5)
    publisher = MemoryPublisher()
    games: list[UUID | None] = [uuid4() for _ in range(12)]
    before = 0
    if saved:
        async with running(settings, publisher):
            for game in games:
                write_event(connection, game)
            await until(lambda: outcomes(connection) == {"delivered": 12})
        before = 1
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url.get_secret_value()) as slow:
        early = uuid4()
        write_event(slow, early)
        for _ in range(8):
            for game in [*games, None]:
                write_event(connection, game, "MATCH_FOUND" if game else "test")
        async with running(settings, publisher) as relay:
            await until(lambda: relay.tally.sequenced > 50)
            slow.commit()
            for game in games:
                write_event(connection, game)
            await until(lambda: outcomes(connection) == {"delivered": 12 * (before + 9) + 8 + 1})
    heard = by_game(each for each in sent(publisher) if "seq" in each.message)
    assert heard == {str(early): [1]} | {str(game): list(range(1, before + 10)) for game in games}


async def test_the_rate_is_kept_and_seen(settings: Settings, connection: psycopg.Connection) -> None:
    publisher = MemoryPublisher()
    connection.execute("update orchestration.flags set value = 40 where name = 'publish_rate'")
    for _ in range(60):
        write_event(connection, uuid4())
    async with running(settings, publisher) as relay:
        await until(lambda: len(sent(publisher)) == 60)
        await until(lambda: relay.gate.held_back > 0)
        await until(lambda: relay.gate.held_back_share > 0.5)
    moments = [each.timetoken / 1e7 for each in sent(publisher)]
    # A quarter of a second's burst at the start, then 40 a second.
    assert moments[-1] - moments[0] >= (60 - 10) / 40 * 0.9
