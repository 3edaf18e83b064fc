"""When a sweeper wakes next: pure decisions, all times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

LOOK_AHEAD = 1.0
"""Longest sleep: deadlines lie 15 s and more away, so one look a second finds all that nobody notified."""

LAG_PER_RANK = 0.020
"""A sweeper behind others takes what is overdue by this much per shift before it: what a crash costs."""

FIRST_RETRY = 0.005
LONGEST_RETRY = 0.020
"""A game whose row is locked is tried again after 5, 10, 20, 20 … ms."""

WINDOW = 5.0
"""How far back an ordinary sweep looks; a look at everything finds what lies further back."""

WHOLE_LOOK_SHARE = 0.05
"""Looks at everything may take this share of the time, and come at most once a LOOK_AHEAD."""

SHORTEST_SLEEP = 0.0005
"""A deadline a moment away is slept towards, not spun towards."""

SHORTEST_SLEEP_BEHIND = 0.010
"""A sweeper behind others mostly finds that they were there: it looks at most a hundred times a second."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one sweep found, as far as the next wake depends on it.

    Attributes:
        due: games that were due; `full` says that the batch was full, so that more may be waiting.
        locked: due games whose rows somebody held.
        next_in: seconds until the next deadline; None when there is none.
    """

    full: bool
    locked: int
    switched_off: bool
    next_in: float | None


def lag(rank: int) -> float:
    """Seconds a sweeper with `rank` live sweepers before it leaves to them."""
    return rank * LAG_PER_RANK


def retry_after(locked_passes: int) -> float:
    """Seconds until a locked game is tried again after so many passes that found one locked."""
    return float(min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(locked_passes - 1, 8)))


def sleep_after(swept: Pass, *, rank: int, locked_passes: int) -> float:
    """Seconds to sleep after a pass, unless a notification comes first."""
    if swept.switched_off:
        return LOOK_AHEAD
    if swept.full:
        return 0.0
    until = LOOK_AHEAD
    if swept.next_in is not None:
        shortest = SHORTEST_SLEEP_BEHIND if rank else SHORTEST_SLEEP
        until = min(until, max(shortest, swept.next_in + lag(rank)))
    if swept.locked:
        until = min(until, retry_after(locked_passes))
    return until


def whole_look_pause(last_took: float) -> float:
    """Seconds from one look at everything to the next, when the last one took `last_took`."""
    return max(LOOK_AHEAD, last_took / WHOLE_LOOK_SHARE)
