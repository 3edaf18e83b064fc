"""Everything kept in memory: per channel a log of messages and the subscribers waiting for the next one.

One bound holds over all channels together, so memory does not depend on how many channels there ever were;
what a publish costs depends on the subscribers of its channel and on nothing else.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from operator import attrgetter

from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.message import Message
from sketchy_orchestration.local.pubnub.timetoken import seconds

_TIMETOKEN = attrgetter("timetoken")
_COMPACT_AT = 256
_GONE = Message(0, "", b"")


class Waiter:
    """One open long poll: the newest envelopes since it began, oldest dropped beyond the buffer."""

    __slots__ = ("future", "inbox", "last", "lost", "since")

    def __init__(self, since: int, buffer_messages: int) -> None:
        self.since = since
        self.inbox: deque[bytes] = deque(maxlen=buffer_messages)
        self.last = since
        self.lost = 0
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give(self, message: Message, envelope: bytes) -> None:
        if message.timetoken <= self.since or not message.copies:
            return
        for _ in range(message.copies):
            if len(self.inbox) == self.inbox.maxlen:
                self.lost += 1
            self.inbox.append(envelope)
        self.last = message.timetoken
        if not self.future.done():
            self.future.set_result(None)


class Channel:
    """One channel: `log[head:]` are its messages, oldest first."""

    __slots__ = ("head", "log", "name", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[Message] = []
        self.head = 0
        self.waiters: set[Waiter] = set()

    def drop_oldest(self) -> None:
        self.log[self.head] = _GONE  # its memory is free now, its place only later
        self.head += 1
        if self.head >= _COMPACT_AT and self.head * 2 >= len(self.log):
            del self.log[: self.head]
            self.head = 0

    def newer_than(self, timetoken: int, most: int) -> tuple[list[Message], int]:
        """The `most` newest messages later than the timetoken, oldest first, and how many there are."""
        start = bisect_right(self.log, timetoken, self.head, key=_TIMETOKEN)
        return self.log[max(start, len(self.log) - most) :], len(self.log) - start

    def newest_stored(self, newest: int | None, oldest: int | None, most: int, now: int) -> list[Message]:
        """The page of history PubNub gives: the `most` newest before `newest` (exclusive), oldest first."""
        log = self.log
        low = self.head if oldest is None else bisect_left(log, oldest, self.head, key=_TIMETOKEN)
        high = len(log) if newest is None else bisect_left(log, newest, self.head, key=_TIMETOKEN)
        page: list[Message] = []
        for index in range(high - 1, low - 1, -1):
            message = log[index]
            if message.stored and (message.expires is None or message.expires > now):
                page.append(message)
                if len(page) == most:
                    break
        page.reverse()
        return page

    def count_stored(self, since: int, now: int, most: int) -> int:
        """How many stored messages are not older than the timetoken, counted up to `most`."""
        low = bisect_left(self.log, since, self.head, key=_TIMETOKEN)
        count = 0
        for index in range(low, len(self.log)):
            message = self.log[index]
            if message.stored and (message.expires is None or message.expires > now):
                count += 1
                if count == most:
                    break
        return count


class Channels:
    """All channels of one stand-in. Used from one event loop only."""

    def __init__(self, config: StandInConfig) -> None:
        self._config = config
        self._by_name: dict[str, Channel] = {}
        self._all: deque[Message] = deque()
        self._bytes = 0
        self._age = seconds(config.buffer_seconds)
        self.waiting = 0
        self.delivered = 0
        self.lost = 0

    def get(self, name: str) -> Channel | None:
        return self._by_name.get(name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def kept(self) -> int:
        """Messages in memory."""
        return len(self._all)

    @property
    def kept_bytes(self) -> int:
        return self._bytes

    def add(self, message: Message) -> None:
        """Keep a message and hand it to everyone who waits for its channel."""
        channel = self._by_name.get(message.channel)
        if channel is None:
            channel = self._by_name[message.channel] = Channel(message.channel)
        channel.log.append(message)
        self._all.append(message)
        self._bytes += message.size
        if channel.waiters:
            envelope = message.envelope(self._config.subscribe_key, self._config.region)
            for waiter in channel.waiters:
                waiter.give(message, envelope)
        while len(self._all) > self._config.log_messages or self._bytes > self._config.log_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        message = self._all.popleft()
        self._bytes -= message.size
        channel = self._by_name[message.channel]
        channel.drop_oldest()
        self._forget_if_empty(channel)

    def _forget_if_empty(self, channel: Channel) -> None:
        if not channel.waiters and channel.head == len(channel.log):
            self._by_name.pop(channel.name, None)

    def catch_up(self, names: Iterable[str], since: int, now: int) -> list[Message]:
        """What a subscriber missed: the newest messages over all its channels, oldest first.

        The real loss: one buffer for all channels; what it cannot hold is gone without a word.
        """
        most = self._config.buffer_messages
        floor = max(since, now - self._age)
        found: list[Message] = []
        for name in names:
            channel = self._by_name.get(name)
            if channel is not None and channel.log and channel.log[-1].timetoken > floor:
                newer, count = channel.newer_than(floor, most)
                self.lost += count - len(newer)
                found.extend(message for message in newer if message.copies)
        found.sort(key=_TIMETOKEN)
        self.lost += max(0, len(found) - most)
        return found[-most:]

    async def wait(self, names: Iterable[str], since: int, limit: float) -> Waiter:
        """Hold a long poll until a message comes or `limit` seconds pass; an empty inbox: nothing came."""
        waiter = Waiter(since, self._config.buffer_messages)
        mine = []
        for name in names:
            channel = self._by_name.get(name)
            if channel is None:
                channel = self._by_name[name] = Channel(name)
            channel.waiters.add(waiter)
            mine.append(channel)
        self.waiting += 1
        timer = asyncio.get_running_loop().call_later(limit, _finish, waiter.future)
        try:
            await waiter.future
        finally:
            timer.cancel()
            self.waiting -= 1
            for channel in mine:
                channel.waiters.discard(waiter)
                self._forget_if_empty(channel)
        self.lost += waiter.lost
        return waiter


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
