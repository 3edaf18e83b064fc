"""Hearing what was published: the official SDK's subscribe calls as an async iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from pubnub.endpoints.pubsub.subscribe import Subscribe
from pubnub.exceptions import PubNubException
from pubnub.pubnub_asyncio import PubNubAsyncio
from pubnub.request_handlers.async_aiohttp import AsyncAiohttpRequestHandler

from sketchy_orchestration.domain.backoff import Backoff
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.pubnub.keyset import Keyset, keep_out_of_logs
from sketchy_orchestration.pubnub.sdk import configuration

# Longer than PubNub's own 280 s, so that it is the server that ends a quiet poll.
_POLL_SECONDS = 310
_AGAIN = Backoff(base=0.1, cap=2.0)


class CannotHearError(SketchyError):
    """PubNub did not answer the first subscribe call in time; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as a subscriber got it.

    Attributes:
        timetoken: PubNub's moment of it, in 100 ns.
        publisher: the uuid of who published it.
    """

    channel: str
    message: Any
    timetoken: int
    publisher: str | None


class _NoManager:
    """What the SDK's Subscribe asks of a subscription manager."""

    def get_custom_params(self) -> dict[str, str]:
        return {}


class Subscriber:
    """Hears channels from the moment `subscribe` returns, through broken connections without losing a message
    (as far as PubNub's buffer of 100 reaches).

    The SDK's own subscription managers lose the list of channels when it changes, or leave tasks behind when
    they stop; so the polls are the SDK's and the loop is ours.

    Example:
        >>> async with Subscriber(keyset, uuid="canary") as subscriber:
        ...     await subscriber.subscribe("game-1")
        ...     async for heard in subscriber: ...
    """

    def __init__(self, keyset: Keyset, *, uuid: str) -> None:
        self._keyset = keyset
        self._uuid = uuid
        self._channels: set[str] = set()
        self._client: Any = None
        self._timetoken = 0
        self._region: int | None = None
        self._poll: asyncio.Task[Any] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._messages: asyncio.Queue[Heard] = asyncio.Queue()
        self._connected = asyncio.Event()
        self._trouble = ""

    async def __aenter__(self) -> Self:
        keep_out_of_logs(self._keyset)
        config = configuration(self._keyset, self._uuid)
        config.enable_subscribe = False
        config.subscribe_request_timeout = _POLL_SECONDS
        self._client = PubNubAsyncio(config, custom_request_handler=AsyncAiohttpRequestHandler)
        self._client._subscription_manager = _NoManager()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self._loop, self._poll):
            if task is not None:
                task.cancel()
                # A poll that has failed would raise again here, and the session would stay open.
                await asyncio.gather(task, return_exceptions=True)
        await self._client.close_session()

    async def subscribe(self, *channels: str, within: float = 10.0) -> None:
        """Hear these channels too, from now on.

        Raises:
            CannotHearError: no answer `within` so many seconds.
        """
        self._channels.update(channels)
        self._poll_anew()
        if self._loop is None:
            self._loop = asyncio.create_task(self._hear(), name="pubnub-subscriber")
        try:
            async with asyncio.timeout(within):
                await self._connected.wait()
        except TimeoutError:
            raise CannotHearError(
                f"PubNub at {self._keyset.origin} does not answer a subscriber within {within:g} s"
                f"{': ' if self._trouble else ''}{self._trouble}",
                hint="check PUBNUB_ORIGIN and PUBNUB_SUBSCRIBE_KEY",
            ) from None

    def unsubscribe(self, *channels: str) -> None:
        """Hear these channels no more."""
        self._channels.difference_update(channels)
        self._poll_anew()

    def __aiter__(self) -> AsyncIterator[Heard]:
        return self

    async def __anext__(self) -> Heard:
        """The next message; waits without limit."""
        return await self._messages.get()

    async def next(self, within: float) -> Heard:
        """The next message.

        Raises:
            TimeoutError: none came `within` so many seconds.
        """
        async with asyncio.timeout(within):
            return await self._messages.get()

    def heard(self) -> list[Heard]:
        """What came in and was not yet taken."""
        return [self._messages.get_nowait() for _ in range(self._messages.qsize())]

    def _poll_anew(self) -> None:
        # The timetoken stays, so what came meanwhile is in the next answer; before the first there is none.
        if self._poll is not None and self._timetoken:
            self._poll.cancel()

    async def _hear(self) -> None:
        failures = 0
        while True:
            if not self._channels:
                await asyncio.sleep(0.05)
                continue
            self._poll = asyncio.create_task(self._subscribe_call())
            try:
                await asyncio.wait([self._poll])
            finally:
                self._poll.cancel()
            if self._poll.cancelled():
                continue
            error = self._poll.exception()
            if error is None:
                failures = 0
                self._take(self._poll.result())
                continue
            failures += 1
            self._trouble = self._keyset.redact(f"{type(error).__name__}: {error}")
            await asyncio.sleep(_AGAIN.wait(failures, lambda: 0.5))

    async def _subscribe_call(self) -> Any:
        call = Subscribe(self._client).channels(sorted(self._channels)).timetoken(self._timetoken)
        if self._region is not None:
            call = call.region(self._region)
        try:
            return await call.result()
        except (PubNubException, aiohttp.ClientError, ValueError, OSError):
            raise
        except Exception as error:  # the SDK lets anything through
            raise ValueError(f"unreadable answer: {type(error).__name__}: {error}") from None

    def _take(self, answer: Any) -> None:
        cursor = answer["t"]
        self._timetoken, self._region = int(cursor["t"]), cursor["r"]
        for message in answer["m"]:
            if message["c"] in self._channels:
                heard = Heard(message["c"], message["d"], int(message["p"]["t"]), message.get("i"))
                self._messages.put_nowait(heard)
        self._connected.set()


def channels_in_one_call(channels: Iterable[str], most: int = 4_000) -> list[list[str]]:
    """Channels in groups whose names fit into one subscribe call of `most` characters."""
    groups: list[list[str]] = [[]]
    length = 0
    for channel in channels:
        if groups[-1] and length + len(channel) > most:
            groups.append([])
            length = 0
        groups[-1].append(channel)
        length += len(channel) + 1
    return [group for group in groups if group]
