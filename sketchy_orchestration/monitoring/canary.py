"""A canary: publishes and hears itself, and says how long that took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import uuid4

from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.pubnub.sdk import SdkPublisher
from sketchy_orchestration.pubnub.subscriber import Subscriber

LOST_AFTER = 5.0
"""Seconds after which a canary that was not heard counts as lost."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One canary; `milliseconds` from publish to hearing, None when it was lost, and `why`."""

    milliseconds: float | None
    why: str = ""


class Canary:
    """A publisher and a subscriber of one channel that nobody else uses.

    Example:
        >>> async with Canary(keyset, "eu-central") as canary:
        ...     flight = await canary.fly()
    """

    def __init__(self, keyset: Keyset, region: str) -> None:
        self._channel = f"canary-{region}-{uuid4().hex[:8]}"
        self._publisher = SdkPublisher(keyset, concurrency=1, uuid=f"canary-{region}")
        self._subscriber = Subscriber(keyset, uuid=f"canary-{region}")

    async def __aenter__(self) -> Self:
        await self._subscriber.__aenter__()
        try:
            await self._subscriber.subscribe(self._channel, within=LOST_AFTER)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._publisher.close()
        await self._subscriber.__aexit__(kind, error, trace)

    async def fly(self, within: float = LOST_AFTER) -> Flight:
        """Publish once and wait for it; never raises for what PubNub does or does not."""
        name = uuid4().hex
        began = time.perf_counter()
        try:
            async with asyncio.timeout(within):
                await self._publisher.publish(self._channel, {"canary": name}, timeout=within, store=False)
                while True:
                    heard = await self._subscriber.next(within)
                    if isinstance(heard.message, dict) and heard.message.get("canary") == name:
                        return Flight((time.perf_counter() - began) * 1000)
        except TimeoutError:
            return Flight(None, f"not heard within {within:g} s")
        except SketchyError as error:
            return Flight(None, error.in_one_line())


async def fly_once(keyset: Keyset, region: str) -> Flight:
    """One canary with connections of its own; lost when PubNub does not even answer a subscriber."""
    try:
        async with Canary(keyset, region) as canary:
            return await canary.fly()
    except SketchyError as error:
        return Flight(None, error.in_one_line())


@dataclass(frozen=True, slots=True)
class Probe:
    """What several canaries came to; times in ms."""

    sent: int
    lost: int
    p50_ms: float
    p95_ms: float
    max_ms: float
    why: str


def summary(flights: Sequence[Flight]) -> Probe:
    """Percentiles of those that were heard."""
    times = Histogram()
    times.add(flight.milliseconds for flight in flights if flight.milliseconds is not None)
    lost = [flight for flight in flights if flight.milliseconds is None]
    return Probe(
        len(flights),
        len(lost),
        times.percentile(0.5),
        times.percentile(0.95),
        times.largest,
        lost[-1].why if lost else "",
    )
