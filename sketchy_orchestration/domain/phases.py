"""When a game leaves its phase and where it goes: the rules that the sweep keeps, without a database.

The sweep itself decides in SQL, for hundreds of games at once (`orchestration.decide_moves`); one suite of
cases goes through both and compares (`tests/integration/sweep/test_conformance.py`).

- A phase ends when its deadline has passed, never earlier; without a deadline nothing ends by the timer.
- Drawing ends early once every active player (one who has not left) has a drawing. Without active players
  it does not end early, and there is nobody to give grace to: at the deadline it goes to voting.
- At its deadline, while drawings of active players are missing, drawing is extended once by the grace
  period; after that it goes to voting even without a single drawing.
- A player who leaves or is deleted is waited for no longer; the drawing of one who left stays in the game.
  Drawing again replaces a drawing and counts once. A deleted game ends in silence.
- The next deadline is counted from the old one, so that a late sweep does not lengthen the game. More than
  `ON_SCHEDULE` late, or ended early, it is counted from now.
- A lobby past its expiry is cancelled. Completed and cancelled games stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

BRIEFING_SECONDS = 20
RESULTS_SECONDS = 15

ON_SCHEDULE = timedelta(seconds=1)
"""A deadline met this late or less carries the schedule on; later than that the phase after it is rebased."""


class Phase(StrEnum):
    """The application's `game_status`."""

    waiting = "waiting"
    briefing = "briefing"
    drawing = "drawing"
    voting = "voting"
    results = "results"
    completed = "completed"
    cancelled = "cancelled"


class Cause(StrEnum):
    """Why a sweep moved a game."""

    timer = "timer"
    all_submitted = "all_submitted"
    lobby_expired = "lobby_expired"


FINISHED = frozenset({Phase.completed, Phase.cancelled})

_NEXT = {
    Phase.waiting: Phase.cancelled,
    Phase.briefing: Phase.drawing,
    Phase.drawing: Phase.voting,
    Phase.voting: Phase.completed,
    Phase.results: Phase.completed,
}


@dataclass(frozen=True, slots=True)
class Game:
    """What the decision depends on.

    Attributes:
        deadline: when the phase ends (of a lobby: when it expires); None when it has no end.
        players: active players. missing: those of them without a drawing.
        had_grace: drawing has been extended already.
        round_duration, voting_duration: the game's own, seconds.
        paused: stopped by an operator.
    """

    phase: Phase
    deadline: datetime | None
    players: int = 0
    missing: int = 0
    had_grace: bool = False
    round_duration: int = 60
    voting_duration: int = 30
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags as they are at this moment; `grace_seconds` counts only while `grace_period` is on."""

    timer_monitoring: bool = True
    triggers: bool = True
    grace_period: bool = True
    grace_seconds: int = 10


@dataclass(frozen=True, slots=True)
class Move:
    """A game leaves its phase or, with `to_phase` the same, has its grace period.

    Attributes:
        next_deadline: None when the game has ended.
        rebased: the deadline was met so late that the schedule begins anew.
    """

    to_phase: Phase
    cause: Cause
    next_deadline: datetime | None
    rebased: bool


def phase_seconds(phase: Phase, game: Game) -> int | None:
    """How long a phase of this game lasts; None for one that has no length of its own."""
    return {
        Phase.briefing: BRIEFING_SECONDS,
        Phase.drawing: game.round_duration,
        Phase.voting: game.voting_duration,
        Phase.results: RESULTS_SECONDS,
    }.get(phase)


def decide(game: Game, now: datetime, flags: Flags) -> Move | None:
    """What a sweep at `now` does with the game; None when it stays."""
    if not flags.timer_monitoring or not flags.triggers or game.paused or game.phase in FINISHED:
        return None
    if game.deadline is not None and game.deadline <= now:
        return _at_the_deadline(game, game.deadline, now, flags)
    if game.phase is Phase.drawing and game.players > 0 and game.missing == 0:
        return Move(Phase.voting, Cause.all_submitted, now + timedelta(seconds=game.voting_duration), False)
    return None


def _at_the_deadline(game: Game, deadline: datetime, now: datetime, flags: Flags) -> Move:
    rebased = now - deadline > ON_SCHEDULE
    base = now if rebased else deadline
    grace = flags.grace_seconds if flags.grace_period else 0
    if game.phase is Phase.drawing and game.missing > 0 and not game.had_grace and grace > 0:
        return Move(Phase.drawing, Cause.timer, base + timedelta(seconds=grace), rebased)
    to_phase = _NEXT[game.phase]
    seconds = phase_seconds(to_phase, game)
    return Move(
        to_phase,
        Cause.lobby_expired if to_phase is Phase.cancelled else Cause.timer,
        None if seconds is None else base + timedelta(seconds=seconds),
        rebased,
    )
