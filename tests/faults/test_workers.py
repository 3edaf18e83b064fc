"""Each kind of process is killed, frozen, doubled while games go on: nothing is lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from sketchy_orchestration.local import processes
from tests.faults.clock import HOUR, WrongClock
from tests.faults.extent import ROUNDS, whole_only
from tests.faults.scene import CONCURRENCY, Scene
from tests.faults.workers import Kind, Process, at_work, holders, stopped

pytestmark = [pytest.mark.fault]

ROUND_SECONDS = 25


def now(scene: Scene) -> datetime:
    row = scene.connection.execute("select clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def taken_over(scene: Scene, since: datetime) -> float:
    """Seconds from a moment until the last of all lanes had a living holder."""
    workers = scene.workers
    alive = {process.pid for process in workers.running["fanout"]}
    assert processes.wait_until(
        lambda: sum(count for pid, count in holders(scene.connection).items() if pid in alive) == 32,
        seconds=15,
        pause=0.005,
    ), workers.said()
    row = scene.connection.execute("select max(taken_at) from orchestration.lanes").fetchone()
    assert row is not None
    return max(0.0, (row[0] - since).total_seconds())


def note_lateness(scene: Scene, name: str, watching: Any) -> None:
    scene.figures.note(name, "worst lateness", watching.worst_ms(), 100, unit=" ms")
    scene.figures.note(name, "worst beat of a bare loop meanwhile", watching.machine_ms(), unit=" ms")
    assert watching.worst_ms() <= watching.bound_ms(500)


@pytest.mark.timeout(60 + ROUND_SECONDS * ROUNDS)
@pytest.mark.parametrize("kind", ["timer", "fanout"])
def test_killed(scene: Scene, kind: Kind, chance: random.Random) -> None:
    name = f"kill -9 of a {kind} shift"
    with scene.watching() as watching, scene.load():
        for _ in range(ROUNDS):
            scene.wait_for_more(chance.randrange(40, 160))
            victim = chance.choice(scene.workers.running[kind])
            moment = now(scene)
            scene.workers.kill(victim)
            if kind == "fanout":
                scene.allow(repeats=CONCURRENCY)
                seconds = taken_over(scene, moment)
                scene.figures.note(name, "lanes taken over after", seconds * 1000, 500, unit=" ms")
                assert seconds < 5
            scene.wait_for_more(60)
            scene.workers.start(kind)
            scene.workers.wait_for(scene.connection)
    note_lateness(scene, name, watching)
    scene.judge(name)


@pytest.mark.timeout(60 + ROUND_SECONDS * ROUNDS)
def test_frozen_relay(scene: Scene, chance: random.Random) -> None:
    name = "SIGSTOP of a fan-out shift"
    with scene.load():
        for _ in range(max(1, ROUNDS // 4)):
            scene.wait_for_more(60)
            victim = chance.choice(scene.workers.running["fanout"])
            moment = now(scene)
            victim.send_signal(signal.SIGSTOP)
            scene.workers.running["fanout"].remove(victim)
            seconds = taken_over(scene, moment)
            scene.figures.note(name, "lanes taken over after", seconds * 1000, 2000, unit=" ms")
            assert seconds < 10
            scene.wait_for_more(60)
            victim.send_signal(signal.SIGCONT)
            scene.workers.running["fanout"].append(victim)
            scene.workers.wait_for(scene.connection)
    scene.judge(name)


@whole_only
def test_frozen_timer(scene: Scene) -> None:
    name = "SIGSTOP of a timer shift"
    victim = scene.workers.running["timer"][0]
    with scene.watching() as watching, scene.load():
        scene.wait_for_more(40)
        victim.send_signal(signal.SIGSTOP)
        assert processes.wait_until(lambda: stopped(victim), seconds=5)
        scene.wait_for_more(150)
        victim.send_signal(signal.SIGCONT)
        scene.wait_for_more(80)
    note_lateness(scene, name, watching)
    scene.workers.wait_for(scene.connection)
    scene.judge(name)


@whole_only
def test_duplicates(scene: Scene) -> None:
    name = "two shifts of each kind too many"
    extra = [scene.workers.start(kind) for kind in ("timer", "timer", "fanout", "fanout")]
    with scene.load():
        scene.workers.wait_for(scene.connection)
        scene.wait_for_more(150)
        for process in extra:
            scene.workers.kill(process, signal.SIGTERM)
        scene.wait_for_more(60)
    scene.workers.wait_for(scene.connection)
    scene.judge(name)


def leave(scene: Scene, kind: Kind, number: signal.Signals) -> None:
    for process in list(scene.workers.running[kind]):
        scene.workers.kill(process, number)


@whole_only
def test_all_killed_at_once(scene: Scene) -> None:
    name = "every shift killed at once"
    with scene.load():
        scene.wait_for_more(60)
        leave(scene, "timer", signal.SIGKILL)
        leave(scene, "fanout", signal.SIGKILL)
        scene.allow(repeats=2 * CONCURRENCY)
        for kind in ("timer", "timer", "fanout", "fanout"):
            scene.workers.start(kind)
        scene.workers.wait_for(scene.connection)
        scene.wait_for_more(60)
    scene.judge(name)


@whole_only
def test_wrong_clock(scene: Scene, tmp_path: Path) -> None:
    """Workers that believe to live a day later, whose clocks jump an hour on and back: nothing changes."""
    name = "the clock of every worker wrong and jumping"
    clock = WrongClock(tmp_path, 24 * HOUR)
    workers = scene.workers
    honest = [process for each in workers.running.values() for process in each]
    confused = [workers.start(kind, **clock.environment) for kind in ("timer", "timer", "fanout", "fanout")]
    workers.wait_for(scene.connection)
    assert all(clock.is_loaded_by(process.pid) for process in confused)
    for process in honest:
        workers.kill(process, signal.SIGTERM)
    with scene.watching() as watching, scene.load():
        workers.wait_for(scene.connection)
        for jump in (HOUR, -HOUR, -HOUR, HOUR):
            clock.jump_to(clock.offset + jump)
            scene.wait_for_more(60)
        assert all(at_work(scene.connection, process.pid) for process in confused)
    note_lateness(scene, name, watching)
    scene.judge(name)
    for kind in ("timer", "timer", "fanout", "fanout"):
        workers.start(kind)
    workers.wait_for(scene.connection)
    for process in confused:
        workers.kill(process, signal.SIGTERM)
    workers.wait_for(scene.connection)


@whole_only
def test_gateway(scene: Scene) -> None:
    """Frozen, killed in the middle of requests; another one goes on in its place, and no game noticed."""
    name = "SIGSTOP and kill -9 of the gateway"
    port = processes.free_port()

    def serve() -> Process:
        process = processes.start(
            [sys.executable, "-m", "sketchy_orchestration.cli.main", "gateway"],
            env={
                **os.environ,
                **scene.pubnub.environment(),
                "DATABASE_URL": scene.url,
                "GATEWAY_PORT": str(port),
                "SUPABASE_SERVICE_ROLE_KEY": "test-service-role-key-" * 3,
                "CRON_SECRET": "test-cron-secret-" * 3,
                "SUPABASE_JWT_SECRET": "test-jwt-secret-" * 4,
            },
            log=scene.folder / "gateway.log",
            cwd=None,
        )
        assert processes.wait_until(answers, seconds=30), (scene.folder / "gateway.log").read_text()
        return process

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code < 500
        except httpx.HTTPError:
            return False

    with scene.load():
        process = serve()
        process.send_signal(signal.SIGSTOP)
        scene.wait_for_more(40)
        process.send_signal(signal.SIGCONT)
        assert answers()
        process.kill()
        process.wait(10)
        assert not answers()
        scene.wait_for_more(40)
        process = serve()
        scene.wait_for_more(40)
        processes.stop(process, (signal.SIGTERM, 10.0))
    scene.judge(name)


@whole_only
def test_watchdog(scene: Scene) -> None:
    """Frozen, killed: nobody waits for it, and the next one watches again."""
    name = "SIGSTOP and kill -9 of the watchdog"
    log = scene.folder / "watchdog.log"

    def watch(times: int) -> Process:
        process = processes.start(
            [
                *(sys.executable, "-m", "sketchy_orchestration.cli.main"),
                *("watchdog", "--every", "0.5", "--without-dagster"),
            ],
            env={**os.environ, **scene.pubnub.environment(), "DATABASE_URL": scene.url},
            log=log,
            cwd=None,
        )
        begun = lambda: log.exists() and log.read_text().count("watching every") == times  # noqa: E731
        assert processes.wait_until(begun, seconds=30), log.read_text()
        return process

    with scene.load():
        process = watch(1)
        scene.wait_for_more(40)
        process.send_signal(signal.SIGSTOP)
        scene.wait_for_more(40)
        process.kill()
        process.wait(10)
        process = watch(2)
        scene.wait_for_more(40)
        assert process.poll() is None, log.read_text()
        processes.stop(process, (signal.SIGTERM, 10.0))
    scene.judge(name)


def test_pubnub_killed(scene: Scene) -> None:
    """PubNub itself dies and comes back empty: what it had not taken is sent then, in order."""
    name = "kill -9 of the local PubNub"
    with scene.load():
        scene.wait_for_more(60)
        scene.pubnub.kill()
        opened: Callable[[], bool] = lambda: (  # noqa: E731
            scene.number("select count(*) from orchestration.circuit where state <> 'closed'") == 1
        )
        assert processes.wait_until(opened, seconds=20), scene.workers.said()
        scene.pubnub.start()
        scene.wait_for_more(100)
    # What it took in its last tenth of a second it had not written down.
    scene.allow(record_whole=False)
    assert all(at_work(scene.connection, each.pid) for each in scene.workers.running["fanout"])
    scene.judge(name)
