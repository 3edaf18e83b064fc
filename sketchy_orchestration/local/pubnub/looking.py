"""What only looks or tells who is there: presence calls, history, message counts."""

from __future__ import annotations

from sketchy_orchestration.local.pubnub import limits, tokens
from sketchy_orchestration.local.pubnub.access import Access
from sketchy_orchestration.local.pubnub.answers import (
    Answer,
    dumps,
    history_error,
    invalid_subscribe_key,
    not_found,
    ok,
    service_error,
    unsupported,
)
from sketchy_orchestration.local.pubnub.calls import Call
from sketchy_orchestration.local.pubnub.channels import Channels
from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.message import PRESENCE_SUFFIX, Message
from sketchy_orchestration.local.pubnub.presence import Presence
from sketchy_orchestration.local.pubnub.subscribing import presence_seconds, refuse_left_out
from sketchy_orchestration.local.pubnub.timetoken import TimetokenClock

_PRESENCE_OK = {"status": 200, "message": "OK", "service": "Presence"}


class PresenceCalls:
    """`/v2/presence/sub-key/{sub}…`"""

    def __init__(self, config: StandInConfig, presence: Presence, access: Access) -> None:
        self._config = config
        self._presence = presence
        self._access = access

    def answer(self, call: Call) -> Answer:
        """Heartbeat, leave, here now or where now, by the path's shape.

        Raises:
            RefusalError: wrong key, no permission, something left out on purpose, no such path.
        """
        if call.part(4) != self._config.subscribe_key:
            raise invalid_subscribe_key()
        kind, name, last = call.part(5), call.part(6), call.part(7)
        if len(call.parts) == 5:
            return self._here_now_everywhere(call)
        if kind == "uuid" and name and len(call.parts) == 7:
            self._access.check(call, [], 0)
            channels = self._presence.channels_of(name)
            return ok({**_PRESENCE_OK, "payload": {"channels": channels}})
        if kind != "channel":
            raise not_found(call.path)
        if last in ("uuid", "data"):
            raise unsupported("presence state is")
        refuse_left_out(call)
        channels = [name for name in call.channels(6) if not name.endswith(PRESENCE_SUFFIX)]
        if len(call.parts) == 7:
            return self._here_now(call, channels)
        if last == "heartbeat" and len(call.parts) == 8:
            return self._heartbeat(call, channels)
        if last == "leave" and len(call.parts) == 8:
            self._access.check(call, [], 0)
            self._presence.leave(self._user(call), channels)
            return ok({**_PRESENCE_OK, "action": "leave"})
        raise not_found(call.path)

    def _user(self, call: Call) -> str:
        user = call.user_id()
        if user is None:
            raise service_error(400, "Missing UUID", "Presence")
        return user

    def _heartbeat(self, call: Call, channels: list[str]) -> Answer:
        user = self._user(call)
        self._access.check(call, channels, tokens.READ)
        self._presence.arrive(user, channels, presence_seconds(call, self._config), delayed=True)
        return ok(_PRESENCE_OK)

    def _here_now(self, call: Call, channels: list[str]) -> Answer:
        if not channels:
            raise service_error(400, "Invalid Channel", "Presence")
        self._access.check(call, channels, tokens.READ)
        if len(channels) == 1:
            return ok({**_PRESENCE_OK, **self._occupancy(call, channels[0])})
        return self._many(call, channels)

    def _here_now_everywhere(self, call: Call) -> Answer:
        refuse_left_out(call)
        self._access.check_signed(call)
        return self._many(call, self._presence.occupied())

    def _many(self, call: Call, channels: list[str]) -> Answer:
        here = {name: self._occupancy(call, name) for name in channels}
        present = {name: state for name, state in here.items() if state["occupancy"]}
        payload = {
            "channels": present,
            "total_channels": len(present),
            "total_occupancy": sum(int(str(state["occupancy"])) for state in present.values()),
        }
        return ok({**_PRESENCE_OK, "payload": payload})

    def _occupancy(self, call: Call, channel: str) -> dict[str, object]:
        users = self._presence.users(channel)
        if call.flag("disable_uuids"):
            return {"occupancy": len(users)}
        most = call.number("limit")
        skip = call.number("offset") or 0
        stop = skip + min(limits.HERE_NOW_USERS if most is None else most, limits.HERE_NOW_USERS)
        return {"occupancy": len(users), "uuids": users[skip:stop]}


class History:
    """`/v3/history/sub-key/{sub}/channel/{channels}` and `…/message-counts/{channels}`"""

    def __init__(
        self, config: StandInConfig, clock: TimetokenClock, channels: Channels, access: Access
    ) -> None:
        self._config = config
        self._clock = clock
        self._channels = channels
        self._access = access

    def answer(self, call: Call) -> Answer:
        """A page of messages, or how many there are since a timetoken.

        Raises:
            RefusalError: wrong key, no permission, wrong arguments, deleting (left out on purpose).
        """
        if call.part(4) != self._config.subscribe_key:
            raise invalid_subscribe_key()
        if call.method == "DELETE":
            raise unsupported("deleting messages is")
        if call.part(2) != "history":
            raise unsupported("message actions are")
        names = call.channels(6)
        if not names or len(names) > limits.HISTORY_CHANNELS:
            raise history_error("Invalid Arguments")
        self._access.check(call, names, tokens.READ)
        if call.part(5) == "channel":
            return self._fetch(call, names)
        if call.part(5) == "message-counts":
            return self._count(call, names)
        raise not_found(call.path)

    def _fetch(self, call: Call, names: list[str]) -> Answer:
        most = limits.HISTORY_ONE_CHANNEL if len(names) == 1 else limits.HISTORY_MANY_CHANNELS
        asked = call.number("max")
        if asked is not None:
            most = min(most, asked) or most
        newest, oldest = call.number("start"), call.number("end")
        now = self._clock.next()
        pages = []
        for name in names:
            channel = self._channels.get(name)
            page = channel.newest_stored(newest, oldest, most, now) if channel is not None else []
            if page:
                items = b",".join(_item(call, message) for message in page)
                pages.append(dumps(name) + b":[" + items + b"]")
        head = b'{"status":200,"error":false,"error_message":"","channels":{'
        return Answer(200, head + b",".join(pages) + b"}}")

    def _count(self, call: Call, names: list[str]) -> Answer:
        one, many = call.value("timetoken"), call.value("channelsTimetoken")
        given = (many or one or "").split(",")
        if (one is None) == (many is None) or len(given) not in (1, len(names)):
            raise history_error("Invalid Arguments")
        if not all(text.isascii() and text.isdigit() and len(text) <= 18 for text in given):
            raise history_error("Invalid Arguments")
        now = self._clock.next()
        counts = {}
        for name, text in zip(names, given * (len(names) if len(given) == 1 else 1), strict=True):
            channel = self._channels.get(name)
            counts[name] = (
                channel.count_stored(int(text), now, limits.COUNTED_MESSAGES) if channel is not None else 0
            )
        return ok({"status": 200, "error": False, "error_message": "", "channels": counts})


def _item(call: Call, message: Message) -> bytes:
    parts = [b'{"message":%s,"timetoken":"%d"' % (message.payload, message.timetoken)]
    if call.flag("include_message_type"):
        parts.append(b',"message_type":null')
    if call.flag("include_meta"):
        parts.append(b',"meta":' + (message.meta if message.meta is not None else b'""'))
    if call.flag("include_uuid"):
        parts.append(b',"uuid":' + dumps(message.publisher))
    if call.flag("include_custom_message_type"):
        parts.append(b',"custom_message_type":' + dumps(message.custom_type))
    return b"".join(parts) + b"}"
