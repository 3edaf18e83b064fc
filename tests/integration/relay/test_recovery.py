"""What comes late: failures after the circuit has closed again, outcomes of lanes that are being given up."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from sketchy_orchestration.domain import publishing
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.pubnub.publisher import failure
from sketchy_orchestration.realtime import acknowledging
from sketchy_orchestration.settings import Settings
from tests.integration.relay.conftest import outcomes, running, sent, until, write_event
from tests.integration.relay.test_failures import circuit

OPEN = """
    update orchestration.circuit
    set state = 'open', reason = 'timeout', since = now() + %s::interval, epoch = 7
"""


async def test_an_attempt_begun_before_the_outage_may_fail_after_it(
    settings: Settings, connection: psycopg.Connection
) -> None:
    game, publisher = uuid4(), MemoryPublisher()
    publisher.hang(channel=f"game-{game}")
    write_event(connection, game)
    async with running(settings, publisher, limit=1.2) as relay:
        await until(lambda: publisher.attempts == 1)
        connection.execute(OPEN, ["0 s"])
        await until(lambda: not relay.gate.open)
        # Probed and closed while that attempt is still under way.
        await until(lambda: relay.gate.open)
        await until(lambda: outcomes(connection) == {"delivered": 1}, limit=5)
        assert relay.tally.errors == 0
    tried = connection.execute("select attempt, reason from orchestration.attempts").fetchall()
    assert tried == [(1, "timeout")]
    assert connection.execute("select attempts from orchestration.outcomes").fetchone() == (2,)


class TooLargeWhole(MemoryPublisher):
    """Answers the first publish of a game's event with 413, once told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.tell = asyncio.Event(), asyncio.Event()

    async def publish(self, channel: str, message: Any, **options: Any) -> Any:
        if channel.startswith("game-") and not self.asked.is_set():
            self.asked.set()
            await self.tell.wait()
            raise failure(publishing.of_answer(413, [0, "Message Too Large", "1"], None))
        return await super().publish(channel, message, **options)


async def test_what_pubnub_itself_finds_too_large_is_sent_slim_once_it_may_be(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = TooLargeWhole()
    write_event(connection, uuid4(), data='{"short": 1, "long": "%s"}' % ("x" * 300))
    async with running(settings, publisher) as relay:
        await publisher.asked.wait()
        connection.execute(OPEN, ["1 h"])  # from when on it may be probed
        await until(lambda: not relay.gate.open)
        publisher.tell.set()
        await until(lambda: relay.tenure is not None and not relay.tenure.sending.in_flight)
        assert (publisher.attempts, circuit(connection)) == (0, ("open", "timeout"))
        connection.execute("update orchestration.circuit set state = 'closed', reason = null, epoch = 8")
        await until(lambda: outcomes(connection) == {"delivered": 1})
    (accepted,) = sent(publisher)
    assert (accepted.message["truncated"], accepted.message["data"]) == (True, {"short": 1})
    assert connection.execute("select attempts from orchestration.outcomes").fetchone() == (1,)


async def test_no_outcome_is_written_once_its_lane_is_given_back(
    settings: Settings, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acknowledging, "_BATCH", 2)
    publisher = MemoryPublisher()
    for _ in range(60):
        write_event(connection, uuid4())
        write_event(connection, uuid4(), "connection_status", age=600)
        write_event(connection, None, "test")
    async with running(settings, publisher) as relay:
        await until(lambda: len(sent(publisher)) >= 60)
        assert relay.tenure is not None
        sending = relay.tenure.sending
        await relay.tenure.holding.leave(0.0)
        left = outcomes(connection)
        assert sum(left.values()) < 180
        await until(lambda: not sending.in_flight and not sending.outcomes)
        assert outcomes(connection) == left
    async with running(settings, publisher):
        await until(lambda: sum(outcomes(connection).values()) == 180)
    events = {each.message["eventId"] for each in sent(publisher)}
    # At most what was unacknowledged: the flag fanout_concurrency.
    assert len(sent(publisher)) - len(events) <= 100
    twice = connection.execute(
        "select count(*) from (select 1 from orchestration.outcomes group by event_id having count(*) > 1) d"
    ).fetchone()
    assert twice == (0,)


async def test_nothing_is_held_back_by_the_rate_when_nothing_waits(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = MemoryPublisher()
    connection.execute(
        "update orchestration.flags set enabled = true, value = 0.001 where name = 'publish_rate'"
    )
    for _ in range(3):
        write_event(connection, uuid4())
    async with running(settings, publisher) as relay:

        def held_back() -> bool:
            relay.gate.measure()
            return relay.gate.held_back_share > 0

        await until(lambda: len(sent(publisher)) == 1 and held_back())
        assert relay.tenure is not None
        await relay.tenure.holding.leave(0.0)
        await until(lambda: not held_back(), limit=5)
