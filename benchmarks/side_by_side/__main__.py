"""Ours beside four job queues, the legacy handler, a Dagster run per sweep and a bare floor, in one run.

One Postgres with fsync on, one local PubNub, a database of its own for each turn, scenario by scenario, so
that noise hits all alike. Every contestant does the same job: at T a game's phase ends: update the row,
record it, publish the event; a subscriber notes when it hears it.

Run: python -m benchmarks.side_by_side [--full] [--only NAME ...] [--scenario WORD ...] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.side_by_side import referee
from benchmarks.side_by_side.contestants import Contestant, contestants, deal, environment, install
from benchmarks.side_by_side.meter import Meter
from benchmarks.side_by_side.report import machine, write
from benchmarks.side_by_side.scenarios import (
    FULL,
    QUICK,
    SLOW_COUNT,
    SLOW_PATIENCE,
    Scenario,
    estimate,
)
from benchmarks.side_by_side.tools import prepare
from benchmarks.side_by_side.workers import Workers, at_work
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.local.postgres.cluster import SUPERUSER

ROOT = Path(__file__).parents[2]
_MORE_TIME = 3
"""A contestant whose games could not be dealt in time begins anew, with so many times as much."""


class Ring:
    """One Postgres, one local PubNub, and everybody's turns on them."""

    def __init__(self, home: Path, postgres: EmbeddedPostgres, origin: str) -> None:
        self._home, self._postgres, self._origin = home, postgres, origin
        self._turns = 0

    def turn(self, contestant: Contestant, scenario: Scenario) -> referee.Turn:
        """One turn.

        Raises:
            TooLateError: not even with more time could its games be dealt before the first deadline.
        """
        try:
            return self._turn(contestant, scenario, scenario.settle)
        except referee.TooLateError:
            print(f"# {contestant.title}: its games were not dealt in time; again, with more", flush=True)
            return self._turn(contestant, scenario, scenario.settle * _MORE_TIME)

    def _turn(self, contestant: Contestant, scenario: Scenario, settle: float) -> referee.Turn:
        running = self._postgres.start()
        self._turns += 1
        name = f"turn_{self._turns}"
        url = running.create_database(name)
        superuser_url = running.url(SUPERUSER, running.credentials.superuser, name)
        env = environment(contestant, url, self._origin)
        turn = referee.Turn(contestant.name, contestant.settings, scenario.name, 0)
        try:
            install(contestant, url, superuser_url, env, self._home, scenario.resting)
            with at_work(contestant, env, self._home, url) as workers:
                if scenario.strike == "kill":
                    workers.double()
                workers.supervise()
                meter = Meter(superuser_url, lambda: workers.pids, running.pid)
                try:
                    self._play(turn, contestant, scenario, workers, meter, (url, superuser_url, settle))
                finally:
                    meter.end()
                turn.restarted = workers.restarted
        finally:
            self._postgres.start().drop_database(name)
        turn.cpu = meter.cpu / max(1, turn.due - turn.missed) * 1000
        turn.memory_mb, turn.connections = meter.memory_mb, meter.connections
        return turn

    def _play(
        self,
        turn: referee.Turn,
        contestant: Contestant,
        scenario: Scenario,
        workers: Workers,
        meter: Meter,
        place: tuple[str, str, float],
    ) -> None:
        url, superuser_url, settle = place
        if scenario.chatter:
            time.sleep(settle)
            asyncio.run(
                referee.chatter(
                    turn,
                    contestant,
                    url,
                    self._origin,
                    meter,
                    rate=scenario.chatter,
                    seconds=scenario.spread,
                    patience=scenario.patience,
                    tell=workers.tell if contestant.told else None,
                )
            )
            return
        count = min(scenario.count, SLOW_COUNT) if contestant.slow else scenario.count
        deal(contestant, url, superuser_url, count, first=settle, spread=scenario.spread)
        asyncio.run(
            referee.phases(
                turn,
                contestant,
                url,
                self._origin,
                meter,
                count=count,
                patience=SLOW_PATIENCE if contestant.slow else scenario.patience,
                at_share=0.4 if scenario.strike else None,
                strike=self._striking(scenario, workers, meter),
            )
        )

    def _striking(self, scenario: Scenario, workers: Workers, meter: Meter) -> Callable[[], None] | None:
        def kill() -> None:
            meter.look()
            workers.kill_one()

        def restart() -> None:
            meter.look()
            meter.postmaster = self._postgres.restart().pid

        return {"kill": kill, "restart": restart, None: None}[scenario.strike]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--full", action="store_true", help="all scenarios, peers with defaults too: 45 minutes"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these contestants, by the start of their names"
    )
    parser.add_argument(
        "--scenario", nargs="+", metavar="WORD", help="scenarios whose names contain one of these"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "reports" / "benchmarks", help="folder of the report"
    )
    options = parser.parse_args()
    everybody = contestants(prepare(ROOT / ".sketchy" / "peers"))
    if not options.full:
        everybody = [one for one in everybody if one.tuned and not one.slow]
    if options.only:
        wanted = tuple(name.lower() for name in options.only)
        everybody = [one for one in everybody if one.name.lower().startswith(wanted)]
    scenarios = [
        one
        for one in (FULL if options.full else QUICK)
        if not options.scenario or any(word in one.name for word in options.scenario)
    ]
    if not everybody or not scenarios:
        parser.error("nobody of that name, or no such scenario")
    # Ended from outside, what has been measured is still written, and no process stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    well, worst = estimate(scenarios, everybody)
    print(
        f"# about {well / 60:.0f} minutes; {worst / 60:.0f} if all lose something in each turn",
        flush=True,
    )
    began = time.monotonic()
    turns: list[referee.Turn] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sketchy-bench-") as home:
        folder = Path(home)
        folder.chmod(0o755)
        for path in (ROOT / ".sketchy" / "peers").iterdir():
            (folder / path.name).symlink_to(path)
        heading = machine()
        postgres = EmbeddedPostgres(folder / "home")
        pubnub = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.roomy_pubnub"], stdout=subprocess.PIPE, text=True
        )
        try:
            heading += f", PostgreSQL {postgres.start().version}, fsync on"
            assert pubnub.stdout is not None
            origin = pubnub.stdout.readline().strip().removeprefix("listening on http://")
            ring = Ring(folder, postgres, origin)
            for scenario in scenarios:
                for contestant in everybody:
                    if scenario.met_by(contestant):
                        _take(ring, contestant, scenario, turns, failures)
        finally:
            pubnub.terminate()
            pubnub.wait(10)
            postgres.stop()
            if turns:
                heading += f", {(time.monotonic() - began) / 60:.0f} min"
                stem = f"{datetime.date.today():%Y-%m-%d}-side-by-side"
                path = write(turns, failures, heading, options.out, stem)
                print(f"\n{path.read_text()}\nwritten to {path}")
    return 1 if failures else 0


