"""The official Python SDK, pointed at a stand-in."""

from __future__ import annotations

import threading
from typing import Any

from pubnub.callbacks import SubscribeCallback
from pubnub.enums import PNStatusCategory
from pubnub.pnconfiguration import PNConfiguration

from sketchy_orchestration.local.pubnub import LocalPubNub
from tests.integration.standin.wire import until


def configured(pubnub: LocalPubNub, user: str = "me", **settings: Any) -> PNConfiguration:
    config = PNConfiguration()
    config.origin, config.ssl = pubnub.origin, False
    config.publish_key, config.subscribe_key = pubnub.publish_key, pubnub.subscribe_key
    config.uuid = user
    config.enable_subscribe = False
    for name, value in settings.items():
        setattr(config, name, value)
    return config


class Heard(SubscribeCallback):
    """Collects what a subscription hears; usable from the SDK's threads and from an event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.messages: list[Any] = []
        self.signals: list[Any] = []
        self.presences: list[Any] = []
        self.statuses: list[Any] = []

    def message(self, _pubnub: Any, message: Any) -> None:
        with self._lock:
            self.messages.append(message)

    def signal(self, _pubnub: Any, signal: Any) -> None:
        with self._lock:
            self.signals.append(signal)

    def presence(self, _pubnub: Any, presence: Any) -> None:
        with self._lock:
            self.presences.append(presence)

    def status(self, _pubnub: Any, status: Any) -> None:
        with self._lock:
            self.statuses.append(status.category)

    def connected(self) -> bool:
        return PNStatusCategory.PNConnectedCategory in self.statuses

    def wait_connected(self) -> None:
        until(self.connected)

    def texts(self) -> list[Any]:
        return [message.message for message in self.messages]

    def actions(self) -> list[tuple[str, str]]:
        return [(presence.event, presence.uuid) for presence in self.presences]
