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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.side_by_side import referee
from benchmarks.side_by_side.contestants import Contestant, contestants, deal, environment, install, prepare
from benchmarks.side_by_side.report import machine, write
from benchmarks.side_by_side.workers import Workers, at_work
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.local.postgres.cluster import SUPERUSER

ROOT = Path(__file__).parents[2]
SETTLE = 4.0
"""Seconds from dealing to the first deadline, or before the first event: starting is not measured."""


@dataclass(frozen=True)
class Scenario:
    """What everybody meets.

    Attributes:
        count, spread: games due, over so many seconds. patience: seconds waited after the last deadline.
        chatter: events a second instead of deadlines. strike: kill, or restart, at 40 % of the time.
    """

    name: str
    count: int = 0
    spread: float = 0.0
    patience: float = 6.0
    chatter: int = 0
    strike: str | None = None


QUICK = (
    Scenario("100 deadlines a second", 500, 5.0),
    Scenario("1,000 due at once", 1000),
    Scenario("100 events a second", 0, 4.0, chatter=100),
    Scenario("a worker killed with -9, 50 deadlines a second", 250, 5.0, patience=8.0, strike="kill"),
)
FULL = (
    Scenario("100 live games (2.5 deadlines a second)", 50, 20.0),
    Scenario("1,000 live games (25 deadlines a second)", 500, 20.0),
    Scenario("10,000 live games (250 deadlines a second)", 10_000, 40.0),
    Scenario("1,000 due at once", 1000),
    Scenario("100 events a second", 0, 10.0, chatter=100),
    Scenario("1,000 events a second", 0, 10.0, chatter=1000),
    Scenario("a worker killed with -9, 100 deadlines a second", 800, 8.0, patience=15.0, strike="kill"),
    Scenario("Postgres restarted, 100 deadlines a second", 800, 8.0, patience=20.0, strike="restart"),
)
_SLOW_COUNT = 100


class Ring:
    """One Postgres, one local PubNub, and everybody's turns on them."""

    def __init__(self, home: Path, postgres: EmbeddedPostgres, origin: str, resting: int) -> None:
        self._home, self._postgres, self._origin, self._resting = home, postgres, origin, resting
        self._turns = 0

    def turn(self, contestant: Contestant, scenario: Scenario) -> referee.Turn | None:
        """One turn; None when this contestant cannot take part in this scenario."""
        chatters = contestant.kind == "ours" or contestant.chatter is not None
        if scenario.chatter and (not chatters or contestant.slow):
            return None
        if contestant.slow and (scenario.strike or scenario.chatter):
            return None
        running = self._postgres.start()
        self._turns += 1
        name = f"turn_{self._turns}"
        url = running.create_database(name)
        superuser_url = running.url(SUPERUSER, running.credentials.superuser, name)
        env = environment(contestant, url, self._origin)
        turn = referee.Turn(contestant.name, contestant.settings, scenario.name, 0)
        install(contestant, url, superuser_url, env, self._home, self._resting)
        with at_work(contestant, env, self._home, url, running.pid) as workers:
            if scenario.strike == "kill":
                workers.double()
            self._play(turn, contestant, scenario, workers, (url, superuser_url))
        self._postgres.start().drop_database(name)
        return turn

    def _play(
        self,
        turn: referee.Turn,
        contestant: Contestant,
        scenario: Scenario,
        workers: Workers,
        urls: tuple[str, str],
    ) -> None:
        url, superuser_url = urls
        if scenario.chatter:
            before = workers.cost()
            rate, seconds = scenario.chatter, scenario.spread
            time.sleep(SETTLE)
            asyncio.run(
                referee.chatter(turn, contestant, url, self._origin, rate, seconds, scenario.patience)
            )
        else:
            count = min(scenario.count, _SLOW_COUNT) if contestant.slow else scenario.count
            patience = 60.0 if contestant.slow else scenario.patience
            deal(contestant, url, superuser_url, count, first=SETTLE, spread=scenario.spread)
            before = workers.cost()
            asyncio.run(
                referee.phases(
                    turn,
                    contestant,
                    url,
                    self._origin,
                    patience=patience,
                    at_share=0.4 if scenario.strike else None,
                    strike=self._striking(scenario, workers),
                )
            )
        if scenario.strike is None and turn.due:
            after = workers.cost()
            spent = after.workers - before.workers + after.postgres - before.postgres
            turn.cpu = spent / turn.due * 1000
            turn.memory_mb, turn.connections = after.memory_mb, after.connections

    def _striking(self, scenario: Scenario, workers: Workers) -> Callable[[], None] | None:
        if scenario.strike == "kill":
            return workers.kill_one
        if scenario.strike == "restart":
            return lambda: (self._postgres.restart(), None)[1]
        return None


def main() -> None:
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
    parser.add_argument("--out", type=Path, default=ROOT / "reports", help="folder of the report")
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
    turns: list[referee.Turn] = []
    with tempfile.TemporaryDirectory(prefix="sketchy-bench-") as home:
        folder = Path(home)
        folder.chmod(0o755)
        for path in (ROOT / ".sketchy" / "peers").iterdir():
            (folder / path.name).symlink_to(path)
        heading = machine()
        postgres = EmbeddedPostgres(folder / "home")
        pubnub = subprocess.Popen(
            [sys.executable, "-m", "sketchy_orchestration.local.pubnub"], stdout=subprocess.PIPE, text=True
        )
        try:
            heading += f", PostgreSQL {postgres.start().version}, fsync on"
            assert pubnub.stdout is not None
            origin = pubnub.stdout.readline().strip().removeprefix("listening on http://")
            ring = Ring(folder, postgres, origin, 10_000 if options.full else 1_000)
            for scenario in scenarios:
                for contestant in everybody:
                    turn = ring.turn(contestant, scenario)
                    if turn is not None:
                        turns.append(turn)
                        print(
                            f"# {scenario.name}: {contestant.title}: heard p50"
                            f" {referee.at(turn.latency_ms, 0.5):.1f}, p99"
                            f" {referee.at(turn.latency_ms, 0.99):.1f} ms; missed {turn.missed}, lost"
                            f" {turn.lost}, doubled {turn.doubled}",
                            flush=True,
                        )
        finally:
            pubnub.terminate()
            pubnub.wait(10)
            postgres.stop()
    path = write(turns, heading, options.out, f"{datetime.date.today():%Y-%m-%d}-side-by-side")
    print(f"\n{path.read_text()}\nwritten to {path}")


if __name__ == "__main__":
    main()
