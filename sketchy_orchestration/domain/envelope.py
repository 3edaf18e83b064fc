"""What is sent where: the message of an event, its channels, its size."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

VERSION = "2.0.0"
SERVER_USER = "system"

# PubNub: a message is at most 32 KiB, counted over the URL-encoded channel and JSON plus about 100 bytes.
MESSAGE_LIMIT = 32_768
MESSAGE_OVERHEAD = 100
# What encodeURIComponent leaves as it is, beside letters and digits.
_UNRESERVED = "-_.!~*'()"

CHANNEL_LIMIT = 92
_FORBIDDEN_IN_CHANNELS = re.compile(r"[\x00-\x20\x7f,:*/\\.]")
# Built once: json.dumps makes a new encoder for every call that refuses NaN.
_to_json = json.JSONEncoder(allow_nan=False).encode

_PRESENCE_TYPES = frozenset({"player_joined", "player_left", "connection_status"})
_PERSONAL_TYPES = frozenset({"MATCH_FOUND"})

# A slim event keeps fields whose JSON is no longer than this: long prompts and lists made it too large.
_SLIM_FIELD = 200


class EventTooLargeError(Exception):
    """Even the slim form of an event is larger than PubNub takes: it must become a dead letter."""


# Not frozen: one is made for each publish, and a frozen one takes four times as long to make.
@dataclass(slots=True)
class Event:
    """One sequenced event, as the outbox keeps it.

    Attributes:
        game_id: None for an event of type test, which belongs to no game and has neither `seq` nor `after`.
        user_id: whom the event is about; "system" when it is the server's own.
        occurred_at: when the change happened, on the database's clock.
        seq: place in the game's order, from 1, without gaps.
        after: the last `seq` of the game that was sent before this one; 0 when none was. A client that
            has not heard `after` missed something; numbers between `after` and `seq` were given up.
        replayed: sent again by an operator, after it had been given up or delivered.
        truncated: `data` is the slim form; the whole is fetched through the gateway.
    """

    event_id: str
    game_id: str | None
    type: str
    user_id: str
    occurred_at: datetime
    request_id: str
    data: Mapping[str, object]
    seq: int | None
    after: int | None
    replayed: bool = False
    truncated: bool = False


def message(event: Event, timestamp_ms: int) -> dict[str, object]:
    """The message as clients read it; `timestamp_ms` is the moment of publishing, ms since the epoch."""
    built: dict[str, object] = {
        "type": event.type,
        "gameId": event.game_id,
        "userId": event.user_id,
        "timestamp": timestamp_ms,
        "version": VERSION,
        "data": event.data,
        "eventId": event.event_id,
        "occurredAt": iso(event.occurred_at),
        "requestId": event.request_id,
    }
    if event.seq is not None:
        built["seq"] = event.seq
        built["after"] = event.after
    if event.replayed:
        built["replayed"] = True
    if event.truncated:
        built["truncated"] = True
    return built


def time_sync(
    game_id: str, data: Mapping[str, object], *, timestamp_ms: int, event_id: str
) -> dict[str, object]:
    """A `server_timer_sync`: ephemeral, so without `seq` and `after`.

    `data` is phaseStartedAt, phaseDuration (s), serverTime, timeRemaining (s), phase, phaseExpiresAt.
    """
    return {
        "type": "server_timer_sync",
        "gameId": game_id,
        "userId": SERVER_USER,
        "timestamp": timestamp_ms,
        "version": VERSION,
        "data": data,
        "eventId": event_id,
    }


def iso(moment: datetime) -> str:
    """UTC with milliseconds, as JavaScript writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def channels(event_type: str, game_id: str, user_id: str) -> tuple[str, ...]:
    """The channels an event goes to, the game's own first; `user_id` matters for a player's own channel."""
    named = [f"game-{game_id}"]
    if event_type in _PRESENCE_TYPES:
        named.append(f"presence-{game_id}")
    if event_type in _PERSONAL_TYPES and user_id != SERVER_USER:
        named.append(f"user-{user_id}")
    return tuple(named)


def channel_fault(channel: str) -> str | None:
    """What is wrong with a channel id by PubNub's rules; None when nothing is."""
    if not channel:
        return "a channel id must not be empty"
    if len(channel) > CHANNEL_LIMIT:
        return f"channel id of {len(channel)} characters: at most {CHANNEL_LIMIT} are allowed"
    wrong = _FORBIDDEN_IN_CHANNELS.search(channel)
    if wrong:
        return f"channel id {channel!r}: {wrong[0]!r} is not allowed"
    return None


def encoded_size(channel: str, built: Mapping[str, object]) -> int:
    """Bytes PubNub counts for a message: len(encodeURIComponent(channel + JSON)) + 100.

    The JSON is counted as the Python SDK sends it: with spaces after punctuation and non-ASCII escaped.

    Raises:
        TypeError, ValueError: the message is not JSON (NaN and infinities are not).
    """
    return len(quote(channel + to_json(built), safe=_UNRESERVED)) + MESSAGE_OVERHEAD


def to_json(built: Mapping[str, object]) -> str:
    """The message as the SDK writes it, but for NaN and infinities, which are no JSON.

    Raises:
        TypeError, ValueError: the message is not JSON.
    """
    return _to_json(built)


def fits(channel: str, built: Mapping[str, object]) -> bool:
    """Whether PubNub takes the message on that channel; raises like `encoded_size`."""
    return json_fits(channel, to_json(built))


def json_fits(channel: str, text: str) -> bool:
    """Whether PubNub takes a message that is `text` as JSON on that channel."""
    # No ASCII character takes more than three bytes: most messages need no encoding to be known to fit.
    if channel.isascii() and 3 * (len(channel) + len(text)) + MESSAGE_OVERHEAD <= MESSAGE_LIMIT:
        return True
    return len(quote(channel + text, safe=_UNRESERVED)) + MESSAGE_OVERHEAD <= MESSAGE_LIMIT


def slim(event: Event) -> Event:
    """The event with only the short fields of its data, marked truncated."""
    kept = {key: value for key, value in event.data.items() if len(json.dumps(value)) <= _SLIM_FIELD}
    return replace(event, data=kept, truncated=True)


def slim_message(event: Event, sent_to: tuple[str, ...], timestamp_ms: int) -> dict[str, object]:
    """The message of an event that is too large whole: short fields of `data` only, else none of them.

    Raises:
        EventTooLargeError: not even that fits on every channel it goes to.
        TypeError, ValueError: the event's data is not JSON.
    """
    longest = max(sent_to, key=len)
    slimmed = slim(event)
    built: dict[str, object] = {}
    for form in (slimmed, replace(slimmed, data={})):
        built = message(form, timestamp_ms)
        if fits(longest, built):
            return built
    raise EventTooLargeError(
        f"event {event.event_id[:64]!r} of type {event.type[:64]!r} takes {encoded_size(longest, built)} "
        f"bytes even without data: PubNub takes {MESSAGE_LIMIT}"
    )


def fitting_message(event: Event, sent_to: tuple[str, ...], timestamp_ms: int) -> dict[str, object]:
    """The event's message, whole if PubNub takes that on every channel it goes to, else slim.

    Raises:
        EventTooLargeError: not even the slim one fits.
        TypeError, ValueError: the event's data is not JSON.
    """
    built = message(event, timestamp_ms)
    return built if fits(max(sent_to, key=len), built) else slim_message(event, sent_to, timestamp_ms)
