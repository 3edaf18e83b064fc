"""The watch without Dagster: a process that flies canaries and looks, until it is told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.monitoring.canary import Canary, Flight
from sketchy_orchestration.monitoring.watch import NEEDED, Look, Watchman
from sketchy_orchestration.pubnub.keyset import Keyset
from sketchy_orchestration.settings import Settings

CANARY_EVERY = 10.0
LOOK_EVERY = 10.0
LEVELS_LOOKS = 6
LEDGER_LOOKS = 30
"""Service levels are read at every sixth look, once a minute as delivered; the ledger every five minutes."""

log = structlog.get_logger(__name__)


async def watch(
    settings: Settings,
    stop: asyncio.Event,
    *,
    every: float = LOOK_EVERY,
    without_dagster: bool = False,
    tell: Callable[[Look], None] = lambda _: None,
) -> None:
    """Fly canaries and look, again and again, until `stop`.

    Args:
        every: seconds between two looks; canaries fly every ten seconds, or as often as that.
        without_dagster: the system runs by `sketchy shift` alone: Dagster's silence is no fault.

    Raises:
        KeysetError, WrongChannelError: a setting is missing or wrong.
    """
    keyset = Keyset.of(settings)
    watchman = Watchman(settings, levels_every=LEVELS_LOOKS * every, ledger_every=LEDGER_LOOKS * every)
    needed = [name for name in NEEDED if not (without_dagster and name == "dagster_daemon")]
    async with AsyncExitStack() as stack:
        canary: Canary | None = None
        flights: list[Flight] = []
        looked = -every
        while not stop.is_set():
            flight = Flight(None, "PubNub did not answer a subscriber")
            try:
                if canary is None:
                    canary = await stack.enter_async_context(Canary(keyset, settings.region))
                flight = await canary.fly()
            except SketchyError as error:
                flight = Flight(None, error.in_one_line())
            flights.append(flight)
            # Turns are counted in canaries: a look that is due in half a moment is not put off by one.
            if time.monotonic() - looked >= every - 0.5 * min(every, 1.0):
                looked = time.monotonic()
                tell(await asyncio.to_thread(watchman.look, flights, needed=needed))
                flights = []
            try:
                async with asyncio.timeout(min(every, CANARY_EVERY)):
                    await stop.wait()
            except TimeoutError:
                continue
