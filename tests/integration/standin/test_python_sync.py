"""Conformance: the official Python SDK's synchronous client through every operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pubnub.exceptions import PubNubException
from pubnub.models.consumer.v3.channel import Channel
from pubnub.models.consumer.v3.uuid import UUID
from pubnub.pubnub import PubNub

from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig
from tests.integration.standin.python_sdk import Heard, configured
from tests.integration.standin.wire import until

Client = Callable[..., PubNub]


def close(client: PubNub) -> None:
    """stop() raises for a client that cannot subscribe, so its connections are closed one step below."""
    if client.config.enable_subscribe:
        client.stop()
    client._request_handler.close()


@pytest.fixture
def local_pubnub() -> Iterator[LocalPubNub]:
    """Its long polls are short: the synchronous SDK cannot take one back, so stopping waits for its end."""
    with LocalPubNub(StandInConfig(long_poll_seconds=0.5)) as pubnub:
        yield pubnub


@pytest.fixture
def client(local_pubnub: LocalPubNub) -> Iterator[Client]:
    subscribers: list[PubNub] = []
    with ExitStack() as stack:

        def make(user: str = "me", **settings: Any) -> PubNub:
            config = configured(local_pubnub, user, **settings)
            made = PubNub(config)
            stack.callback(close, made)
            if config.enable_subscribe:
                subscribers.append(made)
            return made

        yield make
        for subscriber in subscribers:
            subscriber.unsubscribe_all()
        until(lambda: local_pubnub.stats()["waiting"] == 0)


@pytest.mark.parametrize("settings", [{}, {"use_post": True}, {"use_post": True, "compress": True}])
def test_publish(client: Client, local_pubnub: LocalPubNub, settings: dict[str, bool]) -> None:
    call = client().publish().channel("room").message({"text": "zoë / ?&%"}).meta({"k": 1}).ttl(2)
    call = call.custom_message_type("my-type").should_store(True)
    if settings.get("use_post"):
        call = call.use_post(True)
    if settings.get("compress"):
        call = call.use_compression(True)
    envelope = call.sync()
    assert not envelope.status.is_error()
    (entry,) = local_pubnub.record()
    assert str(envelope.result.timetoken) == entry.timetoken
    assert entry.message == {"text": "zoë / ?&%"}
    assert (entry.user_id, entry.meta, entry.custom_message_type) == ("me", '{"k": 1}', "my-type")


def test_fire_and_signal(client: Client, local_pubnub: LocalPubNub) -> None:
    me = client()
    assert me.fire().channel("room").message({"a": 1}).sync().result.timetoken
    assert me.fire().channel("room").message({"a": 1}).use_post(True).sync().result.timetoken
    assert me.signal().channel("room").message("hi").custom_message_type("my-type").sync().result.timetoken
    assert [entry.operation for entry in local_pubnub.record()] == ["fire", "fire", "signal"]


def test_subscribe_hears_messages_signals_and_presence_in_order(client: Client) -> None:
    listener, me = Heard(), client(enable_subscribe=True)
    me.add_listener(listener)
    me.subscribe().channels(["room", "hall"]).with_presence().execute()
    listener.wait_connected()
    you = client("you")
    for number in range(30):
        channel = "room" if number % 2 else "hall"
        you.publish().channel(channel).message({"n": number}).meta({"m": number}).sync()
    you.signal().channel("room").message("blink").sync()
    until(lambda: len(listener.messages) == 30 and listener.signals)
    assert [text["n"] for text in listener.texts()] == list(range(30))
    first = listener.messages[0]
    assert (first.channel, first.publisher, first.user_metadata) == ("hall", "you", {"m": 0})
    assert listener.signals[0].message == "blink"
    until(lambda: len(listener.presences) >= 2)
    assert set(listener.actions()) == {("join", "me")}


def test_presence_join_leave_here_now_where_now(client: Client) -> None:
    listener, watcher = Heard(), client("watcher", enable_subscribe=True)
    watcher.add_listener(listener)
    watcher.subscribe().channels("room").with_presence().execute()
    listener.wait_connected()
    guest_heard, guest = Heard(), client("guest", enable_subscribe=True)
    guest.add_listener(guest_heard)
    guest.subscribe().channels("room").execute()
    guest_heard.wait_connected()
    until(lambda: ("join", "guest") in listener.actions())
    asker = client("asker")
    (here,) = asker.here_now().channels("room").sync().result.channels
    assert here.occupancy == 2
    assert sorted(occupant.uuid for occupant in here.occupants) == ["guest", "watcher"]
    several = asker.here_now().channels(["room", "empty"]).sync().result
    assert (several.total_channels, several.total_occupancy) == (1, 2)
    everywhere = asker.here_now().include_uuids(False).sync().result
    assert everywhere.total_occupancy == 2
    assert asker.where_now("guest").sync().result.channels == ["room"]
    guest.unsubscribe().channels("room").execute()
    until(lambda: ("leave", "guest") in listener.actions())
    assert asker.where_now("guest").sync().result.channels == []


def test_a_client_that_falls_silent_times_out(client: Client) -> None:
    listener, watcher = Heard(), client("watcher", enable_subscribe=True)
    watcher.add_listener(listener)
    watcher.subscribe().channels("room").with_presence().execute()
    listener.wait_connected()
    guest = client("guest", enable_subscribe=True)  # without, the SDK's heartbeat() raises AttributeError
    guest.config.set_presence_timeout_with_custom_interval(1, 1)
    guest.heartbeat().channels("room").sync()
    until(lambda: ("timeout", "guest") in listener.actions())
    assert listener.actions().index(("join", "guest")) < listener.actions().index(("timeout", "guest"))


def test_history_pages_and_counts(client: Client) -> None:
    me = client()
    tokens = [
        me.publish().channel("room").message(n).meta({"n": n}).sync().result.timetoken for n in range(110)
    ]
    page = me.fetch_messages().channels("room").include_meta(True).include_uuid(True).sync().result
    messages = page.channels["room"]
    assert [item.message for item in messages] == list(range(10, 110))
    assert (messages[0].uuid, messages[0].meta) == ("me", {"n": 10})
    assert int(messages[-1].timetoken) == tokens[-1]
    older = me.fetch_messages().channels("room").start(tokens[10]).sync().result.channels["room"]
    assert [item.message for item in older] == list(range(10))
    missed = me.fetch_messages().channels("room").end(tokens[105]).sync().result.channels["room"]
    assert [item.message for item in missed] == list(range(105, 110))
    counted = me.message_counts().channel("room").channel_timetokens([tokens[100]]).sync().result
    assert counted.channels == {"room": 10}
    both = me.message_counts().channel(["room", "hall"]).channel_timetokens([tokens[100], tokens[0]])
    assert both.sync().result.channels == {"room": 10, "hall": 0}


def test_time(client: Client) -> None:
    assert len(str(int(client().time().sync().result))) == 17


def test_catching_up_from_a_timetoken(client: Client) -> None:
    me = client("me", enable_subscribe=True)
    since = me.publish().channel("room").message("first").sync().result.timetoken
    me.publish().channel("room").message("missed").sync()
    listener = Heard()
    me.add_listener(listener)
    me.subscribe().channels("room").with_timetoken(since).execute()
    until(lambda: listener.texts() == ["missed"])


def test_access_manager_with_the_sdks_signatures_and_tokens() -> None:
    with (
        LocalPubNub(StandInConfig(secret_key="secret", enforce_access=True)) as pubnub,
        ExitStack() as stack,
    ):

        def make(user: str, **settings: Any) -> PubNub:
            made = PubNub(configured(pubnub, user, **settings))
            stack.callback(close, made)
            return made

        server = make("server", secret_key="secret")
        assert server.publish().channel("room").message({"a": "signed, v2 ~ üñ"}).meta({"k": "v"}).sync()
        assert server.publish().channel("room").message({"a": "signed, v1"}).use_post(True).sync()
        assert server.publish().channel("room").message("z").use_post(True).use_compression(True).sync()
        assert server.signal().channel("room").message("signed").sync()
        assert server.fetch_messages().channels(["room"]).include_uuid(True).sync()
        assert server.here_now().channels(["room", "hall"]).sync()
        granted = server.grant_token().ttl(60).authorized_uuid("guest").meta({"level": 3})
        granted = granted.channels([Channel.id("room").read().write(), Channel.pattern("^hall-.*$").read()])
        token = granted.uuids([UUID.id("guest").get().update()]).sync().result.token
        parsed = server.parse_token(token)
        assert (parsed["version"], parsed["ttl"], parsed["authorized_uuid"]) == (2, 60, "guest")
        assert parsed["resources"]["channels"]["room"]["write"]
        assert not parsed["resources"]["channels"]["room"]["manage"]
        assert parsed["patterns"]["channels"]["^hall-.*$"]["read"]
        assert parsed["resources"]["uuids"]["guest"]["update"]
        assert parsed["meta"] == {"level": 3}

        guest = make("guest")
        with pytest.raises(PubNubException, match="Forbidden") as refused:
            guest.publish().channel("room").message(1).sync()
        assert refused.value.get_status_code() == 403
        guest.set_token(token)
        assert guest.publish().channel("room").message(1).sync()
        assert guest.fetch_messages().channels(["hall-1"]).sync()
        with pytest.raises(PubNubException, match="Forbidden"):
            guest.publish().channel("hall-1").message(1).sync()
        assert server.revoke_token(token).sync().result.status == 200
        with pytest.raises(PubNubException, match="Token is revoked"):
            guest.publish().channel("room").message(1).sync()
        wrong = make("server", secret_key="another")
        with pytest.raises(PubNubException, match="Signature does not match"):
            wrong.publish().channel("room").message(1).sync()


def test_errors_come_as_the_real_service_sends_them(client: Client) -> None:
    with pytest.raises(PubNubException, match="Invalid Key") as refused:
        client(publish_key="wrong").publish().channel("room").message(1).sync()
    assert refused.value.get_status_code() == 400
    with pytest.raises(PubNubException, match="Message Too Large"):
        client().publish().channel("room").message("x" * 40_000).use_post(True).sync()
    with pytest.raises(PubNubException, match="Invalid JSON"):
        client().publish().channel("room").message(float("nan")).sync()
    with pytest.raises(PubNubException, match="not supported"):
        client().set_state().channels("room").state({"a": 1}).sync()
