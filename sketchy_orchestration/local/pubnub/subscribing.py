"""Subscribe, version 2: handshake, catching up, long poll."""

from __future__ import annotations

from collections.abc import Collection

from sketchy_orchestration.local.pubnub import tokens
from sketchy_orchestration.local.pubnub.access import Access
from sketchy_orchestration.local.pubnub.answers import (
    Answer,
    invalid_subscribe_key,
    service_error,
    unsupported,
)
from sketchy_orchestration.local.pubnub.calls import Call
from sketchy_orchestration.local.pubnub.channels import Channels
from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.message import PRESENCE_SUFFIX
from sketchy_orchestration.local.pubnub.presence import Presence
from sketchy_orchestration.local.pubnub.timetoken import TimetokenClock

_LONGEST_PRESENCE = 3600.0


def presence_seconds(call: Call, config: StandInConfig) -> float:
    """The presence time-out the client asks for with `heartbeat`."""
    asked = call.number("heartbeat")
    return config.presence_seconds if not asked else min(float(asked), _LONGEST_PRESENCE)


def refuse_left_out(call: Call) -> None:
    """Raises RefusalError for what the stand-in leaves out on purpose."""
    for name, what in (
        ("channel-group", "channel groups are"),
        ("filter-expr", "filters are"),
        ("state", "presence state is"),
    ):
        if call.query.get(name):
            raise unsupported(what)


class Subscribing:
    """`/v2/subscribe/{sub}/{channels}/0?tt=…`"""

    def __init__(
        self,
        config: StandInConfig,
        clock: TimetokenClock,
        channels: Channels,
        presence: Presence,
        access: Access,
    ) -> None:
        self._config = config
        self._clock = clock
        self._channels = channels
        self._presence = presence
        self._access = access

    async def poll(self, call: Call) -> Answer:
        """Answer with what is newer than `tt`, waiting for it if nothing is yet.

        Raises:
            RefusalError: wrong key, no permission, no channel, something left out on purpose.
        """
        if call.part(3) != self._config.subscribe_key:
            raise invalid_subscribe_key()
        refuse_left_out(call)
        names = call.channels(4)
        if not names or len(call.parts) < 6:
            raise service_error(400, "Invalid Channel", "Balancer")
        self._access.check(call, names, tokens.READ)
        since = call.number("tt", 0) or 0
        user = call.user_id()
        places = [name for name in names if not name.endswith(PRESENCE_SUFFIX)]
        lasts = presence_seconds(call, self._config)
        if since == 0:
            handshake = self._answer(self._clock.next(), ())
            if user is not None:
                self._presence.arrive(user, places, lasts)
            return handshake
        if user is None:
            return await self._newer(names, since)
        self._presence.arrive(user, places, lasts)
        self._presence.poll(user, places, 1)
        try:
            return await self._newer(names, since)
        finally:
            self._presence.poll(user, places, -1)

    async def _newer(self, names: list[str], since: int) -> Answer:
        config = self._config
        missed = self._channels.catch_up(names, since, self._clock.next())
        if missed:
            envelopes = [
                envelope
                for message in missed
                for envelope in [message.envelope(config.subscribe_key, config.region)] * message.copies
            ]
            return self._answer(missed[-1].timetoken, envelopes[-config.buffer_messages :])
        waiter = await self._channels.wait(names, since, config.long_poll_seconds)
        if not waiter.inbox:
            return self._answer(max(since, self._clock.next()), ())
        return self._answer(waiter.last, waiter.inbox)

    def _answer(self, timetoken: int, envelopes: Collection[bytes]) -> Answer:
        messages = b",".join(envelopes)
        self._channels.delivered += len(envelopes)
        head = b'{"t":{"t":"%d","r":%d},"m":[' % (timetoken, self._config.region)
        return Answer(200, head + messages + b"]}")
