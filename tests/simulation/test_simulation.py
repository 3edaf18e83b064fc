"""Nights with faults keep every promise; a night replays exactly; a broken system is found out."""

from __future__ import annotations

import pytest

from sketchy_orchestration.domain import phases
from tests.simulation.database import GameRow
from tests.simulation.night import Variant, night
from tests.simulation.relay import Defects

SEEDS = range(1, 13)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_night_with_faults_keeps_every_promise(seed: int) -> None:
    found = night(seed)
    assert not found.breaches, f"replay: python -m tests.simulation --only {seed}\n" + "\n".join(
        map(str, found.breaches)
    )
    assert found.transitions >= found.games
    assert found.delivered >= found.games * 5


def test_a_seed_replays_exactly() -> None:
    first, again = night(5), night(5)
    assert first == again
    assert first != night(6)


def from_now(game: GameRow, move: phases.Move, now: float) -> float:
    return now + float(phases.phase_seconds(move.to_phase, game.judged()) or 0)


@pytest.mark.parametrize(
    ("variant", "promise"),
    [
        pytest.param(Variant(rechecks=False), "never twice", id="skips the recheck"),
        pytest.param(Variant(deadline_base=from_now), "next deadline", id="counts from now"),
        pytest.param(Variant(Defects(forgets_lease=True)), "repeats", id="forgets the lease"),
        pytest.param(Variant(Defects(acknowledges_first=True)), "never lost", id="acknowledges first"),
        pytest.param(Variant(Defects(counts_in_outage=True)), "no dead letter", id="counts in an outage"),
        pytest.param(Variant(Defects(sends_out_of_order=True)), "in order", id="sends out of order"),
    ],
)
def test_a_broken_system_is_found_out(variant: Variant, promise: str) -> None:
    nights = (night(seed, variant=variant) for seed in SEEDS)
    assert any(promise in {breach.promise for breach in one.breaches} for one in nights)
