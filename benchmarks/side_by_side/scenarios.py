"""What everybody meets, and how long it will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.side_by_side.contestants import Contestant

SETTLE = 4.0
"""Seconds from dealing to the first deadline, or before the first event: starting is not measured."""

SLOW_COUNT = 100
"""Most games that one meets who cannot hold a steady rate at all."""

SLOW_PATIENCE = 60.0

_TURN_SECONDS = 3.0
"""What a turn takes beside its scenario: a database, its tables, its games; workers started and ended."""


@dataclass(frozen=True)
class Scenario:
    """One situation.

    Attributes:
        count, spread: games due, over so many seconds. resting: live games beside them, due in an hour.
        patience: seconds waited after the last deadline. settle: those between dealing and the first.
        chatter: events a second, for `spread` seconds, instead of deadlines.
        strike: kill, or restart, at 40 % of the time.
    """

    name: str
    count: int = 0
    spread: float = 0.0
    resting: int = 0
    patience: float = 6.0
    settle: float = SETTLE
    chatter: int = 0
    strike: str | None = None

    def met_by(self, one: Contestant) -> bool:
        """Whether this contestant can take part."""
        if one.slow:
            return not self.strike and not self.chatter and self.count + self.resting <= 1000
        return not self.chatter or one.kind == "ours" or one.chatter is not None


QUICK = (
    Scenario("1,000 live games, 100 deadlines a second", 500, 5.0, 500),
    Scenario("1,000 due at once", 1000),
    Scenario("100 events a second", 0, 4.0, chatter=100),
    Scenario("a worker killed with -9, 50 deadlines a second", 250, 5.0, 750, patience=8.0, strike="kill"),
)
FULL = (
    Scenario("100 live games, 2.5 deadlines a second", 50, 20.0, 50),
    Scenario("1,000 live games, 25 deadlines a second", 500, 20.0, 500),
    Scenario("10,000 live games, 250 deadlines a second", 5000, 20.0, 5000, settle=8.0),
    Scenario("1,000 due at once", 1000),
    Scenario("100 events a second", 0, 6.0, chatter=100),
    Scenario("1,000 events a second", 0, 6.0, chatter=1000),
    Scenario("a worker killed with -9, 100 deadlines a second", 800, 8.0, 200, patience=12.0, strike="kill"),
    Scenario("Postgres restarted, 100 deadlines a second", 800, 8.0, 200, patience=12.0, strike="restart"),
)


def estimate(scenarios: Sequence[Scenario], everybody: Sequence[Contestant]) -> tuple[float, float]:
    """Seconds it takes when all goes well, and when everybody makes us wait to the end of each turn."""
    well = worst = 0.0
    for scenario in scenarios:
        for one in everybody:
            if scenario.met_by(one):
                turn = _TURN_SECONDS + scenario.settle + scenario.spread
                # The slow take half a minute for what they do at all.
                well += turn + (SLOW_PATIENCE / 2 if one.slow else 0.0)
                # Events that cannot be written at their rate have twice the time.
                worst += turn + (scenario.spread if scenario.chatter else 0.0)
                worst += SLOW_PATIENCE if one.slow else scenario.patience
    return well, worst
