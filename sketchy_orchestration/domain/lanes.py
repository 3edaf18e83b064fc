"""Who holds which lanes: even shares among the relays, and nobody takes back what it has just given up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

LANES = 32

SHUN_SECONDS = 3.0
"""How long a lane given up for balance is left to the others; longer than they need to look for it."""

KEPT_SECONDS = 4.0
"""How long after taking lanes none is given up for balance: one that died still counts as fit for a while."""


def lane_of(game_id: UUID) -> int:
    """The lane of a game: the last five bits of its id (see orchestration.lane_of)."""
    return game_id.int % LANES


def fair_share(relays: int, lanes: int = LANES) -> int:
    """The most lanes a relay keeps while `relays` (itself included) are fit for work."""
    return -(-lanes // max(1, relays))


def surplus(held: Collection[int], relays: int, lanes: int = LANES) -> list[int]:
    """Which of the lanes held to give up, so that others can have their share: the highest."""
    keep = fair_share(relays, lanes)
    return sorted(held)[keep:]


def wanted(held: Collection[int], given_up: Mapping[int, float], now: float, lanes: int = LANES) -> list[int]:
    """Which lanes to try to take: all not held, except those given up (at the given monotonic time) just now.

    More than the fair share is fine: a lane that nobody holds must not wait, and is given up again when
    another relay wants it.
    """
    left = left_to_others(held, given_up, now, lanes)
    return [lane for lane in range(lanes) if lane not in held and lane not in left]


def left_to_others(
    held: Collection[int], given_up: Mapping[int, float], now: float, lanes: int = LANES
) -> list[int]:
    """Which lanes given up just now to leave alone, until another has taken them and is gone."""
    return [
        lane
        for lane in range(lanes)
        if lane not in held and now - given_up.get(lane, float("-inf")) <= SHUN_SECONDS
    ]
