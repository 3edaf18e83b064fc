"""Whether, how fast and how many at once a relay may send just now."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sketchy_orchestration.domain.rate import TokenBucket, share

LOOKED_WITHIN = 1.0
"""Seconds; a relay that could not look at the flags for longer sends nothing: it may have been told so."""

STOP_FLAG = "emergency_stop"

# Seconds of the rate that can be saved up for a burst.
_BURST_SECONDS = 0.25


@dataclass(slots=True)
class Gate:
    """What the last look at flags and circuit said.

    Attributes:
        broadcasting: the flag pubnub_broadcasting.
        stopped: the flag emergency_stop: nothing is sent, and what is in flight is broken off.
        circuit_closed: the keyset's circuit is closed; closed_at: since when (the database's clock).
        way_out: our own publishes get through, as far as is known.
        concurrency: publishes in flight or unacknowledged at most.
        attempts: failed attempts before an event may be given up.
        sync_seconds: between time syncs of running games; None when off.
        held_back: seconds that something waited for the rate limit alone, since the last report.
        held_back_share: the same as a share of the time between the last two `measure`s.
    """

    broadcasting: bool = False
    stopped: bool = False
    circuit_closed: bool = False
    closed_at: datetime | None = None
    way_out: bool = True
    concurrency: int = 100
    attempts: int = 3
    sync_seconds: float | None = None
    looked_at: float = float("-inf")
    bucket: TokenBucket = field(default_factory=lambda: TokenBucket(None))
    held_back: float = 0.0
    held_back_share: float = 0.0
    _held_back_since: float | None = None
    _measured: tuple[float, float] = (float("-inf"), 0.0)
    _total: float = 0.0

    def looked(self, flags: Mapping[str, tuple[bool, float | None]], lanes_held: int, lanes: int) -> None:
        """Take over what the flags say."""
        now = time.monotonic()
        self.looked_at = now
        self.broadcasting = flags.get("pubnub_broadcasting", (False, None))[0]
        self.stopped = flags.get(STOP_FLAG, (False, None))[0]
        self.concurrency = max(1, int(_number(flags, "fanout_concurrency") or self.concurrency))
        self.attempts = max(1, int(_number(flags, "publish_attempts") or self.attempts))
        self.sync_seconds = _number(flags, "timer_sync_seconds")
        rate = share(_number(flags, "publish_rate") or None, lanes_held, lanes)
        if rate != self.bucket.rate:
            self.bucket.set(rate, max(1.0, (rate or 0) * _BURST_SECONDS), now)

    def shut(self) -> None:
        """Send nothing until the flags have been looked at again."""
        self.looked_at = float("-inf")

    @property
    def open(self) -> bool:
        """Whether events may be sent at all."""
        return (
            self.broadcasting
            and not self.stopped
            and self.circuit_closed
            and self.way_out
            and time.monotonic() - self.looked_at <= LOOKED_WITHIN
        )

    def take(self, publishes: int) -> float:
        """Take the right to so many publishes; 0.0 when granted, else the seconds to wait."""
        now = time.monotonic()
        wait = self.bucket.take(now, publishes)
        if wait and self._held_back_since is None:
            self._held_back_since = now
        elif not wait:
            self.nothing_held_back()
        return wait

    def nothing_held_back(self) -> None:
        """What waited for the rate was granted, has expired, or is another relay's by now."""
        if self._held_back_since is not None:
            waited = time.monotonic() - self._held_back_since
            self.held_back += waited
            self._total += waited
            self._held_back_since = None

    def waited_through(self, occurred_at: datetime) -> bool:
        """Whether what occurred then has waited for the circuit to close."""
        return self.closed_at is not None and occurred_at < self.closed_at

    def measure(self) -> None:
        """Bring `held_back_share` up to date, about every second."""
        if not self.open:
            self._held_back_since = None
        now = time.monotonic()
        total = self._total + (now - self._held_back_since if self._held_back_since is not None else 0.0)
        before, had = self._measured
        self.held_back_share = min(1.0, (total - had) / (now - before)) if now > before else 0.0
        self._measured = (now, total)


def _number(flags: Mapping[str, tuple[bool, float | None]], name: str) -> float | None:
    enabled, value = flags.get(name, (False, None))
    return float(value) if enabled and value is not None else None
