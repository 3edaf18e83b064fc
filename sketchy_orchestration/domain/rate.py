"""How fast to send: each relay's share of the keyset's rate, spent from a token bucket."""

from __future__ import annotations

from dataclasses import dataclass


def share(rate: float | None, lanes_held: int, lanes: int) -> float | None:
    """Publishes per second a relay may make: rate × lanes held ÷ all lanes. None is no limit."""
    if rate is None:
        return None
    if not 0 <= lanes_held <= lanes or lanes < 1:
        raise ValueError(f"{lanes_held} lanes held of {lanes} is impossible")
    return rate * lanes_held / lanes


@dataclass(slots=True)
class TokenBucket:
    """A token bucket whose clock is its caller's.

    Attributes:
        rate: tokens per second; None is no limit, 0 grants nothing.
        burst: the most tokens that can be saved up.
    """

    rate: float | None
    burst: float = 1.0
    _tokens: float = 0.0
    _at: float | None = None

    def __post_init__(self) -> None:
        self._check(self.rate, self.burst)
        self._tokens = self.burst

    def set(self, rate: float | None, burst: float, now: float) -> None:
        """Change rate and burst at `now`; what was earned at the old rate stays, up to the new burst."""
        self._check(rate, burst)
        self._refill(now)
        self.rate, self.burst = rate, burst
        self._tokens = min(self._tokens, burst)

    def take(self, now: float, tokens: float = 1.0) -> float:
        """Take `tokens` at `now` (seconds, monotonic) or nothing at all.

        Returns:
            0.0 when taken; else the seconds until they could be (infinite if never).
        """
        if self.rate is None:
            return 0.0
        self._refill(now)
        # More than the burst can never be saved up: it is taken from a full bucket and repaid afterwards.
        needed = min(tokens, self.burst)
        # The tolerance keeps a caller that sleeps exactly as told from being sent back for rounding.
        if self._tokens >= needed - 1e-9:
            self._tokens -= tokens
            return 0.0
        return (needed - self._tokens) / self.rate if self.rate > 0 else float("inf")

    def _refill(self, now: float) -> None:
        elapsed = max(0.0, now - self._at) if self._at is not None else 0.0
        self._at = now if self._at is None else max(now, self._at)
        if self.rate is not None:
            self._tokens = min(self.burst, self._tokens + elapsed * self.rate)

    @staticmethod
    def _check(rate: float | None, burst: float) -> None:
        if rate is not None and not 0 <= rate < float("inf"):
            raise ValueError(f"rate {rate}/s must be a number of 0 or more, or None for no limit")
        if not 1 <= burst < float("inf"):
            raise ValueError(f"burst {burst} must be 1 or more")
