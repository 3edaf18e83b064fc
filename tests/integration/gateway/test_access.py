"""pubnub-auth gives a token that opens a player's own games, for that player, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pubnub.exceptions import PubNubException
from pubnub.pnconfiguration import PNConfiguration
from pubnub.pubnub import PubNub

from sketchy_orchestration.local.pubnub import FaultKind, LocalPubNub, StandInConfig
from tests.integration.gateway.serving import ACCESS, Serving, World, serving, settings_for


@pytest.fixture
def pubnub() -> Iterator[LocalPubNub]:
    with LocalPubNub(StandInConfig(secret_key="sec-c-local", enforce_access=True)) as server:
        yield server


@pytest.fixture
def gateway(database_url: str, pubnub: LocalPubNub) -> Iterator[Serving]:
    settings = settings_for(
        database_url,
        pubnub_publish_key=pubnub.publish_key,
        pubnub_subscribe_key=pubnub.subscribe_key,
        pubnub_secret_key=pubnub.secret_key,
        pubnub_origin=pubnub.origin,
        pubnub_ssl=False,
        gateway_token_minutes=7,
    )
    with serving(settings) as served:
        yield served


def client_of(pubnub: LocalPubNub, user: str, token: str) -> PubNub:
    config = PNConfiguration()
    config.subscribe_key, config.publish_key = pubnub.subscribe_key, pubnub.publish_key
    config.uuid, config.origin, config.ssl = user, pubnub.origin, False
    client = PubNub(config)
    client.set_token(token)
    return client


def test_a_token_for_the_player_s_games(gateway: Serving, world: World, pubnub: LocalPubNub) -> None:
    ann, bob = world.user(), world.user()
    mine, second = world.game(ann, bob), world.game(ann, status="drawing", seconds_left=60)
    theirs, over = world.game(bob), world.game(ann, status="completed", seconds_left=0)
    left = world.game(ann)
    world.conn.execute(
        "update public.game_participants set left_at = now() where game_id = %s and user_id = %s", [left, ann]
    )
    told = gateway.player(ann, ACCESS).json()
    wanted = {f"{kind}-{game}" for game in (mine, second) for kind in ("game", "presence")} | {f"user-{ann}"}
    assert set(told["channels"]) == wanted
    assert (told["userId"], told["ttl"]) == (ann, 7)

    client = client_of(pubnub, ann, told["token"])
    granted = client.parse_token(told["token"])
    assert set(granted["resources"]["channels"]) == wanted
    assert all(
        [right for right, given in rights.items() if given] == ["read"]
        for rights in granted["resources"]["channels"].values()
    )
    assert (granted["authorized_uuid"], granted["ttl"]) == (ann, 7)
    assert not any(granted["patterns"].values())

    assert client.fetch_messages().channels([f"game-{mine}"]).sync().status.status_code == 200
    for channel in (f"game-{theirs}", f"game-{over}", f"game-{left}", f"user-{bob}"):
        with pytest.raises(PubNubException):
            client.fetch_messages().channels([channel]).sync()
    with pytest.raises(PubNubException):
        client.publish().channel(f"game-{mine}").message("forged").sync()
    with pytest.raises(PubNubException):
        client_of(pubnub, bob, told["token"]).fetch_messages().channels([f"game-{mine}"]).sync()


def test_a_player_without_a_game_hears_only_of_a_match(gateway: Serving, world: World) -> None:
    ann = world.user()
    assert gateway.player(ann, ACCESS).json()["channels"] == [f"user-{ann}"]


def test_an_outage_of_pubnub_is_a_bad_gateway(gateway: Serving, world: World, pubnub: LocalPubNub) -> None:
    ann = world.user()
    fault = pubnub.faults.on(FaultKind.status, status=500)
    answered = gateway.player(ann, ACCESS)
    assert (answered.status_code, answered.json()["error"]["code"]) == (502, "grant_failed")
    assert "sec-c-local" not in answered.text
    pubnub.faults.off(fault)
    assert gateway.player(ann, ACCESS).status_code == 200
