"""How fast an error budget burns: fast enough to wake somebody, or slowly enough for a working day.

The windows and factors are those of Google's Site Reliability Workbook, chapter 5, for a 28-day budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sketchy_orchestration.domain.service_levels import Tally


class Pace(StrEnum):
    """How a budget burns."""

    fast = "fast"
    slow = "slow"


@dataclass(frozen=True, slots=True)
class Watch:
    """Two windows that must both burn faster than `factor`: the long one shows it matters, the short one that
    it still goes on. Minutes."""

    pace: Pace
    long: int
    short: int
    factor: float


WATCHES: tuple[Watch, ...] = (
    Watch(Pace.fast, 60, 5, 13.44),  # 2 % of 28 days' budget in an hour
    Watch(Pace.fast, 360, 30, 5.6),  # 5 % in six hours
    Watch(Pace.slow, 4320, 360, 0.93),  # 10 % in three days
)
WINDOWS: tuple[int, ...] = tuple(sorted({w.long for w in WATCHES} | {w.short for w in WATCHES}))
"""All windows in minutes."""

FEWEST_BAD = 3
"""With fewer bad events in the long window nobody is woken, whatever share of little traffic they are."""


def rate(tally: Tally, share: float) -> float:
    """How many times faster than allowed the budget burns; 0 when nothing happened."""
    if not tally.total or not tally.bad:
        return 0.0
    allowed = 1 - share
    return tally.bad / tally.total / allowed if allowed > 0 else float("inf")


def pace(tallies: Mapping[int, Tally], share: float) -> Pace | None:
    """The pace at which a budget burns, the worst first; None when all is well.

    Args:
        tallies: by window, minutes; a window that is missing counts as nothing.
        share: the objective, 0 to 1.
    """
    nothing = Tally(0, 0)
    for watch in WATCHES:
        long, short = tallies.get(watch.long, nothing), tallies.get(watch.short, nothing)
        if long.bad < FEWEST_BAD:
            continue
        if rate(long, share) >= watch.factor and rate(short, share) >= watch.factor:
            return watch.pace
    return None
