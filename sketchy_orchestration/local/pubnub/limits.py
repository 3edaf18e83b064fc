"""PubNub's limits, by its own formulas, and the checks of names and values that go with them."""

from __future__ import annotations

import json
import re
import zlib
from urllib.parse import quote

MESSAGE_BYTES = 32_768
MESSAGE_OVERHEAD = 100
SIGNAL_BYTES = 64
CHANNEL_CHARACTERS = 92
USER_ID_CHARACTERS = 92
HISTORY_ONE_CHANNEL = 100
HISTORY_MANY_CHANNELS = 25
HISTORY_CHANNELS = 500
COUNTED_MESSAGES = 10_000
HERE_NOW_USERS = 1000
GRANT_MINUTES = 43_200
BODY_BYTES = 256 * 1024  # a body that unpacks to more than this is too large whatever it says

_UNRESERVED = "!'()*~-_."  # what encodeURIComponent leaves alone besides letters and digits
_FORBIDDEN_IN_CHANNEL = re.compile(r"[\x00-\x20\x7f,:*/\\]")
_CUSTOM_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,49}\Z")


def message_size(channel: str, payload: bytes) -> int:
    """Bytes PubNub counts: `encodeURIComponent(channel + JSON)` and about 100 of overhead."""
    encoded = quote(channel.encode("utf-8", "surrogatepass") + payload, safe=_UNRESERVED)
    return len(encoded) + MESSAGE_OVERHEAD


def too_large(channel: str, payload: bytes) -> bool:
    """Whether PubNub would refuse this message on this channel for its size."""
    # No byte takes more than three when encoded, so most messages need no encoding to know.
    if (len(payload) + 4 * len(channel)) * 3 + MESSAGE_OVERHEAD <= MESSAGE_BYTES:
        return False
    return message_size(channel, payload) > MESSAGE_BYTES


def is_channel(name: str) -> bool:
    """Whether PubNub takes this as the name of a channel."""
    return 0 < len(name) <= CHANNEL_CHARACTERS and _FORBIDDEN_IN_CHANNEL.search(name) is None


def is_custom_type(value: str) -> bool:
    """3 to 50 letters, digits, '-' and '_', beginning with neither a special character nor `pn_` or `pn-`."""
    return _CUSTOM_TYPE.match(value) is not None and not value.startswith(("pn_", "pn-"))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(text: bytes) -> object:
    """Strict JSON: no NaN, no trailing text, no absurd nesting.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return _decoder.decode(text.decode("utf-8").strip(" \t\r\n"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def unpack(body: bytes, encoding: str | None) -> bytes:
    """A request body as text, whatever compression it has or says it has.

    The Python SDK sends zlib bytes labelled gzip; so the bytes decide, not the label.

    Raises:
        ValueError: labelled as compressed, and no known compression opens it; or it is too large.
    """
    if body[:2] == b"\x1f\x8b":
        return _inflate(body, 31)
    if len(body) > 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0:
        return _inflate(body, 15)
    if encoding in ("deflate", "gzip"):
        try:
            return _inflate(body, -15)
        except ValueError:
            return body  # labelled but plain: what matters is whether it is JSON
    return body


def _inflate(body: bytes, window: int) -> bytes:
    unpacker = zlib.decompressobj(window)
    try:
        text = unpacker.decompress(body, BODY_BYTES)
    except zlib.error as error:
        raise ValueError(f"cannot be unpacked: {error}") from None
    if unpacker.unconsumed_tail:
        raise ValueError("unpacks to too much")
    if not unpacker.eof:
        raise ValueError("is cut off")
    return text
