"""Hearing through the official SDK: a few subscribers, each with many channels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Self
from uuid import uuid4

from pubnub.callbacks import SubscribeCallback
from pubnub.enums import PNStatusCategory
from pubnub.pubnub_asyncio import AsyncioSubscriptionManager, PubNubAsyncio
from pubnub.request_handlers.async_aiohttp import AsyncAiohttpRequestHandler

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.pubnub.keyset import Keyset, keep_out_of_logs
from sketchy_orchestration.pubnub.sdk import configuration

OnMessage = Callable[[str, Mapping[str, object]], None]
"""Called with the channel and the message, on the event loop."""

# A subscriber's buffer holds 100 messages over all its channels, and its channels must fit in one URL.
GAMES_PER_SUBSCRIBER = 50
_CONNECT_TIMEOUT_S = 15


class NothingToHearError(SketchyError):
    """PubNub does not answer a subscriber."""


class _Ears(SubscribeCallback):  # type: ignore[misc]  # the SDK ships no types
    def __init__(self, on_message: OnMessage) -> None:
        self._on_message = on_message
        self.connected = asyncio.Event()
        self.answered = asyncio.Event()
        self.last_error = "no answer"

    def status(self, pubnub: Any, status: Any) -> None:  # noqa: ARG002  the SDK's signature
        if status.category in (PNStatusCategory.PNConnectedCategory, PNStatusCategory.PNReconnectedCategory):
            self.connected.set()
            self.answered.set()
        elif status.is_error():
            if status.error_data is not None:
                self.last_error = " ".join(str(status.error_data.information).split())
            self.answered.set()

    def message(self, pubnub: Any, message: Any) -> None:  # noqa: ARG002
        if isinstance(message.message, dict):
            self._on_message(message.channel, message.message)

    def presence(self, pubnub: Any, presence: Any) -> None:
        """Who else listens is of no interest."""


class _Subscriber:
    def __init__(self, keyset: Keyset, on_message: OnMessage) -> None:
        keep_out_of_logs(keyset)
        config = configuration(keyset, f"players-{uuid4()}")
        config.non_subscribe_request_timeout = _CONNECT_TIMEOUT_S
        config.suppress_leave_events = True
        # The other manager of the SDK takes a changed list of channels for the whole list.
        self.sdk = PubNubAsyncio(
            config,
            subscription_manager=AsyncioSubscriptionManager,
            custom_request_handler=AsyncAiohttpRequestHandler,
        )
        self.ears = _Ears(on_message)
        self.sdk.add_listener(self.ears)
        # With one channel that always stays the SDK never has an empty list, after which it would hear twice.
        self.own_channel = f"user-{uuid4()}"
        self.games: set[str] = set()

    async def connect(self) -> None:
        self.sdk.subscribe().channels([self.own_channel]).execute()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ears.answered.wait(), _CONNECT_TIMEOUT_S)
        if not self.ears.connected.is_set():
            await self.close()
            raise NothingToHearError(
                f"PubNub at {self.sdk.config.origin} does not let anybody subscribe ({self.ears.last_error}):"
                " check PUBNUB_ORIGIN and PUBNUB_SUBSCRIBE_KEY"
            )

    async def close(self) -> None:
        await self.sdk.stop()
        # The SDK leaves its loops waiting for a lock that nobody will release.
        for task in asyncio.all_tasks():
            name = getattr(task.get_coro(), "__qualname__", "")
            frame = getattr(task.get_coro(), "cr_frame", None)
            manager = self.sdk._subscription_manager
            if name == "AsyncioSubscriptionManager._start_subscribe_loop" and (
                frame is not None and frame.f_locals.get("self") is manager
            ):
                task.cancel()


class Listener:
    """Hears the channels of any number of games, with one subscriber for every fifty of them.

    A game must be added before anything is done in it. Adding one interrupts the subscriber's long poll and
    loses nothing: the SDK goes on from the timetoken it had. `games` is how many are to be heard at the same
    time, so that all subscribers are there from the beginning.
    """

    def __init__(self, keyset: Keyset, on_message: OnMessage, games: int = GAMES_PER_SUBSCRIBER) -> None:
        self._keyset = keyset
        self._games = games
        self._on_message = on_message
        self._subscribers: list[_Subscriber] = []
        self._adding = asyncio.Lock()

    async def __aenter__(self) -> Self:
        try:
            for _ in range(-(-self._games // GAMES_PER_SUBSCRIBER)):
                await self._new_subscriber()
        except NothingToHearError:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for subscriber in self._subscribers:
            await subscriber.close()

    async def add(self, game_ids: Iterable[str]) -> None:
        """Hear these games from now on.

        Raises:
            NothingToHearError: a further subscriber was needed and PubNub does not answer it.
        """
        async with self._adding:
            waiting = list(game_ids)
            while waiting:
                subscriber = min(self._subscribers, key=lambda one: len(one.games))
                room = GAMES_PER_SUBSCRIBER - len(subscriber.games)
                if room <= 0:
                    await self._new_subscriber()
                    continue
                taken, waiting = waiting[:room], waiting[room:]
                subscriber.games.update(taken)
                subscriber.sdk.subscribe().channels(_channels(taken)).execute()

    def remove(self, game_ids: Iterable[str]) -> None:
        """Stop hearing these games."""
        leaving = set(game_ids)
        for subscriber in self._subscribers:
            if mine := subscriber.games & leaving:
                subscriber.games -= mine
                subscriber.sdk.unsubscribe().channels(_channels(mine)).execute()

    async def _new_subscriber(self) -> None:
        subscriber = _Subscriber(self._keyset, self._on_message)
        await subscriber.connect()
        self._subscribers.append(subscriber)


def _channels(game_ids: Iterable[str]) -> list[str]:
    return [f"{kind}-{game_id}" for game_id in game_ids for kind in ("game", "presence")]
