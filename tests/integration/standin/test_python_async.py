"""Conformance: the official Python SDK's asyncio client with both of its request handlers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pubnub.exceptions import PubNubException
from pubnub.models.consumer.v3.channel import Channel
from pubnub.pubnub_asyncio import (
    AsyncioSubscriptionManager,
    EventEngineSubscriptionManager,
    PubNubAsyncio,
)
from pubnub.request_handlers.async_aiohttp import AsyncAiohttpRequestHandler
from pubnub.request_handlers.async_httpx import AsyncHttpxRequestHandler

from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig
from tests.integration.standin.python_sdk import Heard, configured
from tests.integration.standin.wire import Wire

HANDLERS = {"httpx": AsyncHttpxRequestHandler, "aiohttp": AsyncAiohttpRequestHandler}
Client = Callable[..., PubNubAsyncio]


@pytest.fixture(params=list(HANDLERS))
def handler(request: pytest.FixtureRequest) -> type:
    return HANDLERS[request.param]


@pytest.fixture(params=[AsyncioSubscriptionManager, EventEngineSubscriptionManager])
def manager(request: pytest.FixtureRequest) -> type:
    chosen: type = request.param
    return chosen


@contextlib.asynccontextmanager
async def connected(
    pubnub: LocalPubNub, handler: type, user: str, manager: type | None = None, **settings: Any
) -> AsyncIterator[Any]:
    config = configured(pubnub, user, **settings)
    client = PubNubAsyncio(config, subscription_manager=manager, custom_request_handler=handler)
    try:
        yield client
    finally:
        if client.config.enable_subscribe:
            client.unsubscribe_all()
            await asyncio.wait_for(client.stop(), 5)
            if isinstance(client._subscription_manager, EventEngineSubscriptionManager):
                client._subscription_manager.loop.close()  # the SDK makes one and forgets it
        else:
            await client.close_session()
        # What the SDK cancelled or began in tasks of its own ends here, not in another test.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


async def comes_true(condition: Callable[[], object], limit: float = 10) -> None:
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - the condition comes true in another thread
            await asyncio.sleep(0.005)


async def test_publish_fire_signal(local_pubnub: LocalPubNub, handler: type) -> None:
    async with connected(local_pubnub, handler, "me") as me:
        envelope = await me.publish().channel("room").message({"text": "zoë"}).meta({"k": 1}).future()
        assert not envelope.status.is_error()
        post = me.publish().channel("room").message({"n": 2}).use_post(True).custom_message_type("my-type")
        assert (await post.result()).timetoken
        packed = me.publish().channel("room").message({"n": 3}).use_post(True).use_compression(True)
        assert (await packed.result()).timetoken
        assert (await me.fire().channel("room").message(4).result()).timetoken
        assert (await me.signal().channel("room").message("five").result()).timetoken
    assert [entry.message for entry in local_pubnub.record()] == [
        {"text": "zoë"},
        {"n": 2},
        {"n": 3},
        4,
        "five",
    ]
    assert [entry.operation for entry in local_pubnub.record()][-2:] == ["fire", "signal"]


async def test_a_hundred_publishes_at_once_are_all_accepted(local_pubnub: LocalPubNub, handler: type) -> None:
    async with connected(local_pubnub, handler, "me") as me:
        calls: list[Awaitable[Any]] = [
            me.publish().channel(f"room-{number % 7}").message(number).result() for number in range(100)
        ]
        results = await asyncio.gather(*calls)
    assert len({result.timetoken for result in results}) == 100
    assert sorted(entry.message for entry in local_pubnub.record()) == list(range(100))


async def test_subscribe_and_presence(local_pubnub: LocalPubNub, handler: type, manager: type) -> None:
    listener = Heard()
    async with (
        connected(local_pubnub, handler, "me", manager, enable_subscribe=True) as me,
        connected(local_pubnub, handler, "you") as you,
    ):
        me.add_listener(listener)
        me.subscribe().channels(["room", "hall"]).with_presence().execute()
        await comes_true(listener.connected)
        for number in range(20):
            await you.publish().channel("room" if number % 2 else "hall").message(number).result()
        await you.signal().channel("room").message("blink").result()
        await comes_true(lambda: len(listener.messages) == 20 and listener.signals)
        assert listener.texts() == list(range(20))
        await comes_true(lambda: ("join", "me") in listener.actions())
        here = await you.here_now().channels("room").result()
        assert [occupant.uuid for occupant in here.channels[0].occupants] == ["me"]
        assert (await you.where_now().uuid("me").result()).channels == ["hall", "room"]
        leaver = Wire(local_pubnub)
        me.unsubscribe().channels("hall").execute()
        if manager is AsyncioSubscriptionManager:  # the event engine leaves without a word
            await comes_true(lambda: leaver.where_now("me") == ["room"])
        await you.publish().channel("hall").message("unheard").result()
        await you.publish().channel("room").message("heard").result()
        await comes_true(lambda: "heard" in listener.texts())
        assert "unheard" not in listener.texts()


async def test_catching_up_after_a_pause(local_pubnub: LocalPubNub, handler: type, manager: type) -> None:
    listener = Heard()
    async with connected(local_pubnub, handler, "me", manager, enable_subscribe=True) as me:
        me.add_listener(listener)
        me.subscribe().channels("room").execute()
        await comes_true(listener.connected)
        wire = Wire(local_pubnub)
        for number in range(120):
            wire.publish("room", number)  # blocks this event loop, so the subscriber falls behind
        await comes_true(lambda: 119 in listener.texts())
        heard = listener.texts()
        assert heard == sorted(set(heard))
        assert len(heard) >= 100


async def test_history_counts_and_time(local_pubnub: LocalPubNub, handler: type) -> None:
    async with connected(local_pubnub, handler, "me") as me:
        tokens = [
            (await me.publish().channel("room").message(number).result()).timetoken for number in range(5)
        ]
        page = await me.fetch_messages().channels("room").include_uuid(True).result()
        assert [item.message for item in page.channels["room"]] == list(range(5))
        counted = await me.message_counts().channel("room").channel_timetokens([tokens[3]]).result()
        assert counted.channels == {"room": 2}
        assert int(await me.time().result()) > tokens[-1]


async def test_access_manager(handler: type) -> None:
    with LocalPubNub(StandInConfig(secret_key="secret", enforce_access=True)) as pubnub:
        async with (
            connected(pubnub, handler, "server", secret_key="secret") as server,
            connected(pubnub, handler, "guest") as guest,
        ):
            assert (
                await server.publish().channel("room").message({"v": 2}).meta({"a": "b c"}).result()
            ).timetoken
            assert (
                await server.publish().channel("room").message({"v": 1}).use_post(True).result()
            ).timetoken
            channels = [Channel.id("room").read().write()]
            granted = await server.grant_token().ttl(5).authorized_uuid("guest").channels(channels).result()
            assert server.parse_token(granted.token)["authorized_uuid"] == "guest"
            with pytest.raises(PubNubException, match="Forbidden"):
                await guest.publish().channel("room").message(1).result()
            guest.set_token(granted.token)
            assert (await guest.publish().channel("room").message(1).result()).timetoken
            assert (await server.revoke_token(granted.token).result()).status == 200
            with pytest.raises(PubNubException, match="revoked"):
                await guest.publish().channel("room").message(1).result()
