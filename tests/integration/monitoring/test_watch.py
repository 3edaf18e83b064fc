"""The watch at work: canaries through a real PubNub-compatible server, the dead man's switch, an outage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from sketchy_orchestration.cli import joining
from sketchy_orchestration.cli.main import app
from sketchy_orchestration.database import monitoring
from sketchy_orchestration.local.pubnub.embedded import LocalPubNub
from sketchy_orchestration.monitoring import watch
from sketchy_orchestration.monitoring.canary import Flight, fly_once
from sketchy_orchestration.monitoring.watch import Watchman
from sketchy_orchestration.monitoring.watchdog import watch as keep_watching
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.settings import Settings
from tests.integration.monitoring.conftest import Facts
from tests.integration.monitoring.receivers import Received, webhook


@pytest.fixture
def pubnub() -> Iterator[LocalPubNub]:
    with LocalPubNub() as server:
        yield server


@pytest.fixture
def heard() -> Iterator[Received]:
    with webhook() as received:
        yield received


@pytest.fixture
def running(settings: Settings, pubnub: LocalPubNub, heard: Received) -> Settings:
    """Settings of a system with PubNub, a dead man's switch and one channel."""
    return settings.model_copy(
        update={
            "pubnub_publish_key": SecretStr(pubnub.publish_key),
            "pubnub_subscribe_key": SecretStr(pubnub.subscribe_key),
            "pubnub_origin": pubnub.origin,
            "pubnub_ssl": False,
            "dead_man_url": SecretStr(f"http://{heard.url}/alive"),
            "alert_slack_url": SecretStr(f"json://{heard.url}/"),
        }
    )


def daemon_is_alive(connection: psycopg.Connection) -> None:
    monitoring.observe(connection, "dagster_daemon_alive", 1)


async def test_a_canary_is_heard(running: Settings, pubnub: LocalPubNub) -> None:
    flight = await fly_once(Keyset.of(running), "local")
    assert flight.milliseconds is not None
    assert flight.milliseconds < 2_000
    pubnub.faults.on("status", status=503)
    lost = await fly_once(Keyset.of(running), "local")
    assert lost.milliseconds is None
    assert lost.why


async def test_the_watchdog_flies_looks_and_pings_while_all_is_well(
    running: Settings, operator: psycopg.Connection, heard: Received, facts: Facts
) -> None:
    facts.at_work()
    daemon_is_alive(operator)
    stop = asyncio.Event()
    looks: list[watch.Look] = []

    def tell(look: watch.Look) -> None:
        looks.append(look)
        if len(looks) == 2:
            facts.live_game(overdue=60)
        if len(looks) == 4:
            stop.set()

    async with asyncio.timeout(60):
        await keep_watching(running, stop, every=0.05, tell=tell)
    assert [look.pinged for look in looks] == [True, True, False, False]
    assert heard.paths == ["/alive", "/alive"]
    assert all(check.healthy for check in looks[0].checks)
    signals = monitoring.signals(operator)
    assert 0 < signals["canary_milliseconds", "local"] < 2_000


def test_a_dead_daemon_stops_the_ping_unless_nobody_uses_dagster(
    running: Settings, operator: psycopg.Connection, heard: Received, facts: Facts
) -> None:
    facts.at_work()
    daemon_is_alive(operator)
    facts.connection.execute("update orchestration.observations set at = at - interval '5 minutes'")
    watchman = Watchman(running)
    assert not watchman.look([Flight(10.0)]).pinged
    assert watchman.look(needed=["database", "games"]).pinged


def test_an_unreachable_database_is_told_without_rows(
    running: Settings, heard: Received, monkeypatch: pytest.MonkeyPatch, facts: Facts
) -> None:
    monkeypatch.setattr(watch, "UNREACHABLE_AFTER", 0.0)
    facts.at_work()
    nowhere = SecretStr("postgresql://nobody@127.0.0.1:1/nothing")
    watchman = Watchman(running)
    known = watchman._settings
    watchman._settings = running.model_copy(update={"database_url": nowhere})
    for _ in range(3):
        assert not watchman.look().checks[0].healthy
    watchman._settings = known
    watchman.look()
    about = [title for title in heard.titles if "database" in title]
    assert about == [
        "[critical firing] The database cannot be reached",
        "[critical resolved] The database is back",
    ]


def test_the_commands(
    running: Settings, monkeypatch: pytest.MonkeyPatch, operator: psycopg.Connection, facts: Facts
) -> None:
    monkeypatch.setattr(joining, "settings", lambda: running)
    facts.at_work()
    run = CliRunner().invoke(app, ["probe", "--count", "3", "--interval", "0", "--region", "here", "--json"])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert (told["sent"], told["lost"], told["recorded"]) == (3, 0, True)
    assert ("canary_milliseconds", "here") in monitoring.signals(operator)
    run = CliRunner().invoke(app, ["watchdog", "--looks", "3", "--every", "0.2", "--without-dagster"])
    assert run.exit_code == 0, run.output
    ready, *lines = run.stdout.splitlines()
    assert ready.startswith("watching every 0.2 s; alerts go to slack; the dead man's switch is told")
    assert ["all is well" in line for line in lines] == [True]  # once, though it looked three times
