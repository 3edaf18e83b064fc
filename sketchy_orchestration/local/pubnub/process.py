"""The stand-in as a process: serves until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

from sketchy_orchestration.local.pubnub.config import StandInConfig
from sketchy_orchestration.local.pubnub.server import HOST, StandIn

_BITE_SECONDS = 1.0
_BITES = 600


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
    tidying = asyncio.create_task(_tidy())
    try:
        await stand_in.start()
        sys.stdout.write(f"listening on http://{HOST}:{stand_in.port}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        tidying.cancel()
        await stand_in.stop()


async def _tidy() -> None:
    """Collect garbage in small bites.

    Python would look through all kept messages again and again, 20 ms at a time, to find no garbage among
    them; so what survived a second is set aside, and looked at again only once in a while.
    """
    gc.disable()
    while True:
        gc.unfreeze()
        gc.collect()
        for _ in range(_BITES):
            gc.freeze()
            await asyncio.sleep(_BITE_SECONDS)
            gc.collect()
