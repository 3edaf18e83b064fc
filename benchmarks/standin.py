"""The local PubNub's figures: accepted publishes a second, time to a waiting subscriber, flatness, memory.

The server runs in a process of its own on one core; bare sockets send and listen from another. Beside the
figures stand, in the same run, those of a bare aiohttp server that does nothing else.
Run: python -m benchmarks.standin [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote

import psutil

CHANNELS = 1_000
CONNECTIONS = 32
LONG_POLLS = 200
RATE = 500
BOUND = 50_000  # StandInConfig.log_messages: what history grows to
_MESSAGE = {
    "type": "changed",
    "id": "0b5ad3f0-8a3e-4b0e-9d8f-1f8f3b6a2c11",
    "data": {"text": "a cat on a mat" * 10},
}

# The least that can wake a long poll: no checks, no history, no catching up, so some are never heard.
_FLOOR = """
import asyncio
import gc
from urllib.parse import unquote_to_bytes
from aiohttp import web
HEADERS = {"Content-Type": "text/javascript; charset=UTF-8", "Access-Control-Allow-Origin": "*"}
waiting = {}
async def answer(request):
    parts = request.raw_path.partition("?")[0].split("/")
    if parts[1] == "publish":
        for future in waiting.pop(parts[5], ()):
            if not future.done():
                future.set_result(unquote_to_bytes(parts[7]))
        return web.Response(body=b'[1,"Sent","17334108327846111"]', headers=HEADERS)
    messages = b""
    if "tt=0&" not in request.raw_path:
        future = asyncio.get_running_loop().create_future()
        for name in parts[4].split(","):
            waiting.setdefault(name, []).append(future)
        messages = b'{"d":%s}' % await future
    return web.Response(body=b'{"t":{"t":"1"},"m":[%s]}' % messages, headers=HEADERS)
