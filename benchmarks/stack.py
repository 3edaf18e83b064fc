"""What the whole local stack takes: to its first transition, memory, connections, CPU and storage at rest.

`sketchy up` in a folder of its own: twice with players, to see how soon a second start moves a game on and
what it weighs, and without, to see what it costs when nothing happens. Seen from outside.

Run: python -m benchmarks.stack [--seconds S]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

_COMMAND = (sys.executable, "-m", "sketchy_orchestration.cli.main")
_START_SECONDS = 240.0
_PARTS = 7
"""PubNub, players, gateway, watchdog, and Dagster's three."""

_REAL_TIME = """
    select count(*) filter (where application_name = 'sketchy gateway')::int, count(*)::int
    from pg_stat_activity where datname = current_database() and usename <> 'sketchy_dagster'
    and application_name not in ('sketchy play', 'sketchy up', 'benchmark')
"""
_AGE_ONE_OF_EACH_KIND = """
    update orchestration.shifts set started_at = started_at - interval '1 hour'
    where shift_id in (select distinct on (kind) shift_id from orchestration.shifts
                       where ended_at is null order by kind, started_at)
    returning shift_id
"""
_STILL_THERE = "select count(*)::int from orchestration.shifts where shift_id = any (%s) and ended_at is null"
_HAND_OVER_SECONDS = 120.0
_DAGSTER_BYTES = """
    select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c
    join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'dagster' and c.relkind = 'r'
"""


class Stack:
    """A running `sketchy up` in `home`."""

    def __init__(self, home: Path, games: int) -> None:
        self.env = {**os.environ, "SKETCHY_HOME": str(home)}
        self.began = time.monotonic()
        self._log = (home.parent / f"up-{games}.log").open("wb")
        self.process = subprocess.Popen(
            [*_COMMAND, "up", "--games", str(games)],
            env=self.env,
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )

    def status(self) -> dict[str, Any] | None:
        """What `sketchy status --json` says; None while it cannot."""
        done = subprocess.run(
            [*_COMMAND, "status", "--json"], env=self.env, capture_output=True, text=True, check=False
        )
        found: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
        return found

    def settled(self) -> dict[str, Any]:
        """Its status once all of it runs and two shifts of each kind are at work."""
        until = self.began + _START_SECONDS
        while time.monotonic() < until:
            said = self.status()
            if said is not None:
                alive = [shift for shift in said["system"]["shifts"] if shift["alive"]]
                parts = {part["name"] for part in said["stack"]["parts"] if part["alive"]}
                if len(alive) == 4 and len(parts) >= _PARTS - 1 and "watchdog" in parts:
                    return said
            time.sleep(1.0)
        raise SystemExit(f"the stack did not settle in {_START_SECONDS:.0f} s, see {self._log.name}")

    def url(self) -> str:
        """Its database's; asked for until it is there."""
        while time.monotonic() < self.began + _START_SECONDS:
            done = subprocess.run(
                [*_COMMAND, "env"], env=self.env, capture_output=True, text=True, check=False
            )
            for word in shlex.split(done.stdout, comments=True):
                if word.startswith("DATABASE_URL="):
                    return word.removeprefix("DATABASE_URL=")
            time.sleep(0.2)
        raise SystemExit(f"the stack did not start, see {self._log.name}")

    def processes(self, *, without: set[int]) -> list[psutil.Process]:
        """All of it, but for these."""
        mine = psutil.Process(self.process.pid)
        return [one for one in (mine, *mine.children(recursive=True)) if one.pid not in without]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._log.close()


@contextmanager
def up(home: Path, games: int) -> Iterator[Stack]:
    stack = Stack(home, games)
    try:
        yield stack
    finally:
        stack.stop()


def first_transition(stack: Stack) -> float:
    """Seconds from the command to the first transition of this start."""
    with psycopg.connect(stack.url(), autocommit=True, application_name="benchmark") as connection:
        sql = "select count(*)::int from orchestration.transitions where at > now() - interval '1 min'"
        before = connection.execute(sql).fetchone()
        while connection.execute(sql).fetchone() == before:
            if time.monotonic() > stack.began + _START_SECONDS:
                raise SystemExit("no game moved on")
            time.sleep(0.05)
    return time.monotonic() - stack.began


