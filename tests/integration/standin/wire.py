"""Bare HTTP to a stand-in: what the SDKs hide is visible here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sketchy_orchestration.local.pubnub import LocalPubNub


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """Requests to one stand-in, each on a connection of its own."""

    def __init__(self, pubnub: LocalPubNub) -> None:
        self.pubnub = pubnub
        self.sub = pubnub.subscribe_key
        self.pub = pubnub.publish_key
        self._threads = ThreadPoolExecutor(64)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        limit: float = 10,
    ) -> Reply:
        host, port = self.pubnub.origin.split(":")
        connection = HTTPConnection(host, int(port), timeout=limit)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, names, response.read())
        finally:
            connection.close()

    def get(self, path: str, limit: float = 10, **query: object) -> Reply:
        return self.request("GET", f"{path}?{urlencode(query)}" if query else path, limit=limit)

    def publish(self, channel: str, message: object, kind: str = "publish", **query: object) -> Reply:
        text = quote(json.dumps(message, separators=(",", ":")), safe="")
        return self.get(f"/{kind}/{self.pub}/{self.sub}/0/{quote(channel, safe='')}/0/{text}", **query)

    def subscribe(self, channels: str, tt: object = 0, limit: float = 10, **query: object) -> Reply:
        return self.get(f"/v2/subscribe/{self.sub}/{channels}/0", limit, tt=tt, **query)

    def subscribe_later(self, channels: str, tt: object, **query: object) -> Future[Reply]:
        """A long poll in the background, open on the server when this returns."""
        before = self.pubnub.stats()["waiting"]
        future = self._threads.submit(self.subscribe, channels, tt, 30, **query)
        until(lambda: self.pubnub.stats()["waiting"] > before or future.done())
        return future

    def handshake(self, channels: str, **query: object) -> str:
        return str(self.subscribe(channels, **query).json["t"]["t"])

    def where_now(self, user: str) -> list[str]:
        reply = self.get(f"/v2/presence/sub-key/{self.sub}/uuid/{user}")
        channels: list[str] = reply.json["payload"]["channels"]
        return channels

    def history(self, channels: str, **query: object) -> dict[str, list[dict[str, Any]]]:
        reply = self.get(f"/v3/history/sub-key/{self.sub}/channel/{channels}", **query)
        assert reply.status == 200, reply
        channels_found: dict[str, list[dict[str, Any]]] = reply.json["channels"]
        return channels_found


def until(condition: Callable[[], object], limit: float = 10) -> None:
    """Wait for the condition; fails when it does not come true within `limit` seconds."""
    pause = 0.002
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
