"""Plans: the same seed decides the same, within what the application allows."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.local.players.plan import PLAYERS, Drawing, Habits, Leaving, plan_game


@given(seed=st.integers(), players=st.integers(*PLAYERS))
def test_the_same_seed_plans_the_same_game(seed: int, players: int) -> None:
    first = plan_game(Random(seed), players, Habits(cancels=0.5))
    assert first == plan_game(Random(seed), players, Habits(cancels=0.5))
    assert len(first.players) == players


@given(seed=st.integers(), players=st.integers(*PLAYERS))
def test_the_first_player_and_one_more_always_stay(seed: int, players: int) -> None:
    plan = plan_game(Random(seed), players, Habits(leaves=1.0))
    assert plan.players[0].leaving is Leaving.stays
    assert sum(player.leaving is Leaving.stays for player in plan.players) == PLAYERS[0]


def test_habits_are_followed() -> None:
    everybody_late = plan_game(Random(1), 8, Habits(draws_late=1.0, never_draws=0.0))
    nobody_draws = plan_game(Random(1), 8, Habits(never_draws=1.0))
    assert {player.drawing for player in everybody_late.players} == {Drawing.late}
    assert {player.drawing for player in nobody_draws.players} == {Drawing.never}
    assert plan_game(Random(1), 4, Habits(cancels=1.0)).cancelled_while is not None
