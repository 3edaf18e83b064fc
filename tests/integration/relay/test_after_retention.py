"""A game whose events have left with their day, and that speaks again: it goes on counting where it was."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection

from sketchy_orchestration.database import backlog, relay
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.monitoring import housekeeping
from sketchy_orchestration.settings import Settings
from tests.integration.maintenance.test_housekeeping import make_day
from tests.integration.relay.conftest import write_event
from tests.integration.relay.test_sequencing import snapshot, take

OLD = 3 * 86_400


async def test_a_finished_game_goes_on_counting(
    settings: Settings, session: AsyncConnection[Row], connection: psycopg.Connection
) -> None:
    make_day(connection, 3)
    told, backward, later = (uuid4() for _ in range(3))
    connection.cursor().executemany(
        "insert into orchestration.enrolments (game_id, handler, percentage, decided_at)"
        " values (%s, 'orchestration', 100, now() - interval '8 days')",
        [[told], [backward], [later]],
    )
    epochs, _ = await take(session)
    cursor = await snapshot(session)
    for game in (told, told, told, later):
        write_event(connection, game, age=OLD)
    # Committed first although of a later day: that day stays and has the lower place.
    write_event(connection, backward)
    write_event(connection, backward, age=OLD)
    done = await relay.sequence(session, epochs, cursor, limit=100)

    def outcome(event: relay.OutboxEvent) -> relay.Outcome:
        dead = (event.game_id, event.seq) == (told, 3)
        what, reason = ("dead", "test") if dead else ("delivered", None)
        return relay.Outcome(event, epochs[event.lane], what, 1, 0, {}, reason)

    assert await relay.acknowledge(session, [outcome(each) for each in done.events], uuid4())
    assert housekeeping.partitions(settings).removed["days"] == 1

    # The one way of numbering, then the other.
    for game in (told, backward):
        write_event(connection, game)
    again = await relay.sequence(session, epochs, done.seen, limit=100)
    assert [(each.game_id, each.seq, each.sent_seq) for each in again.events] == [
        (told, 4, 2),
        (backward, 3, 2),
    ]
    last = write_event(connection, later)
    target = await snapshot(session)
    numbered = await backlog.number_slice(
        session, epochs, again.seen, target=target, after_id=last - 1, limit=100
    )
    assert numbered.numbered == 1
    standing: dict[UUID | None, tuple[int | None, int]] = {
        each.game_id: (each.first_seq, each.sent_seq)
        for each in await backlog.waiting(session, list(epochs), cursor, 0, page=100)
    }
    assert standing == {told: (4, 2), backward: (3, 2), later: (2, 1)}

    assert housekeeping.finished_games(settings).removed["last_seqs"] == 3
