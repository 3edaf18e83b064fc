"""The gateway over HTTP beside its floor: the same database function asked directly.

Postgres (fsync on) and the gateway run as processes of their own; the load comes from here. Open load keeps
its schedule whatever the answers do, so that a pause counts against every request it delays; closed load asks
again as soon as it has its answer and shows the most that is possible.

Run: python -m benchmarks.gateway [--seconds S] [--rate N] [--connections N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
import psutil
import psycopg
import structlog
import uvloop

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application, processes
from sketchy_orchestration.local.postgres import EmbeddedPostgres

PLAYERS = 200
KEY, CRON, SECRET = "bench-service-role-key", "bench-cron-secret-0000", "bench-jwt-secret-with-32-bytes-00"
SMOKE = b'{"type":"test","gameId":"bench","userId":"bench","timestamp":1,"version":"2.0.0","data":{}}'

Ask = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class Figures:
    """Latencies in ms; `count` answers in all."""

    name: str
    count: int
    per_second: float
    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, name: str, took: list[float], seconds: float) -> Figures:
        ordered = sorted(each * 1000 for each in took)

        def at(share: float) -> float:
            return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

        return cls(name, len(ordered), len(ordered) / seconds, at(0.5), at(0.99), ordered[-1])

    def __str__(self) -> str:
        figures = f"{self.per_second:8.0f} {self.p50:9.2f} {self.p99:9.2f} {self.worst:9.2f}"
        return f"{self.name:<44} {figures}"


class Http:
    """One kept-alive connection that speaks just enough HTTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Http:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes, status: bytes) -> None:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head[9:12] == status, head
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)


def request(function: str, body: bytes, **headers: str) -> bytes:
    lines = [f"POST /functions/v1/{function} HTTP/1.1", "host: bench", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def games(url: str) -> list[tuple[str, str]]:
    """Pairs of game and player."""
    made = []
    with psycopg.connect(url) as conn:
        for _ in range(PLAYERS):
            player, game = str(uuid.uuid4()), str(uuid.uuid4())
            conn.execute("insert into auth.users (id, email) values (%s, %s)", [player, player])
            conn.execute(
                "insert into public.users (id, email, username) values (%s, %s, %s)", [player, player, player]
            )
            conn.execute("insert into public.games (id, prompt) values (%s, 'bench')", [game])
            conn.execute(
                "insert into public.game_participants (game_id, user_id) values (%s, %s)", [game, player]
            )
            made.append((game, player))
    return made


def tokens(players: list[tuple[str, str]]) -> list[bytes]:
    claims = {
        "aud": "authenticated",
        "iss": "http://127.0.0.1:54321/auth/v1",
        "exp": int(time.time()) + 3600,
    }
    return [
        request(
            "get-game-timer",
            json.dumps({"gameId": game}).encode(),
            authorization="Bearer " + jwt.encode({**claims, "sub": player}, SECRET, algorithm="HS256"),
        )
        for game, player in players
    ]


@contextmanager
def gateway(url: str) -> Iterator[tuple[int, psutil.Process]]:
    """The gateway as it is run: its port and its process."""
    port = processes.free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "SUPABASE_SERVICE_ROLE_KEY": KEY,
        "CRON_SECRET": CRON,
        "SUPABASE_JWT_SECRET": SECRET,
        "GATEWAY_PORT": str(port),
        "GATEWAY_PLAYER_RATE": "100000/second",
        "GATEWAY_SERVICE_RATE": "100000/second",
        "GATEWAY_STRANGER_RATE": "100000/second",
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "sketchy_orchestration.cli.main", "gateway"]
    process = subprocess.Popen(command, env=environment)
    try:
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


async def until_ready(port: int) -> None:
    for _ in range(400):
        try:
            connection = await Http.open(port)
            await connection.ask(b"GET /ready HTTP/1.1\r\nhost: bench\r\n\r\n", b"200")
        except (OSError, AssertionError):
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("the gateway did not become ready")


