"""What the players of one game will do, decided before it begins; the same seed decides the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

# The application's own bounds, which its CHECKs hold.
ROUND_SECONDS = (30, 300)
VOTING_SECONDS = (15, 120)
PLAYERS = (2, 8)
PHASE_SECONDS = {"briefing": 20, "results": 15}

_PROMPTS = (
    "A cat that has seen too much",
    "Monday, as an animal",
    "The last slice of pizza",
    "A robot learning to swim",
    "My landlord, riding a snail",
    "The world's worst umbrella",
)


class Drawing(StrEnum):
    """When a player hands the drawing in."""

    in_time = "in time"
    late = "late"
    never = "never"


class Leaving(StrEnum):
    """When a player leaves the game."""

    stays = "stays"
    in_lobby = "in the lobby"
    in_drawing = "while drawing"
    in_voting = "while voting"


@dataclass(frozen=True, slots=True)
class Habits:
    """How often players do what; each from 0 to 1."""

    draws_late: float = 0.08
    never_draws: float = 0.08
    never_votes: float = 0.15
    leaves: float = 0.1
    cancels: float = 0.0


@dataclass(frozen=True, slots=True)
class PlayerPlan:
    """One player's intentions.

    Attributes:
        draws_at, votes_at, leaves_at: parts of the phase, 0 to 1, after which it happens.
        taste: decides which drawing gets the vote.
    """

    readies: bool
    drawing: Drawing
    draws_at: float
    votes: bool
    votes_at: float
    taste: float
    leaving: Leaving
    leaves_at: float


@dataclass(frozen=True, slots=True)
class GamePlan:
    """One game: who does what; the first player creates and starts it and never leaves."""

    prompt: str
    players: tuple[PlayerPlan, ...]
    cancelled_while: str | None


def plan_game(random: Random, players: int, habits: Habits) -> GamePlan:
    """Decide one game. Only so many leave that two stay."""
    leaving_allowed = players - PLAYERS[0]
    plans = []
    for place in range(players):
        leaving = Leaving.stays
        if place > 0 and leaving_allowed > 0 and random.random() < habits.leaves:
            leaving = random.choice([Leaving.in_lobby, Leaving.in_drawing, Leaving.in_voting])
            leaving_allowed -= 1
        mood = random.random()
        if mood < habits.never_draws:
            drawing = Drawing.never
        elif mood < habits.never_draws + habits.draws_late:
            drawing = Drawing.late
        else:
            drawing = Drawing.in_time
        plans.append(
            PlayerPlan(
                readies=random.random() < 0.9,
                drawing=drawing,
                draws_at=random.uniform(0.1, 0.75),
                votes=random.random() >= habits.never_votes,
                votes_at=random.uniform(0.1, 0.7),
                taste=random.random(),
                leaving=leaving,
                leaves_at=random.uniform(0.1, 0.7),
            )
        )
    cancelled = random.choice(["waiting", "drawing", "voting"]) if random.random() < habits.cancels else None
    return GamePlan(random.choice(_PROMPTS), tuple(plans), cancelled)
