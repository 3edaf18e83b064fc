"""A mergeable histogram of latenesses: counts in buckets that grow by a tenth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

GROWTH = 1.1
"""A percentile read from the histogram is at most this factor above the true one."""

SMALLEST_MS = 0.1


def bucket_of(value_ms: float) -> int:
    """The bucket a value falls in; bucket 0 holds everything up to SMALLEST_MS."""
    if value_ms <= SMALLEST_MS:
        return 0
    return math.ceil(math.log(value_ms / SMALLEST_MS, GROWTH))


def upper_bound(bucket: int) -> float:
    """The largest value of a bucket, ms."""
    return float(SMALLEST_MS * GROWTH**bucket)


@dataclass(slots=True)
class Histogram:
    """Values in milliseconds; `largest` is exact, percentiles are upper bounds within GROWTH."""

    counts: Counter[int] = field(default_factory=Counter)
    largest: float = 0.0

    def add(self, values_ms: Iterable[float]) -> None:
        for value in values_ms:
            self.counts[bucket_of(value)] += 1
            self.largest = max(self.largest, value)

    def merge(self, other: Histogram) -> None:
        self.counts.update(other.counts)
        self.largest = max(self.largest, other.largest)

    @property
    def total(self) -> int:
        return self.counts.total()

    def percentile(self, share: float) -> float:
        """The value that `share` (0 to 1) of all values do not exceed, ms; 0 when there is none."""
        wanted = math.ceil(self.total * share)
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return min(upper_bound(bucket), self.largest)
        return 0.0