def _take(
    ring: Ring, contestant: Contestant, scenario: Scenario, turns: list[referee.Turn], failures: list[str]
) -> None:
    """One turn, told of; what keeps one contestant from its turn does not end everybody's."""
    began = time.monotonic()
    try:
        turn = ring.turn(contestant, scenario)
    except Exception as error:
        failures.append(f"{scenario.name}: {contestant.title}: {type(error).__name__}: {error}")
        print(f"# failed: {failures[-1]}", flush=True)
        return
    turns.append(turn)
    lateness = ", ".join(f"{name} {referee.at(turn.lateness_ms, at):.1f}" for name, at in _TOLD)
    heard = ", ".join(f"{name} {referee.at(turn.latency_ms, at):.1f}" for name, at in _TOLD)
    print(
        f"# {scenario.name}: {contestant.title}: late {lateness}; heard {heard} ms; missed {turn.missed},"
        f" lost {turn.lost}, early {turn.early}, doubled {turn.doubled}; {turn.throughput:.0f}/s,"
        f" CPU {turn.cpu:.2f}, {turn.memory_mb:.0f} MB, {turn.connections} connections,"
        f" restarted {turn.restarted} ({time.monotonic() - began:.0f} s)",
        flush=True,
    )


_TOLD = (("p50", 0.5), ("p99", 0.99))


if __name__ == "__main__":
    sys.exit(main())
