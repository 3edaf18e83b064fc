"""A long outage in a short time: events written while PubNub fails are as old as they would be by its end."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from sketchy_orchestration.domain import publishing
from sketchy_orchestration.domain.publishing import Waiting
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import outcomes, running, sent, until, write_event
from tests.integration.relay.test_failures import circuit, dead
from tests.integration.relay.test_time_syncs import game_in_drawing, syncs

TYPES = [kind for kind in publishing.LIFETIMES if kind not in ("test", "server_timer_sync")] + ["MATCH_FOUND"]
# Seconds before the end of the outage; no lifetime lies within half a minute above one of them.
AGES = {"ten minutes": [600, 420, 180, 120, 13], "an hour": [3600, 1800, 900, 120, 13]}


def write_all(
    connection: psycopg.Connection, games: list[UUID], ages: list[int]
) -> dict[UUID, list[Waiting]]:
    """Two events of each game at each age, the oldest first; what waits, by game."""
    chance = random.Random(5)
    written: dict[UUID, list[Waiting]] = defaultdict(list)
    for age in ages:
        for game in games * 2:
            kind = chance.choice(TYPES)
            event_id = write_event(connection, game, kind, age=age)
            written[game].append(Waiting(str(event_id), kind, "system", age))
    return written


@pytest.mark.parametrize(
    ("long", "status", "body", "reason"),
    [
        ("ten minutes", 503, "<html>", "server_error"),
        ("an hour", 403, {"message": "Forbidden"}, "credentials"),
    ],
    ids=["pubnub away", "wrong key"],
)
async def test_nothing_dies_of_it_and_what_lost_its_meaning_expires(
    settings: Settings, connection: psycopg.Connection, long: str, status: int, body: Any, reason: str
) -> None:
    publisher = MemoryPublisher()
    playing = [game_in_drawing(connection) for _ in range(20)]
    over = [uuid4() for _ in range(20)]
    async with running(settings, publisher) as relay:
        await until(lambda: relay.gate.open)
        publisher.answer(status, body, times=None)
        written = write_all(connection, playing + over, AGES[long])
        total = sum(map(len, written.values()))
        await until(lambda: circuit(connection) == ("open", reason))
        # Games go on: what they tell is numbered and kept.
        await until(lambda: relay.tally.sequenced == total)
        assert sent(publisher) == []
        assert set(outcomes(connection)) <= {"expired"}
        publisher.heal()
        await until(lambda: sum(outcomes(connection).values()) == total)
        await until(lambda: relay.tally.syncs == len(playing))
    assert dead(connection) == []
    expired = {int(event) for waiting in written.values() for event in publishing.expired(waiting)}
    rows = connection.execute("select outbox_id from orchestration.outcomes where outcome = 'expired'")
    assert {row[0] for row in rows} == expired
    assert 0.2 < len(expired) / total < 0.8
    assert_heard_in_order(publisher, written, expired)
    for game in playing:
        assert len(syncs(publisher, game)) == 1
        assert [each for each in sent(publisher) if each.channel == f"game-{game}"][-1].message["data"]
    connection.execute("select orchestration.refresh_ledger(now() - interval '2 hours')")
    books = connection.execute(
        "select sum(written), sum(delivered), sum(dead), sum(expired) from orchestration.ledger"
    ).fetchone()
    assert books == (total, total - len(expired), 0, len(expired))


def assert_heard_in_order(
    publisher: MemoryPublisher, written: dict[UUID, list[Waiting]], expired: set[int]
) -> None:
    """Each game's events that did not expire, once, in their order; `after` is the last sent before."""
    for game, waiting in written.items():
        numbered = enumerate(waiting, start=1)
        wanted = [(seq, event.type) for seq, event in numbered if int(event.event_id) not in expired]
        heard = [
            each.message
            for each in sent(publisher)
            if each.channel == f"game-{game}" and "seq" in each.message
        ]
        assert [(message["seq"], message["type"]) for message in heard] == wanted
        assert [message["after"] for message in heard] == [0, *(seq for seq, _ in wanted)][: len(heard)]
        newest = {event.type: event for event in waiting}
        for kind in ("phase_changed", "game_completed"):
            assert kind not in newest or int(newest[kind].event_id) not in expired
