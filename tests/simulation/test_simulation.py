"""Nights with faults keep every promise; a night replays exactly; a broken system is found out."""

from __future__ import annotations

from random import Random

import pytest

from sketchy_orchestration.domain import phases
from sketchy_orchestration.domain.lanes import LANES
from sketchy_orchestration.domain.phases import Phase
from tests.simulation.database import Database, GameRow
from tests.simulation.kernel import UNTIL_NOTIFIED, Kernel, Work
from tests.simulation.night import Variant, _Night, night
from tests.simulation.relay import Defects, Relay
from tests.simulation.service import Service

SEEDS = range(1, 13)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_night_with_faults_keeps_every_promise(seed: int) -> None:
    found = night(seed)
    assert not found.breaches, f"replay: python -m tests.simulation --only {seed}\n" + "\n".join(
        map(str, found.breaches)
    )


def test_a_seed_replays_exactly() -> None:
    first, again = night(5), night(5)
    assert first == again
    assert first != night(6)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_relay_cut_off_from_the_database_alone_falls_silent(deaf: bool) -> None:
    kernel = Kernel()
    database = Database(kernel, Random(1))
    services = [Service(Random(number)) for number in range(2)]
    relays = [Relay(kernel, database, each, Random(7), f"shift {n}") for n, each in enumerate(services)]
    kernel.run(4.0)
    games = [GameRow(f"g{lane}", lane, Phase.voting, None, set()) for lane in range(LANES)]
    for game in games:
        database.commit_events(game, *["vote_cast"] * 200)
    kernel.run(4.1)
    relays[0].line.cut_off(60.0, deaf=deaf)
    kernel.run(4.7)
    before = len(services[0].accepted)
    kernel.run(5.2)
    sent = len(services[0].accepted)
    assert 0 < before < sent
    database.commit_events(games[0], *["vote_cast"] * 10)
    kernel.run(30.0)
    # No attempt later than a second after its last answered ping; the other has taken over meanwhile.
    assert len(services[0].accepted) == sent
    heard = [message.event_id for service in services for message in service.accepted]
    assert set(heard) == set(database.outbox)
    assert len(database.outcomes) == len(database.outbox)
    assert len(heard) - len(set(heard)) <= relays[0].exposed
    assert [one.seq for one in database.numbered if one.game_id == "g0"] == list(range(1, 211))


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


def test_a_night_in_which_too_little_happens_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    play = _Night._play

    def nobody() -> Work:
        yield UNTIL_NOTIFIED

    def some(self: _Night, game_id: str) -> Work:
        return play(self, game_id) if game_id.endswith(("1", "4", "7")) else nobody()

    monkeypatch.setattr(_Night, "_play", some)
    found = night(1)
    assert found.delivered > found.games
    assert {breach.promise for breach in found.breaches} == {"how much"}
