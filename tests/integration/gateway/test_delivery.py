"""From the door to the listener: the real relay delivers what the gateway accepted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.local.pubnub import FaultKind, LocalPubNub
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.subscriber import Subscriber
from tests.integration.gateway.reference_client import ReferenceClient, options
from tests.integration.gateway.serving import (
    BROADCAST,
    EVENTS,
    SERVICE_KEY,
    SMOKE,
    Serving,
    World,
    serving,
    settings_for,
)

SMOKE_TEST = r"""-X POST https://production-project.supabase.co/functions/v1/broadcast-pubnub-event \
  -H "Authorization: Bearer $SERVICE_ROLE_KEY" \
  -d '{"type":"test","gameId":"test-game","userId":"test-user","timestamp":1234567890,"version":"2.0.0","data":{}}'
"""  # noqa: E501


@pytest.fixture
def pubnub() -> Iterator[LocalPubNub]:
    with LocalPubNub() as server:
        yield server


@contextmanager
def relay(database_url: str, pubnub: LocalPubNub, log: Path) -> Iterator[None]:
    """A fan-out shift as the operator runs it."""
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "PUBNUB_PUBLISH_KEY": pubnub.publish_key,
        "PUBNUB_SUBSCRIBE_KEY": pubnub.subscribe_key,
        "PUBNUB_ORIGIN": pubnub.origin,
        "PUBNUB_SSL": "false",
    }
    command = [sys.executable, "-m", "sketchy_orchestration.cli.main", "shift", "fanout"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent
        )
        try:
            with psycopg.connect(database_url, autocommit=True) as conn:
                free = "select count(*) from orchestration.lanes where holder is null"
                assert wait_until(lambda: conn.execute(free).fetchone() == (0,), seconds=60)
            yield
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def gateway(database_url: str, pubnub: LocalPubNub, tmp_path: Path) -> Iterator[Serving]:
    settings = settings_for(database_url, gateway_delivery_seconds=9, gateway_request_seconds=20)
    with relay(database_url, pubnub, tmp_path / "log"), serving(settings) as served:
        yield served


def test_the_seeds_smoke_test_line_for_line(gateway: Serving, pubnub: LocalPubNub) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl on PATH")
    script = f"{curl} -s {SMOKE_TEST.replace('https://production-project.supabase.co', gateway.url)}"
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": os.environ["PATH"], "SERVICE_ROLE_KEY": SERVICE_KEY},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert '"success":true' in done.stdout
    assert '"state":"delivered"' in done.stdout
    (taken,) = pubnub.record()
    assert taken.channel == "game-test-game"
    assert f'"game-test-game":"{taken.timetoken}"' in done.stdout


async def test_a_subscriber_hears_what_was_sent_through_the_door(
    gateway: Serving, world: World, pubnub: LocalPubNub
) -> None:
    player = world.user()
    game = world.game(player)
    keyset = Keyset(
        SecretStr(pubnub.publish_key), SecretStr(pubnub.subscribe_key), origin=pubnub.origin, ssl=False
    )
    event = {
        **SMOKE,
        "type": "connection_status",
        "gameId": game,
        "userId": player,
        "data": {"status": "away"},
    }
    async with Subscriber(keyset, uuid="listener") as subscriber:
        await subscriber.subscribe(f"game-{game}", f"presence-{game}")
        answered = gateway.service(BROADCAST, event, x_request_id="from-the-door")
        heard = [await subscriber.next(within=10) for _ in range(2)]
    assert answered.status_code == 200
    told = answered.json()
    assert told["timetokens"] == {each.channel: str(each.timetoken) for each in heard}
    for each in heard:
        assert each.message["eventId"] == told["eventId"]
        assert each.message["requestId"] == "from-the-door"
        assert (each.message["type"], each.message["data"]) == ("connection_status", {"status": "away"})
        assert isinstance(each.message["seq"], int)


def test_what_pubnub_refuses_for_good_is_a_bad_gateway(
    gateway: Serving, pubnub: LocalPubNub, world: World
) -> None:
    pubnub.faults.on(FaultKind.status, status=400, body='[0,"Message Invalid","1"]', operations=["publish"])
    answered = gateway.service(BROADCAST, SMOKE)
    assert (answered.status_code, answered.json()["error"]["code"]) == (502, "event_given_up")


def test_while_pubnub_is_down_the_event_is_kept(gateway: Serving, pubnub: LocalPubNub, world: World) -> None:
    pubnub.faults.on(FaultKind.status, status=503)
    answered = gateway.service(BROADCAST, SMOKE, prefer="wait=1")
    assert (answered.status_code, answered.json()["state"]) == (202, "waiting")
    pubnub.faults.off()


def test_the_reference_client_hears_a_whole_game_once_in_order(
    gateway: Serving, world: World, pubnub: LocalPubNub
) -> None:
    world.enrol_all()
    ann, bob = world.user(), world.user()
    game = world.game(ann, bob)
    conn = world.conn
    fault = pubnub.faults.on(FaultKind.duplicate, operations=["publish"])
    with ReferenceClient(options(gateway, pubnub, game, ann, after=0, checkMs=2000)) as client:
        conn.execute("select public.transition_game_status(%s, 'briefing')", [game])
        for _ in range(4):
            conn.execute(
                "update public.games set phase_expires_at = now() - interval '10 ms' where id = %s", [game]
            )
            conn.execute("select orchestration.sweep()")
        client.until(lambda: any(event["type"] == "game_completed" for event in client.heard))
        told = gateway.player(ann, EVENTS, {"gameId": game}).json()
        seqs = [event["seq"] for event in client.heard if "seq" in event]
        assert seqs == sorted(set(seqs))
        assert seqs == [each["event"]["seq"] for each in told["events"] if each["state"] != "expired"]
    pubnub.faults.off(fault)
