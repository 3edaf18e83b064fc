"""How late phases end: our timer shifts beside a bare loop, taking turns on one Postgres, seen from outside.

An observer on a connection of its own asks about every millisecond which ends it can see, on the database's
clock; no number of the sweeper's own is used. Two shifts run as processes, as in production.

Run: python -m benchmarks.timers [--full] [--keep FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from benchmarks import crowd
from benchmarks.timer_turns import FLOOR_SCHEMA, RESTING, Measured, Place, shifts, turn
from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import EmbeddedPostgres, RunningPostgres
from sketchy_orchestration.local.postgres.cluster import SUPERUSER

LIVE = 10_000
RATE = 250
SLOW_RATE = 100


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        seconds: of each steady turn. turns: of each side. bursts: of many at one instant.
        games, live: the large crowd.
    """

    seconds: float
    turns: int
    bursts: int
    kills: int
    games: int
    live: int


QUICK = Size(seconds=8, turns=1, bursts=2, kills=1, games=100_000, live=20_000)
FULL = Size(seconds=60, turns=1, bursts=6, kills=5, games=crowd.GAMES, live=crowd.LIVE)


@contextmanager
def place(postgres: RunningPostgres, name: str, games: int, live: int) -> Iterator[Place]:
    """A database of its own with so many games, and the same for the floor."""
    url = postgres.create_database(name)
    application.install(url)
    migrate_up(url, told=lambda _: None)
    superuser_url = postgres.url(SUPERUSER, postgres.credentials.superuser, name)
    crowd.gather(superuser_url, games, live)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FLOOR_SCHEMA)
        connection.execute(RESTING, [live])
        connection.execute("analyze")
    yield Place(url, superuser_url)
    postgres.drop_database(name)


def steady(postgres: RunningPostgres, size: Size) -> Iterator[Measured]:
    """The first figures: many deadlines a second, many at one instant, a shift killed."""
    with place(postgres, "steady", LIVE, LIVE) as where, shifts(where) as at_work:
        name = f"{RATE}/s over {size.seconds:.0f} s, {LIVE:,} live and more"
        for _ in range(size.turns):
            for side in ("floor", "ours"):
                yield turn(where, side, name, int(RATE * size.seconds), size.seconds)
        for _ in range(size.bursts):
            for side in ("floor", "ours"):
                yield turn(where, side, "1,000 at once", 1000, 0.0)
        for _ in range(size.kills):
            name = f"{SLOW_RATE}/s, one of two shifts killed with -9"
            yield turn(where, "floor", name, SLOW_RATE * 5, 5)
            yield turn(where, "ours", name, SLOW_RATE * 5, 5, killing=at_work)


def crowds(postgres: RunningPostgres, size: Size) -> Iterator[Measured]:
    """The same rate among few and among many games."""
    count, seconds = int(SLOW_RATE * size.seconds), size.seconds
    for name, games, live in (("few", 1000, 1000), ("many", size.games, size.live)):
        with place(postgres, name, games, live) as where, shifts(where):
            label = f"{SLOW_RATE}/s among {games:,} games, {live:,} live"
            for _ in range(size.turns):
                for side in ("floor", "ours"):
                    yield turn(where, side, label, count, seconds)


def together(results: list[Measured], scenario: str, side: str) -> Measured:
    """All turns of one side in one."""
    whole = Measured(side, scenario, 0, 0, 0, 0)
    for one in results:
        if (one.scenario, one.side) == (scenario, side):
            whole.due += one.due
            whole.seen += one.seen
            whole.early += one.early
            whole.twice += one.twice
            whole.latenesses_ms += one.latenesses_ms
    return whole


def report(results: list[Measured]) -> str:
    """A Markdown table, a row per scenario and side, with the ratio to the floor."""
    lines = [
        "| scenario | side | seen / due | early | twice | p50 ms | p99 ms | max ms | p50, p99, max / floor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for scenario in dict.fromkeys(one.scenario for one in results):
        floor = together(results, scenario, "floor")
        for side in ("floor", "ours"):
            whole = together(results, scenario, side)
            values = [whole.at(0.5), whole.at(0.99), whole.at(1.0)]
            ratios = [value / floor.at(share) for value, share in zip(values, (0.5, 0.99, 1.0), strict=True)]
            lines.append(
                f"| {scenario} | {side} | {whole.seen} / {whole.due} | {whole.early} | {whole.twice} | "
                + " | ".join(f"{value:.1f}" for value in values)
                + f" | {', '.join(f'{ratio:.1f}' for ratio in ratios)} |"
            )
    return "\n".join(lines)


def machine() -> str:
    """What the numbers were measured on, with how busy it was."""
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}, load {os.getloadavg()[1]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--full", action="store_true", help="the figures as stated; else one short turn each")
    kept_in = Path(__file__).parents[1] / "reports" / "timers.json"
    parser.add_argument("--keep", type=Path, default=kept_in, help="where every lateness is written, as JSON")
    options = parser.parse_args()
    size = FULL if options.full else QUICK
    results: list[Measured] = []
    with (
        tempfile.TemporaryDirectory(prefix="sketchy-bench-") as home,
        EmbeddedPostgres(Path(home)) as postgres,
    ):
        before = machine()
        for measure in (steady, crowds):
            for one in measure(postgres, size):
                results.append(one)
                print(f"# {one.scenario}, {one.side}: {one.at(0.5):.1f} / {one.at(0.99):.1f} ms", flush=True)
    print(f"\n{before}, PostgreSQL {postgres.version}, fsync on\n")
    print(report(results))
    kept = {"machine": before, "postgres": postgres.version, "turns": [asdict(one) for one in results]}
    options.keep.parent.mkdir(exist_ok=True)
    options.keep.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
