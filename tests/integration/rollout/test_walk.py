"""The whole plan in simulated time: healthy to 100 %, failing back, too little to judge by."""

from __future__ import annotations

from sketchy_orchestration.domain.rollout import State
from tests.integration.rollout.simulation import Simulation


def test_a_healthy_rollout_walks_to_a_hundred(simulation: Simulation) -> None:
    simulation.start()
    simulation.pass_time()
    rollout = simulation.until(State.completed, State.paused, State.rolled_back)
    assert rollout.state is State.completed, rollout.why
