"""Walks a rollout while each tick is killed with -9 after its first round trip, its second, and so on.

Usage: python -m tests.integration.rollout.killed URL
A process of its own: it forks, which a test process with threads must not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import timedelta
from typing import Any

import psycopg

from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.delivery.rollout_controller import walk
from sketchy_orchestration.domain.analysis_comparison import mann_whitney
from sketchy_orchestration.domain.rollout_plan import Plan, Step
from sketchy_orchestration.settings import Settings
from tests.integration.rollout.simulation import Simulation

BUSY = 3
"""Exit code of a child that found the lease held, by one just killed."""

PLAN = Plan(steps=(Step(percentage=0, hours=1), Step(percentage=50, hours=1), Step(percentage=100, hours=1)))


def die_after(round_trips: int) -> None:
    """Let this process be killed after so many round trips of its connection: statements, begin, commit."""
    wait = psycopg.Connection.wait
    left = round_trips

    def counted(self: psycopg.Connection[Any], *arguments: Any, **more: Any) -> Any:
        nonlocal left
        found = wait(self, *arguments, **more)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    psycopg.Connection.wait = counted  # type: ignore[assignment]


def tick(simulation: Simulation, round_trips: int) -> bool:
    """One tick in a child that dies after so many round trips; whether it came to its end."""
    while True:
        child = os.fork()
        if child == 0:
            die_after(round_trips)
            code = 1
            try:
                code = BUSY if walk(simulation.settings, simulation.now) is None else 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return False
        if os.WEXITSTATUS(status) != BUSY:
            assert os.WEXITSTATUS(status) == 0, "the tick failed by itself"
            return True


def main(url: str) -> None:
    # Imported here, so that no child spends its time on it.
    mann_whitney([1.0, 2.0], [2.0, 3.0], more_is_better=True)
    settings = Settings(_env_file=None, database_url=url, alert_slack_url="json://127.0.0.1:1")  # type: ignore[call-arg,arg-type]
    kills, agreed = 0, True
    with psycopg.connect(url, autocommit=True) as connection:
        simulation = Simulation(connection, settings)
        rollouts.start(connection, settings, PLAN, by="ann", reason="a test", now=simulation.now)
        while simulation.rollout().active:
            simulation.play.errors = 0.02 if simulation.percentage() == 100 else 0.001
            simulation.pass_time(timedelta(hours=1))
            for round_trips in range(1, 100):
                done = tick(simulation, round_trips)
                # Whenever it died: the flag, the state and the history agree.
                state = simulation.rollout()
                agreed &= state.percentage == simulation.percentage() == simulation.story()[-1][2]
                if done:
                    break
                kills += 1
        told = connection.execute(
            "select count(*) from orchestration.alert_messages where kind = 'rollout'"
        ).fetchone()
        looks = connection.execute(
            "select count(*), count(distinct (version, at, metric)) from orchestration.rollout_verdicts"
        ).fetchone()
        story = simulation.story()
    sys.stdout.write(
        json.dumps({"kills": kills, "agreed": agreed, "story": story, "told": told, "looks": looks})
    )


if __name__ == "__main__":
    main(sys.argv[1])
