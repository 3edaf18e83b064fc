"""A shift dies at each named point, at moments drawn from a seed; so does a migration. Nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sketchy_orchestration import crash_points
from sketchy_orchestration.database.migrate import migrate_up, verify
from sketchy_orchestration.local import application, processes
from tests.faults.extent import ROUNDS as SEEDS
from tests.faults.extent import WHOLE
from tests.faults.figures import Figures
from tests.faults.scene import CONCURRENCY, Scene, a_scene
from tests.faults.workers import ROOT, Kind, holders

pytestmark = [pytest.mark.fault]


# Up to how many times a point may be passed before it strikes, so that it strikes under load, yet soon.
POINTS: dict[crash_points.Point, int] = {
    "sweep.begin": 80,
    "sweep.committed": 12,
    "sequencing.read": 12,
    "sequencing.numbered": 12,
    "relay.publish": 40,
    "relay.published": 40,
    "relay.acknowledge": 20,
    "relay.acknowledged": 20,
    "lease.locked": 1,
    "lease.taken": 1,
    "lease.leaving": 1,
}
SELECTED: tuple[crash_points.Point, ...] = (
    "sweep.begin",
    "sequencing.numbered",
    "relay.published",
    "relay.acknowledge",
    "lease.taken",
    "lease.leaving",
)
# What follows these takes a while: half of the seeds strike in the middle of it.
LASTING = ("sweep.begin", "sequencing.read", "relay.publish", "relay.acknowledge")


def test_every_point_is_tried() -> None:
    elsewhere = {each for each in crash_points.POINTS if each.startswith(("migration.", "rollout."))}
    assert {*POINTS, *elsewhere} == set(crash_points.POINTS)


@pytest.fixture(scope="module")
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One shift of each kind that is well; the other dies."""
    url, figures = request.getfixturevalue("shared_url"), request.getfixturevalue("figures")
    with a_scene(url, tmp_path_factory.mktemp("points"), figures, timers=1, relays=1) as made:
        yield made


def armed(point: crash_points.Point, seed: int) -> str:
    """When and how to die there."""
    chance = random.Random(f"{point}:{seed}")
    times = chance.randint(1, POINTS[point])
    delay = chance.uniform(0.3, 6.0) if point in LASTING and chance.random() < 0.5 else 0.0
    return f"{point}:{times}:KILL:{delay:.2f}"


def die_at(scene: Scene, point: crash_points.Point, seed: int) -> None:
    workers, connection = scene.workers, scene.connection
    kind: Kind = "timer" if point.startswith("sweep.") else "fanout"
    victim = workers.start(kind, **{crash_points.VARIABLE: armed(point, seed)})
    guest = None
    if kind == "timer":
        # The longest at work sweeps first: that must be the victim.
        older = workers.running[kind][0]
        workers.wait_for(connection, workers.start(kind))
        workers.kill(older, signal.SIGTERM)
    if point == "lease.leaving":
        workers.wait_for(connection)
        guest = workers.start(kind)
    assert workers.died(victim), f"{armed(point, seed)} was never reached: {workers.said()}"
    if kind == "fanout":
        scene.allow(repeats=CONCURRENCY)
        alive = {process.pid for process in workers.running[kind]}
        held = lambda: sum(count for pid, count in holders(connection).items() if pid in alive)  # noqa: E731
        assert processes.wait_until(lambda: held() == 32, seconds=15), workers.said()
    if guest is not None:
        scene.allow(repeats=CONCURRENCY)
        workers.kill(guest)
    scene.wait_for_more(10)


@pytest.mark.timeout(200 + 15 * SEEDS)
@pytest.mark.parametrize(
    "points",
    [(point,) for point in POINTS] if WHOLE else [pytest.param(SELECTED, marks=pytest.mark.long)],
    ids=list(POINTS) if WHOLE else ["selected"],
)
def test_shift_dies(scene: Scene, points: tuple[crash_points.Point, ...]) -> None:
    name = f"crash point {points[0]}" if len(points) == 1 else "crash points, a selection"
    with scene.watching() as watching, scene.load():
        for seed in range(SEEDS):
            for point in points:
                die_at(scene, point, seed)
    scene.figures.note(name, "deaths", SEEDS * len(points))
    if all(point.startswith("sweep.") for point in points):
        scene.figures.note(name, "worst lateness", watching.worst_ms(), 100, unit=" ms")
    scene.judge(name)


@pytest.mark.timeout(60 + 10 * SEEDS)
@pytest.mark.parametrize(
    "point",
    ["migration.committed", *(["migration.before_commit", "migration.kept"] if WHOLE else [])],
)
def test_migration_dies(
    empty_database: str, tmp_path: Path, figures: Figures, point: crash_points.Point
) -> None:
    application.install(empty_database)
    count = len(list((ROOT / "sql" / "migrations").glob("*.up.sql")))
    deaths, seeds = 0, max(1, SEEDS // 4)
    for seed in range(seeds):
        times = random.Random(f"{point}:{seed}").randint(1, count // seeds)
        log = tmp_path / f"{seed}.log"
        process = processes.start(
            [sys.executable, "-m", "sketchy_orchestration.cli.main", "migrate", "up"],
            env={
                **os.environ,
                "DATABASE_URL": empty_database,
                crash_points.VARIABLE: f"{point}:{times}",
            },
            log=log,
            cwd=ROOT,
        )
        deaths += process.wait(60) == -9
        with psycopg.connect(empty_database, autocommit=True) as connection:
            # The application goes on between a death and the next try.
            connection.execute("insert into public.games (prompt) values ('a cat')")
    figures.note(f"crash point {point}", "deaths", deaths)
    assert deaths == seeds
    migrate_up(empty_database, told=lambda _: None)
    assert verify(empty_database) == []
