"""Which ends an observer has seen, so that it asks only for what may still come."""

from __future__ import annotations

import time

GIVE_UP_SECONDS = 2.0
"""An id that has not shown up for so long belongs to a transaction that was rolled back."""


class SeenIds:
    """Identities are handed out before commits: an end with a smaller id may show up after a larger one.

    Attributes:
        below: all ids up to this one have been seen or given up; a look asks for larger ones.
    """

    def __init__(self, below: int = 0) -> None:
        self.below = below
        self._beyond: set[int] = set()
        self._moved_at = time.monotonic()

    def add(self, number: int) -> bool:
        """Note an id; whether it is new."""
        if number <= self.below or number in self._beyond:
            return False
        self._beyond.add(number)
        return True

    def advance(self) -> None:
        """After each look: go past what is without a gap."""
        now = time.monotonic()
        if self._beyond and self.below + 1 not in self._beyond and now - self._moved_at > GIVE_UP_SECONDS:
            self.below = min(self._beyond) - 1
        if not self._beyond or self.below + 1 in self._beyond:
            self._moved_at = now
        while self.below + 1 in self._beyond:
            self.below += 1
            self._beyond.remove(self.below)
