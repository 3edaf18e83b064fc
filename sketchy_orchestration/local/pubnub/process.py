"""The stand-in as a process: serves until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.server import HOST, StandIn


def serve(config: StandInConfig) -> None:
    """Serve until SIGINT or SIGTERM; prints `listening on http://127.0.0.1:PORT` once ready.

    Raises:
        StandInError: the port is taken or the record cannot be written.
    """
    asyncio.run(_serve(config))


async def _serve(config: StandInConfig) -> None:
    stand_in = StandIn(config)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await stand_in.start()
        # Messages are many and in no cycle: a full collection would pause deliveries to find nothing.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 100)
        sys.stdout.write(f"listening on http://{HOST}:{stand_in.port}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await stand_in.stop()
