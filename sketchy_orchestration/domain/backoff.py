"""When to try again: exponential backoff with full jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# 2**64 already outlasts every cap; beyond it a float would overflow.
_STEEPEST = 64


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long failures of the moment wait.

    Attributes:
        base: seconds the first wait is at most.
        cap: seconds any wait is at most (unless the other side asked for longer).
        longest_asked: seconds at most that a Retry-After is believed.
    """

    base: float = 0.25
    cap: float = 10.0
    longest_asked: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.base <= self.cap:
            raise ValueError(f"backoff base {self.base} s must be above 0 and at most the cap {self.cap} s")

    def ceiling(self, attempt: int) -> float:
        """The longest wait in seconds after failed attempt number `attempt` (the first is 1)."""
        if attempt < 1:
            raise ValueError(f"attempt {attempt} must be 1 or more")
        return min(self.cap, self.base * float(2 ** min(attempt - 1, _STEEPEST)))

    def wait(self, attempt: int, random: Callable[[], float], asked: float | None = None) -> float:
        """Seconds to wait after failed attempt number `attempt`.

        Full jitter: uniform between 0 and `ceiling(attempt)`, so that games which failed together do not
        come back together. `random` gives numbers in [0, 1). `asked` is the other side's Retry-After in
        seconds: waited in full (up to `longest_asked`), the jitter on top of it.
        """
        jittered = self.ceiling(attempt) * random()
        if asked is None or asked <= 0:
            return jittered
        return min(asked, self.longest_asked) + jittered
