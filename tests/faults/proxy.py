"""A TCP proxy that breaks the network on purpose: cuts, refuses, swallows, delays, truncates."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

_CHUNK = 65_536

Result = TypeVar("Result")


class Proxy:
    """Between a worker and a server, in a thread of its own.

    Attributes:
        address: where workers connect to, host:port.
        black_hole: nothing passes in either direction, no connection ends; a silent network.
        delay: seconds that each piece of data is kept.
        truncate: so many bytes of the next answer pass, then the connection is reset.
        last_request: when a worker last sent anything (monotonic).
    """

    def __init__(self, host: str, port: int, *, listen: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._listen = listen
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: asyncio.Event
        self.refuse = False
        self.delay = 0.0
        self.truncate: int | None = None
        self.last_request = 0.0
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        self._call(self._end)
        self._thread.join(10)

    def black_hole(self) -> None:
        """From now on data neither arrives nor is refused."""
        self._call(self._passing.clear)

    def heal(self) -> None:
        """Everything passes again, also what was held back."""
        self.refuse, self.delay, self.truncate = False, 0.0, None
        self._call(self._passing.set)

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        return self._call(self._cut)

    def _call(self, do: Callable[[], Result]) -> Result:
        async def run() -> Result:
            return do()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen() -> asyncio.Server:
            self._passing = asyncio.Event()
            self._passing.set()
            return await asyncio.start_server(self._serve, self._listen, 0)

        server = self._loop.run_until_complete(listen())
        self.address = f"{self._listen}:{server.sockets[0].getsockname()[1]}"
        started.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))  # in which reset connections are closed
        self._loop.close()

    def _end(self) -> None:
        self._cut()
        self._loop.call_soon(self._loop.stop)

    def _cut(self) -> int:
        count = len(self._open)
        for writer in list(self._open):
            _reset(writer)
        return count // 2

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = [writer]
        # Cancelled only when the proxy ends, which is nobody's error.
        with suppress(OSError, asyncio.CancelledError):
            try:
                if self.refuse:
                    return
                far_reader, far_writer = await asyncio.open_connection(*self._target)
                opened.append(far_writer)
                self._open.update(opened)
                await asyncio.gather(
                    self._pass(reader, far_writer, answers=False),
                    self._pass(far_reader, writer, answers=True),
                )
            finally:
                self._open.difference_update(opened)
                for each in opened:
                    _reset(each)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if not answers:
                    self.last_request = time.monotonic()
                await self._passing.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if answers and self.truncate is not None:
                    writer.write(data[: self.truncate])
                    self.truncate = None
                    await writer.drain()
                    break
                writer.write(data)
                await writer.drain()
        # One side has ended: so has the connection.
        _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
