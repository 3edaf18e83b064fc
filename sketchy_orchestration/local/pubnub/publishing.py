"""Publish, fire and signal."""

from __future__ import annotations

import time

from sketchy_orchestration.local.pubnub import tokens
from sketchy_orchestration.local.pubnub.access import Access
from sketchy_orchestration.local.pubnub.answers import Answer, invalid_subscribe_key, publish_error, too_many
from sketchy_orchestration.local.pubnub.calls import Call
from sketchy_orchestration.local.pubnub.channels import Channels
from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.limits import (
    SIGNAL_BYTES,
    is_channel,
    is_custom_type,
    parse_json,
    too_large,
    unpack,
)
from sketchy_orchestration.local.pubnub.message import MESSAGE, PRESENCE_SUFFIX, SIGNAL, Message
from sketchy_orchestration.local.pubnub.record import Record
from sketchy_orchestration.local.pubnub.timetoken import TimetokenClock, seconds

_HOUR = seconds(3600)


class Publishing:
    """Accepts messages: `/publish/{pub}/{sub}/0/{channel}/0[/{message}]`, `/signal/…` likewise."""

    def __init__(
        self, config: StandInConfig, clock: TimetokenClock, channels: Channels, record: Record, access: Access
    ) -> None:
        self._config = config
        self._clock = clock
        self._channels = channels
        self._record = record
        self._access = access
        self._allowance = config.publish_rate or 0.0
        self._refilled = time.monotonic()

    def operation(self, call: Call) -> str:
        """publish, fire or signal; what no subscriber gets and no history keeps is a fire."""
        if call.parts[1] == "signal":
            return "signal"
        return "fire" if call.query.get("store") == "0" and call.flag("norep") else "publish"

    def accept(self, call: Call, operation: str, fault: str | None, copies: int) -> Answer:
        """Take the message, or say why not.

        Raises:
            RefusalError: wrong key, no permission, not JSON, too large, too many.
        """
        clock = self._clock
        if call.part(2) != self._config.publish_key:
            raise publish_error("Invalid Key", clock.next())
        if call.part(3) != self._config.subscribe_key:
            if self._config.enforce_access:
                raise invalid_subscribe_key()
            raise publish_error("Invalid Key", clock.next())
        channel = call.part(5)
        self._access.check(call, [channel], tokens.WRITE)
        self._throttle()
        if not is_channel(channel) or channel.endswith((".*", PRESENCE_SUFFIX)):
            raise publish_error("Invalid Channel", clock.next())
        payload = self._payload(call, channel, operation)
        message = Message(
            clock.next(),
            channel,
            payload,
            publisher=call.user_id(),
            meta=self._meta(call),
            custom_type=self._custom_type(call),
            kind=SIGNAL if operation == "signal" else MESSAGE,
            stored=operation == "publish" and self._store(call),
            expires=self._expiry(call),
            copies=0 if call.flag("norep") else copies,
        )
        self._record.add(operation, message, fault)
        if message.copies or message.stored:
            self._channels.add(message)
        return Answer(200, b'[1,"Sent","%d"]' % message.timetoken)

    def _throttle(self) -> None:
        rate = self._config.publish_rate
        if rate is None:
            return
        now = time.monotonic()
        self._allowance = min(max(rate, 1.0), self._allowance + (now - self._refilled) * rate)
        self._refilled = now
        if self._allowance < 1:
            raise too_many((1 - self._allowance) / rate)
        self._allowance -= 1

    def _payload(self, call: Call, channel: str, operation: str) -> bytes:
        try:
            if call.method == "POST" and len(call.parts) <= 7:
                payload = unpack(call.body, call.encoding)
            else:
                payload = call.part_bytes(7) if len(call.parts) > 7 else b""
            payload = payload.strip(b" \t\r\n")
            if operation == "signal" and len(payload) > SIGNAL_BYTES:
                raise publish_error("Signal size too large", self._clock.next())
            if too_large(channel, payload):
                raise publish_error("Message Too Large", self._clock.next())
            parse_json(payload)
        except ValueError:
            raise publish_error("Invalid JSON", self._clock.next()) from None
        return payload

    def _meta(self, call: Call) -> bytes | None:
        meta = call.value("meta")
        if meta is None:
            return None
        text = meta.encode("utf-8", "surrogatepass")
        try:
            parse_json(text)
        except ValueError:
            raise publish_error("Invalid JSON", self._clock.next()) from None
        return text

    def _custom_type(self, call: Call) -> str | None:
        given = call.value("custom_message_type")
        if given is not None and not is_custom_type(given):
            raise publish_error("Invalid custom_message_type", self._clock.next())
        return given

    def _store(self, call: Call) -> bool:
        return call.flag("store") if call.query.get("store") else self._config.store_by_default

    def _expiry(self, call: Call) -> int | None:
        """`ttl` counts hours; 0 and absent mean as long as the log reaches."""
        hours = call.number("ttl")
        return self._clock.next() + min(hours, 1_000_000) * _HOUR if hours else None
