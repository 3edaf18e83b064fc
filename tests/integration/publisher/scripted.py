"""A PubNub that does what the test says: raw enough to break an answer anywhere."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

ACCEPT = "accept"
HANG = "hang"
CUT = "cut"
LOST = "lost"


@dataclass
class Request:
    method: str
    path: str
    channel: str
    message: Any
    query: dict[str, str]


@dataclass
class ScriptedPubNub:
    """Each publish takes the next act of `script`; when it is empty, it is accepted."""

    port: int = 0
    script: list[str | bytes] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    accepted: list[Request] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    last_timetoken: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def origin(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        self._writers.add(writer)
        try:
            while True:
                await self._answer(await self._request(reader), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open_connections -= 1
            self._writers.discard(writer)
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path, _, query = target.partition("?")
        parts = path.split("/")
        raw = body.decode() if method == "POST" else urllib.parse.unquote("/".join(parts[7:]))
        request = Request(
            method,
            path,
            urllib.parse.unquote(parts[5]),
            json.loads(raw),
            dict(urllib.parse.parse_qsl(query)),
        )
        self.requests.append(request)
        return request

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        act = self.script.pop(0) if self.script else ACCEPT
        if act == HANG:
            await asyncio.Event().wait()
        if act == CUT:
            raise ConnectionResetError
        if act in (ACCEPT, LOST):
            self.accepted.append(request)
            self.last_timetoken = max(self.last_timetoken + 1, time.time_ns() // 100)
        if act == LOST:
            raise ConnectionResetError
        if act == ACCEPT:
            act = answer(200, [1, "Sent", str(self.last_timetoken)])
        assert isinstance(act, bytes)
        writer.write(act)
        await writer.drain()
        if b"Connection: close" in act:
            raise ConnectionResetError


def answer(status: int, body: Any, **headers: str) -> bytes:
    """A whole HTTP answer; `body` is text as it is, bytes as they are, or anything else as JSON."""
    raw = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: text/javascript; charset=UTF-8"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(raw)}")
    return "\r\n".join([*lines, "", ""]).encode() + raw


@asynccontextmanager
async def scripted_pubnub() -> AsyncIterator[ScriptedPubNub]:
    pubnub = ScriptedPubNub()
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(pubnub.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=200_000)
    pubnub.port = server.sockets[0].getsockname()[1]
    try:
        yield pubnub
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
