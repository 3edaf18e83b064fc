"""What only time shows: a table of a million games, an old transaction that pins the horizon, hours of play.

Ours only. The last part is `sketchy up` as it stands, with players that check what they hear; each minute is
a row, and the last quarter of them is held against the first.

Run: python -m benchmarks.soak [--minutes 120] [--games 50] [--pinned 1800] [--without PART ...]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import fanout_pinned, timers
from sketchy_orchestration.local.postgres import EmbeddedPostgres

PARTS = ("crowd", "pinned", "play")
_EVENTS = 10_000
_START_SECONDS = 240.0
_COMMAND = (sys.executable, "-m", "sketchy_orchestration.cli.main")


@dataclass(frozen=True)
class Minute:
    """One minute of play: lateness in ms, events sent, memory of all processes and data on disk in MB."""

    p50: float
    p99: float
    sent: int
    waiting: int
    dead: int
    overdue: int
    memory: float
    disk: float


def crowd() -> None:
    """Lateness at 100 deadlines a second among 1,000 games and among 1,000,000 with 100,000 live."""
    with (
        tempfile.TemporaryDirectory(prefix="sketchy-bench-") as home,
        EmbeddedPostgres(Path(home)) as postgres,
    ):
        print(timers.report(list(timers.crowds(postgres, timers.FULL))), flush=True)


def pinned(seconds: float) -> None:
    """What a backlog drains at beside a transaction that stays open, and without one."""
    fanout_pinned.measure(2, seconds, _EVENTS)


def play(minutes: int, games: int) -> list[Minute]:
    """The whole stack, minute by minute."""
    found: list[Minute] = []
    with tempfile.TemporaryDirectory(prefix="sketchy-bench-") as folder:
        home = Path(folder) / "home"
        env = {**os.environ, "SKETCHY_HOME": str(home)}
        log = (Path(folder) / "up.log").open("wb")
        stack = subprocess.Popen(
            [*_COMMAND, "up", "--games", str(games)],
            env=env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + _START_SECONDS
            while (said := _status(env)) is None or said["system"]["transitions"] == 0:
                assert time.monotonic() < until, f"the stack did not start: {log.name}"
                time.sleep(1.0)
            print("\n| minute | lateness p50, p99 ms | sent | waiting | dead | overdue | memory, disk MB |")
            print("|---|---|---|---|---|---|---|")
            for number in range(1, minutes + 1):
                time.sleep(60.0)
                said = _status(env)
                assert said is not None, "the stack does not answer"
                found.append(_minute(said["system"], stack.pid, home))
                one = found[-1]
                print(
                    f"| {number} | {one.p50:.1f}, {one.p99:.1f} | {one.sent} | {one.waiting} | {one.dead}"
                    f" | {one.overdue} | {one.memory:.0f}, {one.disk:.0f} |",
                    flush=True,
                )
        finally:
            stack.send_signal(signal.SIGTERM)
            stack.wait(60)
    return found


def _status(env: dict[str, str]) -> dict[str, Any] | None:
    done = subprocess.run(
        [*_COMMAND, "status", "--json"], env=env, capture_output=True, text=True, check=False
    )
    found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    return found


def _minute(system: dict[str, Any], pid: int, home: Path) -> Minute:
    memory = 0.0
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        try:
            memory += process.memory_full_info().pss / 1e6
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    disk = sum(path.stat().st_blocks * 512 for path in home.rglob("*") if path.is_file()) / 1e6
    lateness = system["lateness"]
    return Minute(
        lateness["p50_ms"] or 0.0,
        lateness["p99_ms"] or 0.0,
        system["sent_events"],
        system["waiting_events"],
        system["dead_letters"],
        system["overdue"],
        memory,
        disk,
    )


def judge(found: list[Minute]) -> str:
    """The last quarter of the minutes against the first."""
    quarter = max(1, len(found) // 4)
    parts = []
    for name in ("p50", "p99", "sent", "memory", "disk"):
        first, last = (
            statistics.median(getattr(one, name) for one in some)
            for some in (found[:quarter], found[-quarter:])
        )
        parts.append(f"{name} {first:,.1f} → {last:,.1f}")
    return "first quarter of the minutes → last: " + "; ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=int, default=120, help="of play")
    parser.add_argument("--games", type=int, default=50, help="played at any time")
    parser.add_argument("--pinned", type=float, default=1800.0, help="seconds an old transaction stays open")
    parser.add_argument("--without", nargs="+", choices=PARTS, default=[], help="leave these parts out")
    options = parser.parse_args()
    print(timers.machine(), flush=True)
    if "crowd" not in options.without:
        crowd()
    if "pinned" not in options.without:
        pinned(options.pinned)
    if "play" not in options.without:
        print(f"\n{judge(play(options.minutes, options.games))}")


if __name__ == "__main__":
    main()
