"""The rules of a game's phases, one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchy_orchestration.domain.phases import (
    FINISHED,
    ON_SCHEDULE,
    Cause,
    Flags,
    Game,
    Move,
    Phase,
    decide,
    phase_seconds,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
RUNNING = [phase for phase in Phase if phase not in FINISHED]


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@pytest.mark.parametrize(
    ("phase", "to_phase", "cause", "lasts"),
    [
        (Phase.waiting, Phase.cancelled, Cause.lobby_expired, None),
        (Phase.briefing, Phase.drawing, Cause.timer, 90),
        (Phase.drawing, Phase.voting, Cause.timer, 45),
        (Phase.voting, Phase.completed, Cause.timer, None),
        (Phase.results, Phase.completed, Cause.timer, None),
    ],
)
def test_a_phase_ends_at_its_deadline_and_not_a_moment_before(
    phase: Phase, to_phase: Phase, cause: Cause, lasts: int | None
) -> None:
    game = Game(phase, NOW, round_duration=90, voting_duration=45)
    until = None if lasts is None else NOW + seconds(lasts)
    assert decide(game, NOW - MOMENT, Flags()) is None
    assert decide(game, NOW, Flags()) == Move(to_phase, cause, until, False)


@pytest.mark.parametrize("phase", Phase)
def test_without_a_deadline_nothing_ends(phase: Phase) -> None:
    assert decide(Game(phase, None, players=1, missing=1), NOW, Flags()) is None


@pytest.mark.parametrize("phase", sorted(FINISHED))
def test_what_has_ended_stays(phase: Phase) -> None:
    assert decide(Game(phase, NOW - seconds(5)), NOW, Flags()) is None


@pytest.mark.parametrize(
    "off", [Flags(timer_monitoring=False), Flags(triggers=False)], ids=["timer_monitoring", "triggers"]
)
def test_a_switch_stops_everything(off: Flags) -> None:
    assert decide(Game(Phase.briefing, NOW), NOW, off) is None
    assert decide(Game(Phase.drawing, NOW + seconds(9), players=1), NOW, off) is None


def test_a_paused_game_stays() -> None:
    assert decide(Game(Phase.drawing, NOW - seconds(5), players=2, paused=True), NOW, Flags()) is None


def test_a_late_sweep_does_not_lengthen_the_game() -> None:
    game = Game(Phase.briefing, NOW)
    at_most = decide(game, NOW + ON_SCHEDULE, Flags())
    later = decide(game, NOW + ON_SCHEDULE + MOMENT, Flags())
    assert at_most == Move(Phase.drawing, Cause.timer, NOW + seconds(60), False)
    assert later == Move(Phase.drawing, Cause.timer, NOW + ON_SCHEDULE + MOMENT + seconds(60), True)


def test_grace_is_given_once_while_drawings_are_missing() -> None:
    game = Game(Phase.drawing, NOW, players=3, missing=1)
    assert decide(game, NOW, Flags(grace_seconds=15)) == Move(
        Phase.drawing, Cause.timer, NOW + seconds(15), False
    )
    ended = Move(Phase.voting, Cause.timer, NOW + seconds(30), False)
    assert decide(replace(game, had_grace=True), NOW, Flags()) == ended
    assert decide(replace(game, missing=0), NOW, Flags()) == ended
    assert decide(game, NOW, Flags(grace_period=False)) == ended
    assert decide(game, NOW, Flags(grace_seconds=0)) == ended


def test_grace_after_an_outage_counts_from_now() -> None:
    game = Game(Phase.drawing, NOW - seconds(300), players=1, missing=1)
    assert decide(game, NOW, Flags()) == Move(Phase.drawing, Cause.timer, NOW + seconds(10), True)


def test_nobody_there_gets_no_grace_and_ends_nothing_early() -> None:
    game = Game(Phase.drawing, NOW)
    assert decide(game, NOW - seconds(1), Flags()) is None
    assert decide(game, NOW, Flags()) == Move(Phase.voting, Cause.timer, NOW + seconds(30), False)


@pytest.mark.parametrize("deadline", [NOW + seconds(40), NOW + MOMENT, None])
@pytest.mark.parametrize("had_grace", [False, True])
def test_drawing_ends_with_the_last_drawing(deadline: datetime | None, had_grace: bool) -> None:
    game = Game(Phase.drawing, deadline, players=2, had_grace=had_grace)
    ended = Move(Phase.voting, Cause.all_submitted, NOW + seconds(30), False)
    assert decide(game, NOW, Flags()) == ended
    assert decide(replace(game, missing=1), NOW, Flags()) is None


@pytest.mark.parametrize("phase", [phase for phase in RUNNING if phase is not Phase.drawing])
def test_drawings_end_no_other_phase(phase: Phase) -> None:
    assert decide(Game(phase, NOW + seconds(1), players=2), NOW, Flags()) is None


@given(
    phase=st.sampled_from(RUNNING),
    late=st.integers(0, 10**10).map(lambda count: timedelta(microseconds=count)),
    players=st.integers(0, 8),
    missing=st.integers(0, 8),
    round_duration=st.integers(30, 300),
    voting_duration=st.integers(15, 120),
)
def test_whoever_gives_no_grace_reaches_the_end_in_few_steps_each_on_schedule(
    phase: Phase, late: timedelta, players: int, missing: int, round_duration: int, voting_duration: int
) -> None:
    game = Game(
        phase,
        NOW,
        players,
        min(players, missing),
        round_duration=round_duration,
        voting_duration=voting_duration,
    )
    now = NOW + late
    steps = 0
    while game.phase not in FINISHED:
        move = decide(game, now, Flags(grace_period=False))
        assert move is not None
        assert move.rebased is (late > ON_SCHEDULE)
        if move.next_deadline is not None:
            lasts = phase_seconds(move.to_phase, game)
            assert lasts is not None
            assert move.next_deadline - seconds(lasts) in (game.deadline, now)
        game = replace(game, phase=move.to_phase, deadline=move.next_deadline)
        now = now if game.deadline is None else game.deadline + late
        steps += 1
    assert steps <= 3
