"""The figures that are compared, and who may be compared with whom."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.side_by_side.referee import Turn, at

OWN = ("floor", "ours")
"""Not peers."""


@dataclass(frozen=True)
class Figure:
    """One number of a turn; NaN where it has none.

    Attributes:
        unit: as it stands behind the number. more: whether more is better.
        kept: it tells what became of the games, so that it may be compared with one that missed some, too.
    """

    name: str
    of: Callable[[Turn], float]
    digits: int = 1
    unit: str = ""
    more: bool = False
    kept: bool = False


def _percentile(name: str, values: Callable[[Turn], Sequence[float]], share: float) -> Figure:
    return Figure(name, lambda turn: at(values(turn), share), unit=" ms")


_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))

FIGURES = (
    *(_percentile(f"lateness {name}", lambda turn: turn.lateness_ms, share) for name, share in _SHARES),
    *(_percentile(f"heard {name}", lambda turn: turn.latency_ms, share) for name, share in _SHARES),
    Figure("events/s", lambda turn: turn.throughput, more=True),
    Figure("CPU", lambda turn: turn.cpu, digits=2, unit=" s per 1,000"),
    Figure("memory", lambda turn: turn.memory_mb, digits=0, unit=" MB"),
    Figure("connections", lambda turn: turn.connections, digits=0),
)
"""Those that have ratios."""

COUNTS = (
    Figure("missed", lambda turn: turn.missed, digits=0, kept=True),
    Figure("lost", lambda turn: turn.lost, digits=0, kept=True),
    Figure("early", lambda turn: turn.early, digits=0, kept=True),
    Figure("doubled", lambda turn: turn.doubled, digits=0, kept=True),
)
"""Those that should be 0."""


def ratio(figure: Figure, turn: Turn, other: Turn | None) -> float:
    """How many times the other's; NaN where either missed or lost something."""
    if other is None or any(one.missed or one.lost for one in (turn, other)):
        return math.nan
    return figure.of(turn) / figure.of(other) if figure.of(other) else math.nan


def comparable(peer: Turn, ours: Turn) -> bool:
    """Whether it met as many games, and missed and lost no more: of a half the rest may well be quick."""
    return peer.due == ours.due and peer.missed <= ours.missed and peer.lost <= ours.lost


def best_peer(figure: Figure, turns: Sequence[Turn], ours: Turn) -> Turn | None:
    """Who is best in this figure among the peers that may be compared with us."""
    peers = [
        turn
        for turn in turns
        if turn.contestant not in OWN and comparable(turn, ours) and not math.isnan(figure.of(turn))
    ]
    return min(peers, key=lambda turn: figure.of(turn) * (-1 if figure.more else 1), default=None)


def better(peer: Turn, ours: Turn) -> list[Figure]:
    """The figures in which this peer beats us."""
    return [
        figure
        for figure in (*COUNTS, *FIGURES)
        if (figure.kept or comparable(peer, ours))
        and (figure.of(peer) > figure.of(ours) if figure.more else figure.of(peer) < figure.of(ours))
    ]
