"""Who is where: join, leave and timeout events, kept by heartbeats and open long polls."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterable

from sketchy_orchestration.local.pubnub.answers import dumps
from sketchy_orchestration.local.pubnub.channels import Channels
from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.message import PRESENCE_SUFFIX, Message
from sketchy_orchestration.local.pubnub.timetoken import TimetokenClock

# A client may heartbeat before its handshake; told at once, its join would lie before its first timetoken.
_HEARTBEAT_JOIN_DELAY = 0.2


class Occupant:
    """One user on one channel."""

    __slots__ = ("deadline", "polls", "seconds", "watched")

    def __init__(self, lasts: float) -> None:
        self.seconds = lasts
        self.polls = 0
        self.deadline = time.monotonic() + lasts
        self.watched = 0.0


class Presence:
    """Occupancy of every channel. Used from one event loop only."""

    def __init__(self, config: StandInConfig, clock: TimetokenClock, channels: Channels) -> None:
        self._config = config
        self._clock = clock
        self._channels = channels
        self._here: dict[str, dict[str, Occupant]] = {}
        self._where: dict[str, set[str]] = {}
        self._unannounced: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._deadlines: list[tuple[float, str, str]] = []
        self._timer: asyncio.TimerHandle | None = None

    def users(self, channel: str) -> list[str]:
        return list(self._here.get(channel, ()))

    def occupied(self) -> list[str]:
        return list(self._here)

    def channels_of(self, user: str) -> list[str]:
        return sorted(self._where.get(user, ()))

    def arrive(self, user: str, names: Iterable[str], lasts: float, *, delayed: bool = False) -> None:
        """The user subscribes or heartbeats; whoever was not there joins.

        Args:
            lasts: seconds without a sign of life after which the user has timed out.
            delayed: announce the join a moment later.
        """
        for name in names:
            here = self._here.setdefault(name, {})
            occupant = here.get(user)
            if occupant is not None:
                occupant.seconds = lasts
                occupant.deadline = time.monotonic() + lasts
                self._watch(occupant, name, user)
                continue
            here[user] = occupant = Occupant(lasts)
            self._where.setdefault(user, set()).add(name)
            self._watch(occupant, name, user)
            if delayed:
                loop = asyncio.get_running_loop()
                key = (name, user)
                self._unannounced[key] = loop.call_later(
                    _HEARTBEAT_JOIN_DELAY, self._announce_join, name, user
                )
            else:
                self._announce("join", name, user)

    def poll(self, user: str, names: Iterable[str], change: int) -> None:
        """A long poll of the user opened (+1) or ended (-1); while one is open the user cannot time out."""
        now = time.monotonic()
        for name in names:
            occupant = self._here.get(name, {}).get(user)
            if occupant is not None:
                occupant.polls = max(0, occupant.polls + change)
                occupant.deadline = now + occupant.seconds
                self._watch(occupant, name, user)

    def leave(self, user: str, names: Iterable[str], action: str = "leave") -> None:
        for name in names:
            here = self._here.get(name)
            if here is None or here.pop(user, None) is None:
                continue
            if not here:
                del self._here[name]
            places = self._where.get(user, set())
            places.discard(name)
            if not places:
                self._where.pop(user, None)
            self._announce_join(name, user)
            self._announce(action, name, user)

    def _announce_join(self, name: str, user: str) -> None:
        waiting = self._unannounced.pop((name, user), None)
        if waiting is not None:
            waiting.cancel()
            self._announce("join", name, user)

    def _announce(self, action: str, name: str, user: str) -> None:
        occupancy = len(self._here.get(name, ()))
        timestamp = int(time.time())
        payload = {"action": action, "uuid": user, "timestamp": timestamp, "occupancy": occupancy}
        meta = {
            "pn_action": action,
            "pn_uuid": user,
            "pn_timestamp": timestamp,
            "pn_occupancy": occupancy,
            "pn_ispresence": 1,
            "pn_channel": name,
        }
        self._channels.add(
            Message(self._clock.next(), name + PRESENCE_SUFFIX, dumps(payload), meta=dumps(meta))
        )

    def _watch(self, occupant: Occupant, name: str, user: str) -> None:
        """See to it that the occupant is looked at no later than its deadline."""
        if occupant.watched and occupant.watched <= occupant.deadline:
            return  # looked at before that anyway, and then again
        occupant.watched = occupant.deadline
        heapq.heappush(self._deadlines, (occupant.watched, name, user))
        if self._deadlines[0][0] == occupant.watched:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadlines:
            wait = max(0.0, self._deadlines[0][0] - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            watched, name, user = heapq.heappop(self._deadlines)
            occupant = self._here.get(name, {}).get(user)
            if occupant is None or occupant.watched != watched:
                continue
            if occupant.polls:
                occupant.deadline = now + occupant.seconds
            if occupant.deadline <= now:
                self.leave(user, [name], "timeout")
                continue
            occupant.watched = occupant.deadline
            heapq.heappush(self._deadlines, (occupant.watched, name, user))
        self._set_timer()

    def close(self) -> None:
        for timer in [self._timer, *self._unannounced.values()]:
            if timer is not None:
                timer.cancel()
