"""Timetokens: 17 digits, ten-millionths of a second since 1970, unique and rising."""

from __future__ import annotations

import time


class TimetokenClock:
    """Hands out timetokens; one clock for all that happens in one stand-in."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """A timetoken later than every one before it, and not behind the wall clock."""
        now = time.time_ns() // 100
        self._last = now if now > self._last else self._last + 1
        return self._last


def seconds(value: float) -> int:
    """A length of time in timetoken units."""
    return int(value * 10_000_000)
