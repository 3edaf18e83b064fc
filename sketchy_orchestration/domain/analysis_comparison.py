"""Mann-Whitney's test of our games against the control group's. The only place that knows scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median


@dataclass(frozen=True, slots=True)
class Compared:
    """How ours stand beside the control group's.

    Attributes:
        worse: Cliff's delta towards the bad: 1 each of ours is worse than each of theirs, -1 better.
        confidence: that ours are worse at all, one-sided: 1 - p.
    """

    ours: int
    theirs: int
    our_median: float
    their_median: float
    worse: float
    confidence: float

    def fails(self, confidence: float, effect: float) -> bool:
        """Whether ours are worse, surely enough and by enough to matter."""
        return self.confidence >= confidence and self.worse >= effect

    def said(self) -> str:
        return (
            f"{self.ours} of ours (median {self.our_median:g}) beside {self.theirs} of the control group"
            f" (median {self.their_median:g}): worse by {self.worse:+.3f},"
            f" confidence {self.confidence:.3f}"
        )


def mann_whitney(ours: Sequence[float], theirs: Sequence[float], *, more_is_better: bool) -> Compared:
    """Compare two samples; ties are corrected for.

    Raises:
        ValueError: one of them is empty.
    """
    if not ours or not theirs:
        raise ValueError("both groups need at least one game")
    if min(*ours, *theirs) == max(*ours, *theirs):
        # Without any difference the test divides by zero.
        return Compared(len(ours), len(theirs), median(ours), median(theirs), 0.0, 0.0)
    # It takes half a second to import, and only a running rollout needs it.
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(ours, theirs, alternative="less" if more_is_better else "greater", method="auto")
    delta = 2 * float(found.statistic) / (len(ours) * len(theirs)) - 1
    return Compared(
        len(ours),
        len(theirs),
        median(ours),
        median(theirs),
        -delta if more_is_better else delta,
        1 - float(found.pvalue),
    )


def sure_gap(good: int, total: int, their_good: int, their_total: int, confidence: float) -> float:
    """How far our share is surely below theirs: the lower bound of the gap, one-sided; 0 when it may be none.

    Newcombe's interval from Wilson's: it holds for shares near 1 and for small samples.
    """
    if not total or not their_total:
        return 0.0
    z = NormalDist().inv_cdf(confidence)
    share, their_share = good / total, their_good / their_total
    _, upper = _wilson(good, total, z)
    their_lower, _ = _wilson(their_good, their_total, z)
    gap = their_share - share
    return max(0.0, gap - math.hypot(their_share - their_lower, upper - share))


def _wilson(good: int, total: int, z: float) -> tuple[float, float]:
    share = good / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return middle - half, middle + half
