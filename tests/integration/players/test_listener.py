"""The official SDK hears every message once and in order, while channels come and go."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from uuid import uuid4

import pytest
from pubnub.pubnub_asyncio import PubNubAsyncio
from pubnub.request_handlers.async_aiohttp import AsyncAiohttpRequestHandler
from pydantic import SecretStr

from sketchy_orchestration.local.players.listener import Listener, NothingToHearError
from sketchy_orchestration.local.pubnub import LocalPubNub
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.sdk import configuration


class Notes:
    def __init__(self) -> None:
        self.by_channel: dict[str, list[object]] = defaultdict(list)
        self.news = asyncio.Event()

    def hear(self, channel: str, message: Mapping[str, object]) -> None:
        self.by_channel[channel].append(message["number"])
        self.news.set()

    async def until(self, wanted: Mapping[str, list[object]], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while any(len(self.by_channel[channel]) < len(numbers) for channel, numbers in wanted.items()):
                self.news.clear()
                await self.news.wait()


class Publisher:
    def __init__(self, keyset: Keyset) -> None:
        config = configuration(keyset, "test")
        config.enable_subscribe = False
        self._sdk = PubNubAsyncio(config, custom_request_handler=AsyncAiohttpRequestHandler)

    async def say(self, channel: str, number: int) -> None:
        await self._sdk.publish().channel(channel).message({"number": number}).result()

    async def close(self) -> None:
        await self._sdk.close_session()


async def test_games_added_while_messages_fly_are_heard_once_and_in_order(keyset: Keyset) -> None:
    notes = Notes()
    publisher = Publisher(keyset)
    games = [str(uuid4()) for _ in range(20)]
    async with Listener(keyset, notes.hear) as listener:

        async def speak(game: str) -> None:
            for number in range(20):
                await publisher.say(f"game-{game}", number)

        speaking = []
        for game in games:
            await listener.add([game])
            speaking.append(asyncio.create_task(speak(game)))
        await asyncio.gather(*speaking)
        wanted: dict[str, list[object]] = {f"game-{game}": list(range(20)) for game in games}
        await notes.until(wanted)
        assert {channel: notes.by_channel[channel] for channel in wanted} == wanted
    await publisher.close()


async def test_more_games_than_one_subscriber_takes(keyset: Keyset, local_pubnub: LocalPubNub) -> None:
    notes = Notes()
    publisher = Publisher(keyset)
    games = [str(uuid4()) for _ in range(120)]
    async with Listener(keyset, notes.hear, games=120) as listener:
        await listener.add(games)
        for number, game in enumerate(games):
            await publisher.say(f"presence-{game}", number)
        await notes.until({f"presence-{game}": [number] for number, game in enumerate(games)})
    await publisher.close()


async def test_removed_games_are_heard_no_more(keyset: Keyset) -> None:
    notes = Notes()
    publisher = Publisher(keyset)
    gone, stays = str(uuid4()), str(uuid4())
    async with Listener(keyset, notes.hear) as listener:
        await listener.add([gone, stays])
        await publisher.say(f"game-{gone}", 1)
        await notes.until({f"game-{gone}": [1]})
        listener.remove([gone])
        await publisher.say(f"game-{gone}", 2)
        await publisher.say(f"game-{stays}", 3)
        await notes.until({f"game-{stays}": [3]})
        assert notes.by_channel[f"game-{gone}"] == [1]
    await publisher.close()


@pytest.mark.parametrize("kind", ["reset-before", "status", "html", "garbage", "truncated"])
async def test_broken_polls_lose_nothing(keyset: Keyset, local_pubnub: LocalPubNub, kind: str) -> None:
    notes = Notes()
    publisher = Publisher(keyset)
    game = str(uuid4())
    async with Listener(keyset, notes.hear) as listener:
        await listener.add([game])
        await publisher.say(f"game-{game}", 0)
        await notes.until({f"game-{game}": [0]})
        local_pubnub.faults.on(kind, operations=["subscribe"], times=2)
        for number in range(1, 30):
            await publisher.say(f"game-{game}", number)
        await notes.until({f"game-{game}": list(range(30))}, seconds=40)
        assert notes.by_channel[f"game-{game}"] == list(range(30))
    await publisher.close()


async def test_nobody_there_is_said_at_once(unused_tcp_port: int) -> None:
    key = SecretStr("key")
    keyset = Keyset(key, key, origin=f"127.0.0.1:{unused_tcp_port}", ssl=False)
    with pytest.raises(NothingToHearError, match="PUBNUB_ORIGIN"):
        async with Listener(keyset, lambda *_: None):
            pass