async def main():
    server = web.Server(answer, access_log=None, max_line_size=65536)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    print("listening on http://127.0.0.1:%d" % listener.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Server:
    host: str
    port: int
    process: psutil.Process

    def cpu(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def started(*arguments: str) -> Iterator[Server]:
    """A server process on one core, this process on the others."""
    cores = sorted(os.sched_getaffinity(0))
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        if len(cores) > 1:
            os.sched_setaffinity(process.pid, {cores[-1]})
            os.sched_setaffinity(0, set(cores[:-1]))
        assert process.stdout is not None
        host, _, port = process.stdout.readline().strip().removeprefix("listening on http://").partition(":")
        yield Server(host, int(port), psutil.Process(process.pid))
    finally:
        os.sched_setaffinity(0, set(cores))
        process.terminate()
        process.wait(10)


@contextmanager
def priority(server: Server, wanted: bool) -> Iterator[None]:
    """Both processes before all others; they need a third of a core each, so the others hardly notice."""
    if wanted:
        for process in (server.process.pid, 0):
            os.sched_setscheduler(process, os.SCHED_RR, os.sched_param(10))
    yield
    if wanted:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def stand_in() -> tuple[str, ...]:
    return ("-m", "sketchy_orchestration.local.pubnub", "--port", "0")


def publish_request(channel: int, message: object) -> bytes:
    text = quote(json.dumps(message, separators=(",", ":")), safe="")
    path = f"/publish/pub-c-local/sub-c-local/0/room-{channel}/0/{text}?uuid=server&pnsdk=bare&store=1"
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def publishes(server: Server, count: int, message: object = _MESSAGE) -> tuple[float, float]:
    """Accepted publishes a second with CONNECTIONS bare connections, and the server's CPU µs for each."""
    requests = [publish_request(channel, message) for channel in range(CHANNELS)]
    waiting = selectors.DefaultSelector()
    connections = []
    for _ in range(CONNECTIONS):
        connection = socket.create_connection((server.host, server.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting.register(connection, selectors.EVENT_READ)
        connections.append(connection)
    cpu, began = server.cpu(), time.perf_counter()
    sent = accepted = 0
    for connection in connections:
        connection.sendall(requests[sent % CHANNELS])
        sent += 1
    while accepted < count:
        for key, _ in waiting.select():
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            accepted += connection.recv(65536).count(b'[1,"Sent"')
            if sent < count:
                connection.sendall(requests[sent % CHANNELS])
                sent += 1
    took, used = time.perf_counter() - began, server.cpu() - cpu
    for connection in connections:
        connection.close()
    waiting.close()
    return count / took, used / count * 1e6


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


async def _subscriber(server: Server, number: int, heard: dict[int, float], ready: asyncio.Semaphore) -> None:
    each = CHANNELS // LONG_POLLS
    names = ",".join(f"room-{number * each + offset}" for offset in range(each))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    since = "0"
    try:
        while True:
            path = f"/v2/subscribe/sub-c-local/{names}/0?tt={since}&uuid=user-{number}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = json.loads(await _answer(reader))
            now = time.perf_counter()
            for message in answer["m"]:
                heard[message["d"]["n"]] = now
            if since == "0":
                ready.release()
            since = answer["t"]["t"]
    finally:
        writer.close()


async def to_subscribers(server: Server, seconds: float, *, all_heard: bool = True) -> list[float]:
    """Milliseconds from before the publish is written to a waiting subscriber's receipt, sorted."""
    heard: dict[int, float] = {}
    sent: dict[int, float] = {}
    ready = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_subscriber(server, n, heard, ready)) for n in range(LONG_POLLS)]
    for _ in range(LONG_POLLS):
        await ready.acquire()
    publishers = [await asyncio.open_connection(server.host, server.port) for _ in range(8)]

    async def drain(reader: asyncio.StreamReader) -> None:
        while True:
            await _answer(reader)

    drains = [asyncio.create_task(drain(reader)) for reader, _ in publishers]
    count = int(RATE * seconds)
    began = time.perf_counter() + 0.5
    for number in range(count):
        wait = began + number / RATE - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        data = publish_request(number * 7 % CHANNELS, {**_MESSAGE, "n": number})
        sent[number] = time.perf_counter()
        publishers[number % len(publishers)][1].write(data)
    with suppress(TimeoutError):
        async with asyncio.timeout(5 if all_heard else 0.5):
            while len(heard) < count:  # noqa: ASYNC110 - asked once every 20 ms, so as not to disturb
                await asyncio.sleep(0.02)
    for task in [*tasks, *drains]:
        task.cancel()
    await asyncio.gather(*tasks, *drains, return_exceptions=True)
    for _, writer in publishers:
        writer.close()
    assert len(heard) == count or not all_heard, f"{count - len(heard)} of {count} were never heard"
    return sorted((heard[number] - sent[number]) * 1e3 for number in heard)


def _row(what: str, figure: str, wanted: str) -> None:
    print(f"{what:<58} {figure:>26} {wanted:>14}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The local PubNub's figures.")
    parser.add_argument("--quick", action="store_true", help="a fifth of everything")
    parser.add_argument(
        "--first",
        action="store_true",
        help="take times with real-time priority, so that other work does not count (root only)",
    )
    options = parser.parse_args()
    count, seconds = (10_000, 4.0) if options.quick else (50_000, 20.0)
    gc.disable()  # this side's pauses are not the server's
    _row("what", "measured", "wanted")

    with started("-c", _FLOOR) as floor:
        floor_rates = [publishes(floor, count // 2)[0] for _ in range(3)]
        with priority(floor, options.first):
            floor_latencies = asyncio.run(to_subscribers(floor, seconds, all_heard=False))
    with started(*stand_in()) as server:
        empty_rate, empty_cpu = publishes(server, count // 5)
        rates = [publishes(server, count)[0] for _ in range(3)]
        full_rate, full_cpu = publishes(server, count // 5)
        with priority(server, options.first):
            latencies = asyncio.run(to_subscribers(server, seconds))
        memory = server.process.memory_info().rss / 1e6
    with started(*stand_in()) as server:
        publishes(server, BOUND // 2, {"text": "x" * 4_000})
        large = server.process.memory_info().rss / 1e6

    best, floor_best = max(rates), max(floor_rates)
    _row("publishes accepted a second, bare client (best of 3)", f"{best:,.0f}", ">= 5,000")
    _row("  each round", " ".join(f"{rate:,.0f}" for rate in rates), "")
    _row("  of a bare aiohttp server's", f"{best / floor_best:.2f} of {floor_best:,.0f}", "")
    _row("  with no history", f"{empty_rate:,.0f}  {empty_cpu:.0f} us CPU", "")
    _row(f"  with history at its bound ({BOUND:,})", f"{full_rate:,.0f}  {full_cpu:.0f} us CPU", "flat")
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        wanted = "<= 5 ms" if name == "p99" else ""
        figure, bare = (found[int((len(found) - 1) * share)] for found in (latencies, floor_latencies))
        what = f"publish to waiting subscriber, {RATE}/s, {LONG_POLLS} long polls, {name}"
        _row(what, f"{figure:.2f} ms (bare {bare:.2f})", wanted)
    _row("  max", f"{latencies[-1]:.2f} ms", "")
    _row("memory (RSS), history and record at their bound", f"{memory:.0f} MB", "<= 150 MB")
    _row("  with 4 KB messages", f"{large:.0f} MB", "<= 150 MB")


if __name__ == "__main__":
    main()
