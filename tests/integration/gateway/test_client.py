"""The reference client hears each event once, in order, whatever PubNub loses, repeats or shortens."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig
from tests.integration.gateway.reference_client import CLIENT, Played
from tests.integration.gateway.serving import EVENTS, Serving, World, serving, settings_for


@pytest.fixture
def pubnub() -> Iterator[LocalPubNub]:
    with LocalPubNub(StandInConfig(port=processes.free_port())) as server:
        yield server


def test_it_is_short() -> None:
    assert len(CLIENT.read_text(encoding="utf-8").splitlines()) <= 100


def test_it_starts_with_what_it_missed_and_goes_on_live(
    gateway: Serving, world: World, pubnub: LocalPubNub
) -> None:
    played = Played(world, gateway, pubnub, "delivered", "delivered", "delivered")
    with played.client() as client:
        client.until_heard(1, 2, 3)
        later = {**played.messages[3], "eventId": "later", "seq": 4, "after": 3}
        played.publish(later)
        client.until_heard(1, 2, 3, 4)
        assert client.heard[:3] == [played.messages[seq] for seq in (1, 2, 3)]


def test_without_a_beginning_it_tells_only_what_comes(
    gateway: Serving, world: World, pubnub: LocalPubNub
) -> None:
    played = Played(world, gateway, pubnub, "delivered", "delivered")
    with played.client(after=None) as client:
        played.publish({**played.messages[2], "eventId": "later", "seq": 3, "after": 2})
        client.until_heard(3)


def test_a_repeat_is_dropped(gateway: Serving, world: World, pubnub: LocalPubNub) -> None:
    played = Played(world, gateway, pubnub, "delivered")
    with played.client() as client:
        client.until_heard(1)
        second = {**played.messages[1], "eventId": "second", "seq": 2, "after": 1}
        for message in (played.messages[1], second, second, played.messages[1]):
            played.publish(message)
        played.publish({**second, "eventId": "third", "seq": 3, "after": 2})
        client.until_heard(1, 2, 3)


def test_a_lost_message_is_fetched_and_the_order_stays(
    gateway: Serving, world: World, pubnub: LocalPubNub
) -> None:
    played = Played(world, gateway, pubnub, *["delivered"] * 2)
    with played.client() as client:
        client.until_heard(1, 2)
        messages = played.sequence_again(world, *["delivered"] * 5)
        # PubNub loses the third and fourth; the fifth tells that something came before it.
        played.publish(messages[4])
        client.until_heard(1, 2, 3, 4, 5)


def test_an_event_given_up_is_no_gap(gateway: Serving, world: World, pubnub: LocalPubNub) -> None:
    played = Played(world, gateway, pubnub, "delivered")
    with played.client() as client:
        client.until_heard(1)
        # The second became a dead letter: the third follows the first.
        played.publish({**played.messages[1], "eventId": "third", "seq": 3, "after": 1})
        client.until_heard(1, 3)


def test_in_catching_up_the_dead_are_told_and_the_expired_are_not(
    gateway: Serving, world: World, pubnub: LocalPubNub
) -> None:
    played = Played(world, gateway, pubnub, "delivered", "dead", "expired", "delivered", "waiting")
    with played.client() as client:
        client.until_heard(1, 2, 4, 5)
        # What waited arrives at last: it is known.
        played.publish({**played.messages[5], "after": 4})
        played.publish({**played.messages[5], "eventId": "sixth", "seq": 6, "after": 5})
        client.until_heard(1, 2, 4, 5, 6)


def test_a_truncated_event_is_fetched_whole(gateway: Serving, world: World, pubnub: LocalPubNub) -> None:
    played = Played(world, gateway, pubnub, "delivered")
    with played.client() as client:
        client.until_heard(1)
        message = played.sequence_again(world, "delivered", "delivered")[1]
        played.publish({**message, "data": {}, "truncated": True})
        client.until_heard(1, 2)
        assert client.heard[1] == message


def test_after_an_outage_it_comes_back_and_catches_up(
    gateway: Serving, world: World, pubnub: LocalPubNub
) -> None:
    played = Played(world, gateway, pubnub, "delivered")
    with played.client(checkMs=300) as client:
        client.until_heard(1)
        pubnub.stop()
        # The last event is lost, so none comes that would tell of it: the client looks from time to time.
        messages = played.sequence_again(world, "delivered", "delivered", "delivered")
        client.until_heard(1, 2, 3)
        pubnub.start()
        later = {**messages[2], "eventId": "later", "seq": 4, "after": 3}
        assert wait_until(lambda: pubnub.stats()["waiting"] > 0, seconds=30)
        played.publish(later)
        client.until_heard(1, 2, 3, 4)


def test_an_outage_of_the_gateway_delays_and_loses_nothing(
    database_url: str, world: World, pubnub: LocalPubNub
) -> None:
    settings = settings_for(database_url, gateway_player_rate="5/second")
    with serving(settings) as gateway:
        played = Played(world, gateway, pubnub, "delivered", "delivered")
        for _ in range(8):
            gateway.player(played.players[0], EVENTS, {"gameId": played.game})
        with played.client() as client:
            client.until_heard(1, 2)


def test_the_countdown_runs_on_the_server_s_clock(
    gateway: Serving, world: World, pubnub: LocalPubNub
) -> None:
    played = Played(world, gateway, pubnub, "delivered")
    with played.client() as client:
        told = client.ask("remaining", "remaining")
        assert abs(told["offset"]) < 1000
        assert 50_000 < told["remaining"] <= 60_000
        soon = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 5))
        sync = {"type": "server_timer_sync", "eventId": "s", "data": {"phaseExpiresAt": soon}}
        played.publish({**played.messages[1], **sync, "seq": 2, "after": 1})
        assert wait_until(lambda: client.ask("remaining", "remaining")["remaining"] < 6_000, seconds=10)


def test_with_access_control_it_reads_its_game(database_url: str, world: World) -> None:
    config = StandInConfig(secret_key="sec-c-local", enforce_access=True)
    with LocalPubNub(config) as pubnub:
        settings = settings_for(
            database_url,
            pubnub_publish_key=pubnub.publish_key,
            pubnub_subscribe_key=pubnub.subscribe_key,
            pubnub_secret_key=pubnub.secret_key,
            pubnub_origin=pubnub.origin,
            pubnub_ssl=False,
        )
        with serving(settings) as gateway:
            played = Played(world, gateway, pubnub, "delivered")
            with played.client() as client:
                client.until_heard(1)
