"""The load test's events, against a relay."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg
import pytest

from sketchy_orchestration.monitoring.event_load import EventsLoaded, load_events
from sketchy_orchestration.monitoring.load import LoadRefusedError
from sketchy_orchestration.pubnub.memory import MemoryPublisher
from sketchy_orchestration.settings import Environment, Settings
from tests.integration.relay.conftest import running, sent


async def test_a_rate_and_bursts_are_written_and_what_became_of_them_is_told(
    settings: Settings, connection: psycopg.Connection
) -> None:
    publisher = MemoryPublisher()
    async with running(settings, publisher):
        loaded = await asyncio.to_thread(
            load_events, settings, rate=100, seconds=1.0, burst=200, bursts=2, within=20
        )
    assert (loaded.written, loaded.delivered) == (500, 500)
    # How fast a busy machine writes is not told beforehand.
    assert [told for told in loaded.broken if "asked for" not in told] == []
    assert 0 < loaded.p50_ms <= loaded.p99_ms <= loaded.max_ms
    assert 0 < loaded.burst_ms <= loaded.max_ms
    assert len(sent(publisher)) == 500
    assert len({each.channel for each in sent(publisher)}) == 50


def test_what_nobody_takes_is_not_kept(settings: Settings, connection: psycopg.Connection) -> None:
    loaded = load_events(settings, rate=20, seconds=0.5, burst=5, bursts=0, within=0.1)
    assert (loaded.written, loaded.waiting) == (10, 10)
    assert "10 of 10 events still waited when the time was over" in loaded.broken


def test_expired_events_and_a_rate_never_reached_are_not_kept() -> None:
    whole = EventsLoaded(1000.0, 950.0, 100, 100, 0, 0, 1.0, 2.0, 3.0, 3.0)
    assert whole.broken == []
    assert replace(whole, per_second=949.0).broken == [
        "949 events/s were written where 1,000/s were asked for"
    ]
    assert replace(whole, delivered=99, expired=1).broken == [
        "1 of 100 events had lost their meaning before they could be sent"
    ]
    assert replace(whole, delivered=99, dead=1).broken == ["1 of 100 events were given up"]


def test_what_is_written_more_slowly_than_asked_is_told(
    settings: Settings, connection: psycopg.Connection
) -> None:
    connection.execute(
        "create function slow() returns trigger language plpgsql as"
        " 'begin perform pg_sleep(0.05); return null; end'"
    )
    connection.execute(
        "create trigger slow after insert on orchestration.outbox for each statement execute function slow()"
    )
    loaded = load_events(settings, rate=100, seconds=0.1, burst=1, bursts=0, within=0.0)
    assert loaded.written == 10
    assert loaded.per_second < 50
    assert "where 100/s were asked for" in loaded.broken[0]


def test_no_load_is_put_on_production(settings: Settings) -> None:
    production = settings.model_copy(update={"environment": Environment.production})
    with pytest.raises(LoadRefusedError, match="staging"):
        load_events(production, rate=1, seconds=1, burst=1, bursts=0, within=1)
