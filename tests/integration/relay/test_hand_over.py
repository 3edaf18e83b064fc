"""Several relays: shares, hand-overs, and holders that disappear."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID, uuid4

import psycopg
import pytest

from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.database import shifts
from sketchy_orchestration.database.connect import Role, connect, connect_async
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.realtime.lease import Lease, LeaseLostError, LeaseTimes
from sketchy_orchestration.realtime.relay import Beat, Relay
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import (
    by_game,
    game_in_lane,
    outcomes,
    running,
    sent,
    until,
    write_event,
)
from tests.integration.relay.test_failures import epoch


def started(settings: Settings) -> UUID:
    """A fan-out shift's row, as its start writes it."""
    shift_id = uuid4()
    with connect(settings, Role.relay) as connection:
        shifts.start(connection, shift_id, "fanout", "1", "here", 1, None)
    return shift_id


def beating(shift_id: UUID) -> Beat:
    async def beat(session: statements.Session, numbers: dict[str, float]) -> None:
        await shifts.beat_async(session, shift_id, numbers)

    return beat


def lanes(relay: Relay) -> int:
    return len(relay.tenure.lease.epochs) if relay.tenure else 0


async def test_two_relays_share_the_lanes_and_nothing_is_lost_or_doubled_meanwhile(
    settings: Settings, connection: psycopg.Connection
) -> None:
    one, two = started(settings), started(settings)
    publisher = MemoryPublisher(latency=0.002)
    games = [uuid4() for _ in range(40)]
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            for game in games:
                write_event(connection, game)
            await asyncio.sleep(0.05)

    async with running(settings, publisher, shift_id=one, beat=beating(one)) as first:
        await until(lambda: lanes(first) == 32)
        writing = asyncio.create_task(write())
        async with running(settings, publisher, shift_id=two, beat=beating(two)) as second:
            await until(lambda: (lanes(first), lanes(second)) == (16, 16))
            await until(lambda: second.tally.delivered > 50)
        # The second has left in good order: the first takes all back, once it may.
        await until(lambda: lanes(first) == 32)
        done.set()
        await writing
        written = connection.execute("select count(*) from orchestration.outbox").fetchone()
        assert written is not None
        await until(lambda: outcomes(connection) == {"delivered": written[0]})
    assert len(sent(publisher)) == written[0]
    assert by_game(sent(publisher)) == {str(game): list(range(1, written[0] // 40 + 1)) for game in games}


async def test_lanes_of_a_lost_session_are_taken_over_and_repeats_are_recognisable(
    settings: Settings, connection: psycopg.Connection
) -> None:
    connection.execute("update orchestration.flags set value = 10 where name = 'fanout_concurrency'")
    publisher = MemoryPublisher(latency=0.01)
    games = [uuid4() for _ in range(30)]
    for _ in range(10):
        for game in games:
            write_event(connection, game)
    async with running(settings, publisher) as relay:
        for _ in range(3):
            delivered = relay.tally.delivered
            await until(lambda least=delivered + 20: relay.tally.delivered > least)
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name like 'sketchy relay%'"
            )
            await until(lambda: lanes(relay) == 0)
        await until(lambda: outcomes(connection) == {"delivered": 300}, limit=30)
        assert relay.tally.leases_lost + relay.tally.errors >= 3
    accepted = sent(publisher)
    assert len({each.message["eventId"] for each in accepted}) == 300
    assert len(accepted) - 300 <= 3 * 10
    firsts: dict[str, list[int]] = {}
    seen = set()
    for each in accepted:
        if each.message["eventId"] not in seen:
            seen.add(each.message["eventId"])
            firsts.setdefault(str(each.message["gameId"]), []).append(each.message["seq"])
    assert firsts == {str(game): list(range(1, 11)) for game in games}


async def test_a_silent_lease_is_ended_by_the_server_and_may_no_longer_send(
    settings: Settings, connection: psycopg.Connection
) -> None:
    times = LeaseTimes(ping=0.1, send_within=0.3, idle=0.5, answer=2.0)
    session = await connect_async(settings, Role.relay)
    lease = await Lease.begin(session, times)
    assert await lease.run(lambda s: statements.try_lanes(s, [3])) == [3]
    (taken,) = await lease.run(lambda s: statements.take_lanes(s, [3], uuid4()))
    lease.epochs[3] = taken.epoch
    assert lease.may_send()
    began = time.monotonic()
    free = "select pg_try_advisory_xact_lock(5273, 1003)"
    await until(lambda: connection.execute(free).fetchone() == (True,))
    assert 0.3 < time.monotonic() - began < 1.5
    assert not lease.may_send()
    with pytest.raises(LeaseLostError):
        await lease.ping()
    assert (lease.epochs, lease.may_send()) == ({}, False)
    await session.close()


async def test_a_lane_left_to_others_is_taken_back_at_once_when_the_one_who_took_it_is_gone(
    settings: Settings, connection: psycopg.Connection
) -> None:
    giver, taker = [await connect_async(settings, Role.relay) for _ in range(2)]
    assert await statements.try_lanes(giver, [], [3]) == []  # nobody has taken it yet
    assert await statements.try_lanes(taker, [3]) == [3]
    await statements.take_lanes(taker, [3], uuid4())
    assert await statements.try_lanes(giver, [], [3]) == []  # somebody has
    await taker.close()
    async with asyncio.timeout(5):
        while await statements.try_lanes(giver, [], [3]) != [3]:  # noqa: ASYNC110  # and is gone
            await asyncio.sleep(0.01)
    await giver.close()


async def test_a_session_that_does_not_answer_is_given_up(
    settings: Settings, connection: psycopg.Connection
) -> None:
    times = LeaseTimes(ping=0.1, send_within=0.3, idle=0.5, answer=0.6)
    session = await connect_async(settings, Role.relay)
    lease = await Lease.begin(session, times)
    began = time.monotonic()
    with pytest.raises(LeaseLostError, match="no answer"):
        await lease.run(lambda s: s.execute("select pg_sleep(5)"))
    assert time.monotonic() - began < 2.5
    with pytest.raises(LeaseLostError):
        await lease.run(lambda s: statements.try_lanes(s, []))
    await session.close()


@pytest.mark.parametrize(
    "wrong", [{"ping": 0.6}, {"idle": 1.0}, {"answer": 1.0}, {"ping": 0.0}, {"send_within": 1.4}]
)
def test_times_must_be_clearly_below_each_other(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="clearly below"):
        LeaseTimes(**wrong)


async def test_a_relay_whose_own_way_out_fails_leaves_the_lanes_to_one_whose_works(
    settings: Settings, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sketchy_orchestration.domain.lanes.KEPT_SECONDS", 0.5)
    monkeypatch.setattr("sketchy_orchestration.domain.lanes.SHUN_SECONDS", 0.5)
    one, two = started(settings), started(settings)
    good, bad = MemoryPublisher(), MemoryPublisher()
    games = [game_in_lane(lane) for lane in range(32)]
    before = epoch(connection)
    async with (
        running(settings, good, shift_id=one, beat=beating(one)) as first,
        running(settings, bad, shift_id=two, beat=beating(two)) as second,
    ):
        await until(lambda: (lanes(first), lanes(second)) == (16, 16))
        for game in games:
            write_event(connection, game)
        await until(lambda: outcomes(connection) == {"delivered": 32})
        bad.cut(times=None)
        # The good one has nothing to send, and what it sent before proves nothing.
        assert second.tenure is not None
        for lane in list(second.tenure.lease.epochs):
            write_event(connection, games[lane])
        await until(lambda: lanes(second) == 0)
        await until(lambda: outcomes(connection) == {"delivered": 48}, limit=20)
        assert epoch(connection) == before
        bad.heal()
        await until(lambda: (lanes(first), lanes(second)) == (16, 16), limit=15)
    assert connection.execute("select count(*) from orchestration.dead_letters").fetchone() == (0,)
