"""The service itself, without HTTP: which call is which operation, and who answers it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from sketchy_orchestration.local.pubnub.access import Access
from sketchy_orchestration.local.pubnub.answers import (
    Answer,
    RefusalError,
    not_found,
    service_error,
    unsupported,
)
from sketchy_orchestration.local.pubnub.calls import Call
from sketchy_orchestration.local.pubnub.channels import Channels
from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.faults import Faults
from sketchy_orchestration.local.pubnub.looking import History, PresenceCalls
from sketchy_orchestration.local.pubnub.presence import Presence
from sketchy_orchestration.local.pubnub.publishing import Publishing
from sketchy_orchestration.local.pubnub.record import Record
from sketchy_orchestration.local.pubnub.subscribing import Subscribing
from sketchy_orchestration.local.pubnub.timetoken import TimetokenClock

# Services the real PubNub has at these paths and the stand-in leaves out.
_LEFT_OUT = {
    ("v1", "channel-registration"): "channel groups are",
    ("v1", "message-actions"): "message actions are",
    ("v1", "files"): "files are",
    ("v1", "push"): "push notifications are",
    ("v2", "push"): "push notifications are",
    ("v2", "objects"): "App Context is",
    ("v2", "auth"): "Access Manager version 2 is",
    ("v2", "history"): "history version 2 is",
    ("v3", "history-with-actions"): "message actions are",
}


class Service:
    """One keyset's state and everything that answers for it. Used from one event loop only."""

    def __init__(self, config: StandInConfig) -> None:
        self.config = config
        self.clock = TimetokenClock()
        self.channels = Channels(config)
        self.record = Record(config)
        self.faults = Faults(config.seed)
        self.presence = Presence(config, self.clock, self.channels)
        self.access = Access(config)
        self.requests: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self._publishing = Publishing(config, self.clock, self.channels, self.record, self.access)
        self._subscribing = Subscribing(config, self.clock, self.channels, self.presence, self.access)
        self._presence_calls = PresenceCalls(config, self.presence, self.access)
        self._history = History(config, self.clock, self.channels, self.access)
        self._started = time.monotonic()

    def operation(self, call: Call) -> str:
        """Which of faults.OPERATIONS the call is, or "other"."""
        match call.parts[1:4]:
            case ["publish" | "signal", *_]:
                return self._publishing.operation(call)
            case ["v2", "subscribe", *_]:
                return "subscribe"
            case ["v2", "presence", *_]:
                return "presence"
            case ["v3", "history", *_]:
                return "history"
            case ["v3", "pam", *_]:
                return "revoke" if call.method == "DELETE" else "grant"
            case ["time", *_]:
                return "time"
            case _:
                return "other"

    def channel_names(self, call: Call, operation: str) -> list[str]:
        """The channels a fault's pattern is compared with; none when the call names none, or badly."""
        index = {"publish": 5, "fire": 5, "signal": 5, "subscribe": 4, "presence": 6, "history": 6}.get(
            operation
        )
        if index is None:
            return []
        try:
            return call.channels(index)
        except RefusalError:
            return []

    async def answer(
        self, call: Call, operation: str, *, fault: str | None = None, copies: int = 1
    ) -> Answer:
        """The answer the real service would give.

        Args:
            fault: what will keep the sender from hearing it, for the record.
            copies: how often subscribers get the message.
        """
        try:
            if operation in ("publish", "fire", "signal"):
                self._expect(call, "GET", "POST")
                return self._publishing.accept(call, operation, fault, copies)
            match operation:
                case "subscribe":
                    self._expect(call, "GET")
                    return await self._subscribing.poll(call)
                case "presence":
                    self._expect(call, "GET")
                    return self._presence_calls.answer(call)
                case "history":
                    self._expect(call, "GET", "DELETE")
                    return self._history.answer(call)
                case "time":
                    return Answer(200, b"[%d]" % self.clock.next())
                case "grant" | "revoke":
                    return self._pam(call)
                case _:
                    raise self._unknown(call)
        except RefusalError as refused:
            return refused.answer

    def _expect(self, call: Call, *methods: str) -> None:
        if call.method not in methods:
            raise service_error(405, "Method Not Allowed", "Balancer")

    def _pam(self, call: Call) -> Answer:
        if call.method == "POST" and call.parts[4:] == ["grant"]:
            return self.access.grant(call)
        if call.method == "DELETE" and call.part(4) == "grant" and len(call.parts) == 6:
            return self.access.revoke(call)
        raise not_found(call.path)

    def _unknown(self, call: Call) -> RefusalError:
        what = _LEFT_OUT.get((call.part(1), call.part(2)))
        return unsupported(what) if what is not None else not_found(call.path)

    def stats(self) -> dict[str, Any]:
        """Counts since the start, and what is held now."""
        return {
            "seconds": round(time.monotonic() - self._started, 3),
            "requests": dict(self.requests),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "accepted": self.record.count,
            "delivered": self.channels.delivered,
            "lost_to_buffer": self.channels.lost,
            "waiting": self.channels.waiting,
            "channels": len(self.channels),
            "kept_messages": self.channels.kept,
            "kept_bytes": self.channels.kept_bytes,
            "record_dropped": self.record.dropped,
            "faults": len(self.faults.active()),
        }

    def close(self) -> None:
        self.presence.close()
        self.record.close()
