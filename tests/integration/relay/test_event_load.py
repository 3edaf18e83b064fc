"""The load test's events, against a relay."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from sketchy_orchestration.monitoring.event_load import load_events
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
    assert (loaded.written, loaded.delivered, loaded.kept) == (500, 500, True)
    assert 0 < loaded.p50_ms <= loaded.p99_ms <= loaded.max_ms
    assert 0 < loaded.burst_ms <= loaded.max_ms
    assert len(sent(publisher)) == 500
    assert len({each.channel for each in sent(publisher)}) == 50


def test_what_nobody_takes_is_not_kept(settings: Settings, connection: psycopg.Connection) -> None:
    loaded = load_events(settings, rate=20, seconds=0.5, burst=5, bursts=0, within=0.1)
    assert (loaded.written, loaded.waiting, loaded.kept) == (10, 10, False)


def test_no_load_is_put_on_production(settings: Settings) -> None:
    production = settings.model_copy(update={"environment": Environment.production})
    with pytest.raises(LoadRefusedError, match="staging"):
        load_events(production, rate=1, seconds=1, burst=1, bursts=0, within=1)
