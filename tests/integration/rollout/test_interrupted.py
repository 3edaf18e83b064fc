"""Rollouts interrupted: a controller killed anywhere, two at once, operators at once, no database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from sketchy_orchestration.crash_points import VARIABLE
from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.database.rollout import ChangedMeanwhileError, RolloutError
from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.delivery.rollout_controller import try_walk, walk, walk_one
from sketchy_orchestration.domain.rollout import Action, State
from sketchy_orchestration.domain.rollout_commands import Wish
from sketchy_orchestration.domain.rollout_plan import Plan, Step
from sketchy_orchestration.local import application, processes
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.local.postgres.folders import delete
from sketchy_orchestration.settings import Settings
from tests.e2e.stack_runner import ROOT, clean_environment
from tests.integration.rollout.simulation import Simulation


def test_killed_between_every_two_statements_it_comes_to_the_same_end(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.rollout.killed", database_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    sys.stdout.write(f"{found['kills']} kills\n")
    assert found["kills"] > 30
    assert found["agreed"]
    assert found["story"] == [
        ["start", "running", 0],
        ["advance", "running", 50],
        ["advance", "running", 100],
        ["roll_back", "rolled_back", 0],
    ]
    # Each change was told once, each look recorded once.
    assert found["told"] == [4]
    assert found["looks"][0] == found["looks"][1]


@pytest.mark.parametrize(("point", "written"), [("before_commit", False), ("committed", True)])
def test_killed_around_the_commit(
    simulation: Simulation, database_url: str, tmp_path: Path, point: str, written: bool
) -> None:
    """In the process an operator would run, by the crash points it has."""
    plan = Plan(
        metrics=(), comparisons=(), steps=(Step(percentage=10, hours=0.0001), Step(percentage=20, hours=1))
    )
    metric = Plan().metrics[7]
    simulation.now = connection_now(simulation.connection)
    simulation.start(plan.model_copy(update={"metrics": (metric,)}))
    environment = clean_environment(
        tmp_path / "unused", DATABASE_URL=database_url, **{VARIABLE: f"rollout.{point}"}
    )
    controller = subprocess.run(
        [sys.executable, "-m", "sketchy_orchestration.cli.main", "rollout", "control", "--every", "0.05"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert controller.returncode == -signal.SIGKILL, controller.stderr
    rollout = simulation.rollout()
    if not written:
        assert (rollout.looks, rollout.percentage, simulation.percentage()) == (0, 10, 10)
    else:
        assert rollout.looks == 1
    assert processes.wait_until(lambda: try_walk(simulation.settings) and moved(simulation), seconds=10)
    assert [each[0] for each in simulation.story()] == ["start", "advance"]


def connection_now(connection: psycopg.Connection) -> datetime:
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None
    return datetime.fromisoformat(str(row[0]))


def moved(simulation: Simulation) -> bool:
    return simulation.percentage() == 20


def test_two_controllers_and_two_operators_at_once(simulation: Simulation) -> None:
    settings, connection = simulation.settings, simulation.connection
    simulation.start()
    # The lease: a second controller sees that somebody is at it.
    with connect(settings, Role.operator) as other, table.controlling_alone(other) as alone:
        assert alone
        assert walk(settings, simulation.now) is None
    # Should the lease fail, the version refuses the second of two that have read the same.
    simulation.pass_time()
    simulation.pass_time()
    stale = simulation.rollout()
    with connect(settings, Role.operator) as one, connect(settings, Role.operator) as two:
        first = walk_one(one, settings, stale, simulation.now)
        second = walk_one(two, settings, stale, simulation.now)
    assert first.change is not None
    assert second.change is None
    assert [each[0] for each in simulation.story()] == ["start", "advance"]

    # Of operators who ask at the same moment one is done, and the others are told so.
    def ask(action: Action) -> str:
        with connect(settings, Role.operator) as own:
            try:
                return rollouts.tell(
                    own, settings, "enrolment", Wish(action), by=str(action), reason="at once", step=1
                ).said
            except RolloutError as error:
                return f"refused: {error}"

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, [Action.skip, Action.skip, Action.skip, Action.skip, Action.skip]))
    assert len([answer for answer in answers if not answer.startswith("refused")]) == 1, answers
    assert simulation.percentage() == 50
    # A start beside it is refused by the database itself.
    connection.execute("select orchestration.set_flag('enrolment', 'bob', 'x', null, 0)")
    with pytest.raises(RolloutError, match="a rollout of enrolment is active already"):
        rollouts.start(connection, settings, Plan(), by="bob", reason="x")
    with pytest.raises(ChangedMeanwhileError, match="is at step 2"):
        rollouts.tell(connection, settings, "enrolment", Wish(Action.promote), by="bob", reason="x", step=1)


def test_nobody_who_sets_flags_deadlocks_with_a_rollout(simulation: Simulation, database_url: str) -> None:
    """Operators setting the very flag, the controller, and halts, all at once, again and again."""
    settings, connection = simulation.settings, simulation.connection
    simulation.start()

    def set_the_flag(number: int) -> None:
        with psycopg.connect(database_url, autocommit=True) as own:
            own.execute("select orchestration.set_flag('enrolment', 'bob', 'x', null, %s)", [number % 5])

    def go_on(_: int) -> None:
        with connect(settings, Role.operator) as own, suppress(RolloutError):
            rollouts.tell(own, settings, "enrolment", Wish(Action.retry), by="ann", reason="x")

    def halt(_: int) -> None:
        with connect(settings, Role.operator) as own:
            rollouts.halt(own, settings, by="ann", reason="x")

    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(each, n) for n in range(10) for each in (set_the_flag, go_on, halt)]
        work += [pool.submit(walk, settings) for _ in range(10)]
        for each in work:
            each.result()
    rollouts.halt(connection, settings, by="ann", reason="the end")
    assert simulation.rollout().state is State.aborted
    assert simulation.percentage() in (0, *range(5))


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that may be stopped, with the application and our migrations in its database."""
    home = tmp_path / "home"
    server = EmbeddedPostgres(home)
    try:
        url = server.start().owner_url()
        application.install(url)
        migrate_up(url)
        yield server
    finally:
        server.stop()
        delete(home)