async def open_load(name: str, asks: list[Ask], rate: float, seconds: float) -> Figures:
    """`rate` a second over all connections, each with a schedule of its own."""
    took: list[float] = []
    gap = len(asks) / rate
    begin = time.perf_counter() + 0.1

    async def one(place: int, ask: Ask) -> None:
        due = begin + gap * place / len(asks)
        while due < begin + seconds:
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            await ask(place)
            took.append(time.perf_counter() - due)
            due += gap

    await asyncio.gather(*(one(place, ask) for place, ask in enumerate(asks)))
    return Figures.of(name, took, max(seconds, time.perf_counter() - begin))


async def closed_load(name: str, asks: list[Ask], seconds: float) -> Figures:
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def one(place: int, ask: Ask) -> None:
        while (began := time.perf_counter()) < end:
            await ask(place)
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(one(place, ask) for place, ask in enumerate(asks)))
    return Figures.of(name, took, seconds)


async def over_http(port: int, requests: list[bytes], status: bytes, connections: int) -> list[Ask]:
    opened = [await Http.open(port) for _ in range(connections)]
    counts = [0] * connections

    async def ask(place: int) -> None:
        counts[place] += 1
        number = (place + counts[place] * connections) % len(requests)
        await opened[place].ask(requests[number], status)

    return [ask] * connections


async def directly(url: str, players: list[tuple[str, str]], connections: int) -> list[Ask]:
    """The floor: the same function, four connections as the gateway has, taken in turn."""
    opened = [
        await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=1) for _ in range(4)
    ]

    async def ask(place: int) -> None:
        # A connection lets one statement in at a time, in the order they came.
        cursor = await opened[place % 4].execute(
            "select * from orchestration.game_timer(%s, %s)", players[place % len(players)]
        )
        await cursor.fetchone()

    return [ask] * connections


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(
    url: str, port: int, process: psutil.Process, rate: float, seconds: float, connections: int
) -> None:
    await until_ready(port)
    started = time.time() - process.create_time()
    print(f"ready {started:.2f} s after its start", flush=True)
    players = games(url)
    event = request("broadcast-pubnub-event", SMOKE, authorization=f"Bearer {KEY}", prefer="respond-async")

    async def timer() -> list[Ask]:
        return await over_http(port, tokens(players), b"200", connections)

    async def broadcast() -> list[Ask]:
        return await over_http(port, [event], b"202", connections)

    async def floor() -> list[Ask]:
        return await directly(url, players, connections)

    await closed_load("warm-up", await timer(), 1.0)
    print(f"{'':<44} {'a second':>8} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9} {'CPU ms':>9}")
    for name, asks, asked in (
        ("get-game-timer", timer, rate),
        ("  floor: the function directly", floor, rate),
        ("get-game-timer", timer, None),
        ("  floor: the function directly", floor, None),
        ("broadcast to accepted", broadcast, 100.0),
        ("broadcast to accepted", broadcast, 500.0),
        ("broadcast to accepted", broadcast, None),
    ):
        before = _cpu(process)
        if asked is None:
            figures = await closed_load(f"{name}, {connections} at once", await asks(), seconds)
        else:
            figures = await open_load(f"{name}, {asked:.0f}/s asked", await asks(), asked, seconds)
        cpu = (_cpu(process) - before) * 1000 / figures.count
        print(figures, "" if asks is floor else f"{cpu:8.2f}", flush=True)
    bad = await over_http(port, [request("broadcast-pubnub-event", b"{")], b"401", connections)
    for figures in await among_bad_ones(await timer(), bad, seconds):
        print(figures, flush=True)


async def among_bad_ones(timer: list[Ask], bad: list[Ask], seconds: float) -> list[Figures]:
    """Good requests while a thousand a second come without credentials."""
    return await asyncio.gather(
        open_load("get-game-timer, 200/s asked, among", timer, 200, seconds),
        open_load("  bad ones, 1000/s asked", bad, 1000, seconds),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The gateway over HTTP beside its floor.")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second of the open load")
    parser.add_argument("--connections", type=int, default=20)
    given = parser.parse_args()
    # The table is what is wanted here, not each step of the migrations.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    with tempfile.TemporaryDirectory(prefix="sketchy-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with EmbeddedPostgres(home / "home") as running:
            url = running.owner_url()
            application.install(url)
            migrate_up(url, told=lambda _: None)
            with gateway(url) as (port, process):
                uvloop.run(measure(url, port, process, given.rate, given.seconds, given.connections))


if __name__ == "__main__":
    main()