def connections(connection: psycopg.Connection) -> tuple[int, int]:
    """How many the shifts and the watchdog have, and with the gateway's."""
    gateway, everyone = connection.execute(_REAL_TIME).fetchone() or (0, 0)
    return everyone - gateway, everyone


def in_a_hand_over(connection: psycopg.Connection) -> tuple[int, int]:
    """The most of both while a shift of each kind is relieved by a new one."""
    aged = [row[0] for row in connection.execute(_AGE_ONE_OF_EACH_KIND).fetchall()]
    most, until = (0, 0), time.monotonic() + _HAND_OVER_SECONDS
    while connection.execute(_STILL_THERE, [aged]).fetchone() != (0,):
        if time.monotonic() > until:
            raise SystemExit(f"the shifts were not relieved in {_HAND_OVER_SECONDS:.0f} s")
        now = connections(connection)
        most = max(most[0], now[0]), max(most[1], now[1])
        time.sleep(0.05)
    return most


def megabytes(processes: list[psutil.Process]) -> float:
    """Memory of their own, and their part of what they share (PSS)."""
    total = 0.0
    for one in processes:
        try:
            total += one.memory_full_info().pss / 1e6
        except psutil.Error:
            continue
    return total


def seconds_of_cpu(processes: list[psutil.Process]) -> dict[int, float]:
    found = {}
    for one in processes:
        try:
            times = one.cpu_times()
            found[one.pid] = times.user + times.system
        except psutil.Error:
            continue
    return found


def row(what: str, measured: str, wanted: str) -> None:
    print(f"| {what} | {measured} | {wanted} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0, help="of rest that are measured")
    options = parser.parse_args()
    print("| what | measured | wanted |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="sketchy-bench-") as folder:
        home = Path(folder) / "home"
        Path(folder).chmod(0o755)
        with up(home, 50) as stack:
            row("first start, until the first transition", f"{first_transition(stack):.1f} s", "")
        with up(home, 50) as stack:
            row("second start, until the first transition", f"{first_transition(stack):.1f} s", "≤ 15 s")
            players = {part["pid"] for part in stack.settled()["stack"]["parts"] if part["name"] == "players"}
            weight = megabytes(stack.processes(without=players))
            row("memory with 50 games, players excluded (PSS)", f"{weight:,.0f} MB", "≤ 1,500 MB")
            with psycopg.connect(stack.url(), autocommit=True, application_name="benchmark") as connection:
                steady, handing_over = connections(connection), in_a_hand_over(connection)
            what = "connections: shifts and watchdog; with the gateway"
            row(what, f"{steady[0]}; {steady[1]}", "≤ 10; ≤ 20")
            row(
                "… while a shift of each kind hands over",
                f"{handing_over[0]}; {handing_over[1]}",
                "≤ 16; ≤ 20",
            )
        with up(home, 0) as stack:
            stack.settled()
            time.sleep(20.0)
            with psycopg.connect(stack.url(), autocommit=True, application_name="benchmark") as connection:
                bytes_before = connection.execute(_DAGSTER_BYTES).fetchone() or (0,)
                before = seconds_of_cpu(stack.processes(without=set()))
                time.sleep(options.seconds)
                after = seconds_of_cpu(stack.processes(without=set()))
                bytes_after = connection.execute(_DAGSTER_BYTES).fetchone() or (0,)
            spent = sum(used - before.get(pid, 0.0) for pid, used in after.items())
            row("CPU at rest, no game", f"{100 * spent / options.seconds:.0f} % of one core", "measured")
            grown = (bytes_after[0] - bytes_before[0]) / 1e6 * 86_400 / options.seconds
            # Mostly ticks, which are kept for six hours: it grows until the first are removed.
            row("Dagster's storage at rest, before any clean-up", f"{grown:.1f} MB a day", "measured")


if __name__ == "__main__":
    main()
