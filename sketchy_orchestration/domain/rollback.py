"""What a partial rollback switches, by the risk it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Risk(StrEnum):
    """What goes wrong, as the runbooks name it."""

    pubnub = "pubnub"  # PubNub fails: broadcasting off, games go on in the database
    connections = "connections"  # too many connections: fewer at once, and all of them made anew
    overlaps = "overlaps"  # timers overlap: timers off, games are moved on by hand


@dataclass(frozen=True, slots=True)
class Change:
    """A flag and what it becomes; `value` for numbers and percentages."""

    flag: str
    enabled: bool | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class PartialRollback:
    """What to do about one risk.

    Attributes:
        recycle: also let every shift leave, so that its replacement opens connections anew.
        by_hand: what an operator does meanwhile.
        back: how it is taken back.
    """

    risk: Risk
    changes: tuple[Change, ...]
    recycle: bool
    by_hand: str
    back: str


FEWER_AT_ONCE = 4
"""Concurrency is divided by this when connections run out."""


def of_risk(risk: Risk, flags: Mapping[str, float | None]) -> PartialRollback:
    """The changes that answer a risk.

    Args:
        flags: the values that numbers have now.
    """
    if risk is Risk.pubnub:
        return PartialRollback(
            risk,
            (Change("pubnub_broadcasting", enabled=False),),
            recycle=False,
            by_hand="games go on and events wait; clients read their state from get-game-timer",
            back="sketchy flags set pubnub_broadcasting on: what has lost its meaning meanwhile expires",
        )
    if risk is Risk.overlaps:
        return PartialRollback(
            risk,
            (Change("timer_monitoring", enabled=False),),
            recycle=False,
            by_hand="move games on with `sketchy games advance <id>` or `sketchy games advance --all-live`",
            back="sketchy flags set timer_monitoring on: what is overdue moves on at once, rebased",
        )
    lowered = tuple(
        Change(name, value=max(1.0, float(now) // FEWER_AT_ONCE))
        for name in ("fanout_concurrency", "max_games_per_sweep")
        if (now := flags.get(name)) is not None and now > 1
    )
    return PartialRollback(
        risk,
        lowered,
        recycle=True,
        by_hand="watch `sketchy health`: connections should fall within seconds",
        back="sketchy flags set fanout_concurrency and max_games_per_sweep to what the history says",
    )
