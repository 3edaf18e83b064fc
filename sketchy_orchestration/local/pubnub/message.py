"""One accepted message, and the envelope subscribers get it in."""

from __future__ import annotations

import json
from typing import Any

from sketchy_orchestration.local.pubnub.answers import dumps

MESSAGE, SIGNAL = 0, 1
PRESENCE_SUFFIX = "-pnpres"


class Message:
    """Accepted and from then on immutable; `payload` and `meta` are JSON text as the publisher wrote it.

    `copies` is how often a subscriber gets it: once; never, if it was not to be replicated; more in a fault.
    """

    __slots__ = (
        "channel",
        "copies",
        "custom_type",
        "expires",
        "kind",
        "meta",
        "payload",
        "publisher",
        "stored",
        "timetoken",
    )

    def __init__(
        self,
        timetoken: int,
        channel: str,
        payload: bytes,
        *,
        publisher: str | None = None,
        meta: bytes | None = None,
        custom_type: str | None = None,
        kind: int = MESSAGE,
        stored: bool = False,
        expires: int | None = None,
        copies: int = 1,
    ) -> None:
        self.timetoken = timetoken
        self.channel = channel
        self.payload = payload
        self.publisher = publisher
        self.meta = meta
        self.custom_type = custom_type
        self.kind = kind
        self.stored = stored
        self.expires = expires
        self.copies = copies

    @property
    def size(self) -> int:
        """Bytes this message holds, about: its text and what Python needs around it."""
        return len(self.payload) + (len(self.meta) if self.meta else 0) + 400

    @property
    def message(self) -> Any:
        """The payload, parsed."""
        return json.loads(self.payload)

    def envelope(self, subscribe_key: str, region: int) -> bytes:
        """The element of a subscribe answer's `m`."""
        presence = self.channel.endswith(PRESENCE_SUFFIX)
        channel = dumps(self.channel)
        parts = [
            b'{"a":"1","f":%d,' % (0 if presence else 514),
            b'"i":%s,' % dumps(self.publisher) if self.publisher is not None else b"",
            b'"e":1,' if self.kind == SIGNAL else b"",
            b'"p":{"t":"%d","r":%d},"k":"%s",' % (self.timetoken, region, subscribe_key.encode()),
            b'"c":%s,"b":%s,' % (channel, channel),
            b'"u":%s,' % self.meta if self.meta is not None else b"",
            b'"cmt":%s,' % dumps(self.custom_type) if self.custom_type is not None else b"",
            b'"d":%s}' % self.payload,
        ]
        return b"".join(parts)
