"""What the relay does when PubNub, one channel, one event or its keys fail."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import structlog

from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.pubnub.publisher import MomentFailedError
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import by_game, outcomes, running, sent, until, write_event


def circuit(connection: psycopg.Connection) -> tuple[str, str | None]:
    row = connection.execute("select state, reason from orchestration.circuit").fetchone()
    assert row is not None
    return row[0], row[1]


def epoch(connection: psycopg.Connection) -> int:
    """How often the circuit has changed."""
    row = connection.execute("select epoch from orchestration.circuit").fetchone()
    assert row is not None
    return int(row[0])


def dead(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "select game_id, seq, reason, last_answer, attempts from orchestration.dead_letters order by 2"
    ).fetchall()


def flag(connection: psycopg.Connection, name: str, enabled: bool) -> None:
    connection.execute("update orchestration.flags set enabled = %s where name = %s", [enabled, name])


async def test_a_refused_event_is_dead_at_once_and_the_next_says_so(
    settings: Settings, connection: psycopg.Connection
) -> None:
    game, other, publisher = uuid4(), uuid4(), MemoryPublisher()
    publisher.answer(400, [0, "Invalid JSON", "1"], channel=f"game-{game}")
    for _ in range(3):
        write_event(connection, game)
    write_event(connection, other)
    with structlog.testing.capture_logs() as logged:
        async with running(settings, publisher):
            await until(lambda: outcomes(connection) == {"delivered": 3, "dead": 1})
    assert dead(connection) == [(game, 1, "invalid", "400 Invalid JSON", 1)]
    names = ("event_id", "game_id", "request_id", "reason")
    (told,) = [tuple(line[name] for name in names) for line in logged if line["event"] == "dead letter"]
    assert (
        told
        == connection.execute(
            "select event_id::text, game_id::text, request_id, reason from orchestration.dead_letters"
        ).fetchone()
    )
    ours = [each.message for each in sent(publisher) if each.message["gameId"] == str(game)]
    assert [(message["seq"], message["after"]) for message in ours] == [(2, 0), (3, 2)]
    assert circuit(connection) == ("closed", None)


@pytest.mark.parametrize(("status", "why"), [(503, "server_error"), (403, "credentials")])
async def test_a_channel_that_alone_fails_holds_up_nobody_and_its_event_dies_of_it(
    settings: Settings, connection: psycopg.Connection, status: int, why: str
) -> None:
    game, publisher = uuid4(), MemoryPublisher(latency=0.005)
    others = [uuid4() for _ in range(40)]
    publisher.answer(status, channel=f"game-{game}", times=None)
    before = epoch(connection)
    async with running(settings, publisher):
        write_event(connection, game)
        for _ in range(5):
            for each in others:
                write_event(connection, each)
        await until(lambda: outcomes(connection) == {"delivered": 200, "dead": 1})
        publisher.heal()
        write_event(connection, game)
        await until(lambda: outcomes(connection) == {"delivered": 201, "dead": 1})
    ((died, seq, reason, _, attempts),) = dead(connection)
    # Three, when a hundred others got through since the first failed; more, while fewer did.
    assert (died, seq, reason, 3 <= attempts <= 7) == (game, 1, why, True)
    assert by_game(sent(publisher))[str(game)] == [2]
    assert epoch(connection) == before


async def test_alone_in_the_world_the_relay_finds_out_whether_it_is_the_event(
    settings: Settings, connection: psycopg.Connection
) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    publisher.answer(503, channel=f"game-{game}", times=None)
    write_event(connection, game)
    async with running(settings, publisher):
        await until(lambda: outcomes(connection) == {"dead": 1})
    assert circuit(connection) == ("closed", None)


async def test_an_outage_opens_the_circuit_and_costs_no_event_an_attempt(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = MemoryPublisher()
    games = [uuid4() for _ in range(10)]
    async with running(settings, publisher) as relay:
        write_event(connection, games[0])
        await until(lambda: outcomes(connection) == {"delivered": 1})
        publisher.answer(503, times=None)
        for game in games:
            for _ in range(5):
                write_event(connection, game)
        await until(lambda: circuit(connection) == ("open", "server_error"))
        tried = publisher.attempts
        for game in games:
            write_event(connection, game)
        # Numbering goes on; publishing does not, but for one probe now and then.
        await until(lambda: relay.tally.sequenced == 61)
        assert publisher.attempts - tried < 10
        publisher.heal()
        await until(lambda: outcomes(connection) == {"delivered": 61})
        assert circuit(connection) == ("closed", None)
    assert dead(connection) == []
    for game in games:
        heard = by_game(sent(publisher))[str(game)]
        assert heard == sorted(set(heard))
    most = connection.execute("select max(attempts) from orchestration.outcomes").fetchone()
    assert most is not None


async def test_hanging_for_everybody_is_an_outage(settings: Settings, connection: psycopg.Connection) -> None:
    publisher = MemoryPublisher()
    publisher.hang(times=None)
    for _ in range(10):
        write_event(connection, uuid4())
    async with running(settings, publisher, limit=0.2):
        await until(lambda: circuit(connection)[0] == "open")
        assert circuit(connection)[1] == "timeout"
        publisher.heal()
        await until(lambda: outcomes(connection) == {"delivered": 10})
    assert dead(connection) == []


async def test_wrong_keys_open_the_circuit_at_the_first_answer(
    settings: Settings, connection: psycopg.Connection
) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    publisher.answer(403, {"message": "Forbidden"}, times=None)
    write_event(connection, game)
    async with running(settings, publisher):
        await until(lambda: circuit(connection) == ("open", "credentials"))
        publisher.heal()
        await until(lambda: outcomes(connection) == {"delivered": 1})
    assert dead(connection) == []


async def test_refusals_in_a_row_over_many_games_open_the_circuit_too(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = MemoryPublisher()
    publisher.answer(400, [0, "Invalid JSON", "1"], channel="game-*", times=None)
    for _ in range(200):
        write_event(connection, uuid4())
    connection.execute("update orchestration.flags set value = 4 where name = 'fanout_concurrency'")
    async with running(settings, publisher):
        await until(lambda: circuit(connection) == ("open", "refusals"))
        assert len(dead(connection)) < 30
        publisher.heal()
        await until(lambda: sum(outcomes(connection).values()) == 200)
    assert outcomes(connection)["delivered"] > 150


class Stormy(MemoryPublisher):
    """Fails a share of all publishes, at random but always in the same way."""

    def __init__(self, share: float) -> None:
        super().__init__(latency=0.001)
        self._share, self._random = share, random.Random(7)

    async def publish(self, channel: str, message: Any, *, timeout: float, store: bool = True) -> Any:  # noqa: ASYNC109
        if self._random.random() < self._share:
            self.answer(503, channel=channel)
        elif self._random.random() < self._share / 2:
            self.lose_answer(channel=channel)
        return await super().publish(channel, message, timeout=timeout, store=store)


@pytest.mark.parametrize("share", [0.1, 0.3])
async def test_a_storm_kills_nothing_and_keeps_the_order(
    settings: Settings, connection: psycopg.Connection, share: float
) -> None:
    publisher = Stormy(share)
    games = [uuid4() for _ in range(60)]
    for _ in range(3):
        for game in games:
            write_event(connection, game)
    async with running(settings, publisher):
        await until(lambda: outcomes(connection) == {"delivered": 180}, limit=60)
    assert dead(connection) == []
    firsts: dict[str, dict[str, int]] = {}
    for each in sent(publisher):
        of_game = firsts.setdefault(str(each.message["gameId"]), {})
        of_game.setdefault(str(each.message["eventId"]), each.message["seq"])
    assert all(list(of_game.values()) == [1, 2, 3] for of_game in firsts.values())
    assert len(firsts) == 60


async def test_switched_off_events_are_numbered_and_kept_and_sent_when_it_is_on_again(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher, game = MemoryPublisher(), uuid4()
    async with running(settings, publisher) as relay:
        write_event(connection, game)
        await until(lambda: outcomes(connection) == {"delivered": 1})
        flag(connection, "pubnub_broadcasting", False)
        await until(lambda: not relay.gate.open)
        for _ in range(5):
            write_event(connection, game)
        await until(lambda: relay.tally.sequenced == 6)
        assert len(publisher.accepted) == 1
        flag(connection, "pubnub_broadcasting", True)
        await until(lambda: outcomes(connection) == {"delivered": 6})
    assert by_game(sent(publisher)) == {str(game): [1, 2, 3, 4, 5, 6]}


async def test_switching_off_breaks_off_what_is_in_flight_and_says_that_it_is_unknown(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = MemoryPublisher(latency=0.005)
    games = [uuid4() for _ in range(30)]
    for game in games[:5]:
        publisher.hang(channel=f"game-{game}", times=None)
    async with running(settings, publisher, limit=30) as relay:
        for _ in range(10):
            for game in games:
                write_event(connection, game)
        await until(lambda: len(sent(publisher)) > 50)
        flag(connection, "pubnub_broadcasting", False)
        # Not when their time is over: at once.
        await until(lambda: relay.tenure is not None and not relay.tenure.sending.in_flight, limit=5)
        tried = publisher.attempts
        unknown = "select count(*) from orchestration.attempts where verdict = 'unknown'"
        await until(lambda: (connection.execute(unknown).fetchone() or (0,))[0] >= 5)
        for game in games:
            write_event(connection, game)
        await until(lambda: relay.tally.sequenced == 330)
        assert publisher.attempts == tried
        publisher.heal()
        flag(connection, "pubnub_broadcasting", True)
        await until(lambda: outcomes(connection) == {"delivered": 330})
    reasons = connection.execute("select distinct verdict, reason from orchestration.attempts").fetchall()
    assert reasons == [("unknown", "broadcasting_off")]
    assert dead(connection) == []
    for game in games:
        heard = by_game(sent(publisher))[str(game)]
        assert list(dict.fromkeys(heard)) == list(range(1, 12))


async def test_what_lost_its_meaning_expires_and_the_newest_phase_does_not(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher, game = MemoryPublisher(), uuid4()
    for type_ in ("phase_changed", "vote_cast", "phase_changed", "player_joined", "phase_changed"):
        write_event(connection, game, type_, age=120)
    async with running(settings, publisher) as relay:
        await until(lambda: outcomes(connection) == {"delivered": 2, "expired": 3})
        await until(lambda: relay.tally.expired == 3)
    assert [
        (each.message["type"], each.message["seq"], each.message["after"]) for each in publisher.accepted
    ] == [
        ("player_joined", 4, 0),
        ("phase_changed", 5, 4),
    ]


async def test_the_circuit_is_probed_by_one_relay_at_a_time(
    settings: Settings, connection: psycopg.Connection
) -> None:
    first, second = MemoryPublisher(latency=0.05), MemoryPublisher(latency=0.05)
    for publisher in (first, second):
        publisher.answer(503, times=None)
    connection.execute(
        "update orchestration.circuit set state = 'open', reason = 'timeout', since = now(), epoch = 1"
    )
    async with running(settings, first), running(settings, second):
        await until(lambda: first.attempts + second.attempts >= 5)
        row = connection.execute("select epoch from orchestration.circuit").fetchone()
        assert row is not None
        # Each probe is two changes: half-open and open again; one may be under way.
        assert 0 <= (row[0] - 1) - 2 * (first.attempts + second.attempts) + 2 <= 3
        first.heal()
        second.heal()
        await until(lambda: circuit(connection) == ("closed", None))


async def test_a_cancelled_relay_gives_nothing_up(settings: Settings, connection: psycopg.Connection) -> None:
    publisher = MemoryPublisher()
    publisher.hang(times=None)
    write_event(connection, uuid4())
    async with running(settings, publisher, limit=30):
        await until(lambda: publisher.attempts == 1)
    assert outcomes(connection) == {}
    publisher.heal()
    async with running(settings, publisher):
        await until(lambda: outcomes(connection) == {"delivered": 1})
    assert len(publisher.accepted) == 1


async def test_the_publishers_own_errors_are_not_the_relays_end(
    settings: Settings, connection: psycopg.Connection
) -> None:
    class Broken(MemoryPublisher):
        async def publish(self, channel: str, message: Any, **options: Any) -> Any:
            if self.attempts == 0:
                self.attempts += 1
                raise RuntimeError("a bug")
            return await super().publish(channel, message, **options)

    publisher = Broken()
    write_event(connection, uuid4())
    async with running(settings, publisher) as relay:
        await until(lambda: relay.tally.errors == 1)
        with pytest.raises(MomentFailedError):
            await asyncio.wait_for(fails(publisher), 1)
    assert outcomes(connection) == {}


async def fails(publisher: MemoryPublisher) -> None:
    publisher.cut(channel="x")
    await publisher.publish("x", {}, timeout=1)
