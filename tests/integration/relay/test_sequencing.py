"""Numbering events in the order their commits become visible, without gaps, whoever held the lane before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection

from sketchy_orchestration.database import backlog, relay
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.shifts import FRESH
from sketchy_orchestration.domain import circuit
from tests.integration.relay.conftest import game_in_lane, write_event

ALL = range(32)


async def take(
    session: AsyncConnection[Row], lanes: Sequence[int] = ALL
) -> tuple[dict[int, int], str | None]:
    locked = await relay.try_lanes(session, lanes)
    assert sorted(locked) == list(lanes)
    taken = await relay.take_lanes(session, locked, uuid4())
    (cursor,) = {each.cursor for each in taken}
    return {each.lane: each.epoch for each in taken}, cursor


async def snapshot(session: AsyncConnection[Row]) -> str:
    row = await (await session.execute("select pg_current_snapshot()::text")).fetchone()
    assert row is not None
    return str(row[0])


async def test_numbers_without_gaps_in_the_order_of_the_ids(
    session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    epochs, _ = await take(session)
    cursor = await snapshot(session)
    games = [uuid4() for _ in range(3)]
    written = [(write_event(connection, game), game) for _ in range(4) for game in games]
    done = await relay.sequence(session, epochs, cursor, limit=100)
    assert not done.fenced
    assert [(each.id, each.game_id) for each in done.events] == written
    for game in games:
        assert [each.seq for each in done.events if each.game_id == game] == [1, 2, 3, 4]
    write_event(connection, games[0])
    again = await relay.sequence(session, epochs, done.seen, limit=100)
    assert [(each.game_id, each.seq, each.sent_seq) for each in again.events] == [(games[0], 5, 0)]
    assert (await relay.sequence(session, epochs, again.seen, limit=100)).events == []


async def test_the_order_is_that_of_commits_not_of_ids(
    session: AsyncConnection[Row], connection: psycopg.Connection, database_url: str
) -> None:
    epochs, _ = await take(session)
    cursor = await snapshot(session)
    game = uuid4()
    with psycopg.connect(database_url) as slow:
        early = write_event(slow, game)
        late = write_event(connection, game)
        first = await relay.sequence(session, epochs, cursor, limit=100)
        assert [(each.id, each.seq) for each in first.events] == [(late, 1)]
        # Others come and go while the slow one stays open.
        for _ in range(3):
            write_event(connection, uuid4())
        second = await relay.sequence(session, epochs, first.seen, limit=100)
        assert len(second.events) == 3
        slow.commit()
    third = await relay.sequence(session, epochs, second.seen, limit=100)
    assert [(each.id, each.seq) for each in third.events] == [(early, 2)]


async def test_what_is_rolled_back_takes_no_number(
    session: AsyncConnection[Row], connection: psycopg.Connection, database_url: str
) -> None:
    epochs, _ = await take(session)
    cursor = await snapshot(session)
    game = uuid4()
    with psycopg.connect(database_url) as undone:
        write_event(undone, game)
        undone.rollback()
    write_event(connection, game)
    done = await relay.sequence(session, epochs, cursor, limit=100)
    assert [each.seq for each in done.events] == [1]


async def test_an_older_cursor_numbers_nothing_twice(
    session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    epochs, _ = await take(session)
    cursor = await snapshot(session)
    game = uuid4()
    for _ in range(5):
        write_event(connection, game)
    await relay.sequence(session, epochs, cursor, limit=100)
    write_event(connection, game)
    again = await relay.sequence(session, epochs, cursor, limit=100)
    assert [each.seq for each in again.events] == [6]


async def test_a_backlog_is_numbered_in_slices(
    session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    epochs, cursor = await take(session)
    assert cursor is None
    game = uuid4()
    written = [write_event(connection, game) for _ in range(25)]
    target = await snapshot(session)
    write_event(connection, game)
    found: list[relay.OutboxEvent] = []
    while True:
        done = await relay.sequence(
            session,
            epochs,
            cursor,
            limit=10,
            backlog=True,
            after_id=found[-1].id if found else 0,
            target=target,
        )
        found += done.events
        if len(done.events) < 10:
            break
    assert [each.id for each in found] == written
    assert [each.seq for each in found] == list(range(1, 26))
    rest = await relay.sequence(session, epochs, target, limit=10)
    assert [each.seq for each in rest.events] == [26]


async def test_only_the_lanes_asked_for(
    session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    epochs, _ = await take(session, [3, 4])
    cursor = await snapshot(session)
    mine, other = game_in_lane(3), game_in_lane(5)
    write_event(connection, mine)
    write_event(connection, other)
    done = await relay.sequence(session, epochs, cursor, limit=100)
    assert [(each.game_id, each.lane) for each in done.events] == [(mine, 3)]


async def test_an_event_of_no_game_has_no_place(
    session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    epochs, _ = await take(session)
    cursor = await snapshot(session)
    written = [write_event(connection, None, "test"), write_event(connection, None, "test")]
    done = await relay.sequence(session, epochs, cursor, limit=100)
    assert [(each.id, each.seq) for each in done.events] == [(id_, None) for id_ in written]


async def test_a_former_epoch_numbers_and_acknowledges_nothing(
    session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    epochs, _ = await take(session)
    cursor = await snapshot(session)
    game = uuid4()
    write_event(connection, game)
    done = await relay.sequence(session, epochs, cursor, limit=100)
    connection.execute("update orchestration.lanes set epoch = epoch + 1")
    write_event(connection, game)
    assert (await relay.sequence(session, epochs, done.seen, limit=100)).fenced
    (event,) = done.events
    outcome = relay.Outcome(event, epochs[event.lane], "delivered", 1, 0, {"c": 1})
    assert not await relay.acknowledge(session, [outcome], uuid4())
    assert connection.execute("select count(*) from orchestration.outcomes").fetchone() == (0,)
    assert connection.execute("select count(*) from orchestration.sequenced").fetchone() == (1,)


async def test_what_waits_is_found_from_what_was_saved(
    session: AsyncConnection[Row], connection: psycopg.Connection, database_url: str
) -> None:
    epochs, _ = await take(session)
    cursor = await snapshot(session)
    one, two, gone = uuid4(), uuid4(), uuid4()
    with psycopg.connect(database_url) as slow:
        # Older than everything by its id, and not yet committed when the relay saves how far it has come.
        early = write_event(slow, two)
        for game in (one, one, two, gone):
            write_event(connection, game)
        done = await relay.sequence(session, epochs, cursor, limit=100)
        settled = [each for each in done.events if (each.game_id, each.seq) != (one, 2)]
        outcomes = [relay.Outcome(each, epochs[each.lane], "delivered", 1, 0, {"c": 17}) for each in settled]
        assert await relay.acknowledge(session, outcomes, uuid4())
        waits = next(each for each in done.events if (each.game_id, each.seq) == (one, 2))
        await relay.save_lanes(session, epochs, done.seen, {waits.lane: waits.id})
        slow.commit()
    later = await relay.sequence(session, epochs, done.seen, limit=100)
    assert [(each.id, each.seq, each.sent_seq) for each in later.events] == [(early, 2, 1)]
    await relay.leave_lanes(session, epochs)

    locked = await relay.try_lanes(session, ALL)
    taken = await relay.take_lanes(session, locked, uuid4())
    assert {each.epoch for each in taken} == {2}
    found: dict[UUID | None, tuple[int | None, int | None, int]] = {}
    for each in taken:
        for game in await backlog.waiting(session, [each.lane], each.cursor, each.waiting_from, page=2):
            found[game.game_id] = (game.first_seq, game.last_seq, game.sent_seq)
    assert found == {one: (2, 2, 1), two: (2, 2, 1)}
    loaded = await relay.load(session, {one: 2, two: 2}, [], each=20)
    assert {(each.game_id, each.seq, each.id) for each in loaded} == {(one, 2, waits.id), (two, 2, early)}


async def test_everything_waits_where_nothing_was_ever_saved(
    session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    epochs, _ = await take(session)
    game = uuid4()
    for _ in range(3):
        write_event(connection, game)
    test = write_event(connection, None, "test")
    target = await snapshot(session)
    await relay.sequence(session, epochs, None, limit=100, backlog=True, target=target)
    found = await backlog.waiting(session, ALL, None, None, page=2)
    assert {(each.game_id, each.first_seq, each.last_seq) for each in found} == {
        (game, 1, 3),
        (None, None, None),
    }
    (single,) = await relay.load(session, {}, [test], each=20)
    assert single.type == "test"


async def test_a_lane_is_held_by_one_session_at_a_time(
    session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    await take(session)
    assert connection.execute(
        "select bool_or(pg_try_advisory_lock(5273, 1000 + n)) from generate_series(0, 31) n"
    ).fetchone() == (False,)


@pytest.mark.parametrize("outcome", ["delivered", "expired", "dead"])
async def test_outcomes_are_written_and_the_dead_are_kept_whole(
    session: AsyncConnection[Row], connection: psycopg.Connection, outcome: str
) -> None:
    epochs, _ = await take(session)
    cursor = await snapshot(session)
    write_event(connection, uuid4(), data='{"a": 1}')
    (event,) = (await relay.sequence(session, epochs, cursor, limit=100)).events
    end = relay.Outcome(
        event, epochs[event.lane], outcome, 3, 0, {"game-x": 17}, reason="too_large", last_answer="413"
    )
    shift = uuid4()
    assert await relay.acknowledge(session, [end], shift)
    attempt = relay.Attempt(event, "game-x", 1, "event", "too_large", 1.5)
    await relay.record_attempts(session, [attempt], shift)
    assert connection.execute(
        "select outcome, attempts, after_seq, timetokens, shift_id from orchestration.outcomes"
    ).fetchone() == (outcome, 3, 0, {"game-x": 17}, shift)
    assert connection.execute("select reason, duration_ms from orchestration.attempts").fetchone() == (
        "too_large",
        1.5,
    )
    dead = connection.execute(
        "select data, reason, last_answer, attempts, timetokens, seq from orchestration.dead_letters"
    ).fetchall()
    assert dead == ([({"a": 1}, "too_large", "413", 3, {"game-x": 17}, 1)] if outcome == "dead" else [])


async def test_only_what_is_seldom_read_is_ever_updated(
    session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    """While an old transaction keeps dead rows, whoever reads an updated row passes all it ever was."""

    async def updates() -> Counter[str]:
        rows = await session.execute(
            """select relname, n_tup_upd + n_tup_del from pg_stat_xact_user_tables
               where schemaname = 'orchestration'"""
        )
        return Counter(dict(await rows.fetchall()))

    epochs, _ = await take(session)
    cursor = await snapshot(session)
    for _ in range(20):
        write_event(connection, uuid4())
    async with session.transaction():
        before = await updates()
        done = await relay.sequence(session, epochs, cursor, limit=100)
        outcomes = [
            relay.Outcome(each, epochs[each.lane], "delivered", 1, 0, {"c": 17}) for each in done.events
        ]
        assert await relay.acknowledge(session, outcomes, uuid4())
        assert await updates() - before == Counter()
        await relay.save_lanes(session, epochs, done.seen, {})
        assert await updates() - before == {"lane_progress": 32}
        # The circuit's row, twice for each probe while it is open: see decision 0011.
        world = await relay.look(session, uuid4(), fresh=FRESH)
        opened = circuit.opened(world.circuit, "timeout", datetime.now(UTC))
        assert opened is not None
        assert await relay.change_circuit(session, opened)
        assert await updates() - before == {"lane_progress": 32, "circuit": 1}