def test_a_rollout_during_an_outage_goes_on_where_it_was(own_postgres: EmbeddedPostgres) -> None:
    url = own_postgres.start().owner_url()
    settings = Settings(_env_file=None, database_url=url)  # type: ignore[call-arg,arg-type]
    with psycopg.connect(url, autocommit=True) as before:
        simulation = Simulation(before, settings)
        simulation.start(Plan(steps=(Step(percentage=50, hours=2), Step(percentage=100, hours=1))))
        simulation.tick()
        was = simulation.rollout()
    own_postgres.stop()
    walked, said = try_walk(settings)
    assert walked == []
    assert said.startswith("the database is away")
    own_postgres.start()
    with psycopg.connect(url, autocommit=True) as after:
        simulation.connection = after
        assert simulation.rollout() == was
        assert simulation.until(State.completed, State.paused, State.rolled_back).state is State.completed
        assert [each[0] for each in simulation.story()] == ["start", "advance", "complete"]


def test_a_controller_frozen_in_the_middle_changes_nothing_when_it_wakes(
    simulation: Simulation, database_url: str, tmp_path: Path
) -> None:
    """It holds lease and transaction; its session ends, others go on, and what it had decided is refused."""
    plan = Plan(
        metrics=(Plan().metrics[7],),
        comparisons=(),
        steps=(Step(percentage=10, hours=0.0001), Step(percentage=20, hours=1)),
    )
    simulation.now = connection_now(simulation.connection)
    simulation.start(plan)
    environment = clean_environment(
        tmp_path / "unused", DATABASE_URL=database_url, **{VARIABLE: "rollout.before_commit:1:STOP"}
    )
    frozen = subprocess.Popen(
        [sys.executable, "-m", "sketchy_orchestration.cli.main", "rollout", "control", "--every", "60"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        waiting = (
            "select count(*) from pg_stat_activity where state = 'idle in transaction'"
            " and application_name = 'sketchy rollout controller' and datname = current_database()"
        )
        assert processes.wait_until(
            lambda: simulation.connection.execute(waiting).fetchone() == (1,), seconds=30
        )
        # Its transaction is ended for its silence, within half a second.
        told = rollouts.halt(simulation.connection, simulation.settings, by="ann", reason="stop")
        assert told == 1
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
        frozen.kill()
        frozen.wait()
    assert simulation.rollout().state is State.aborted
    assert simulation.percentage() == 0
