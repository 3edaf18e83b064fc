"""What a relay did, and the database's clock it did it by."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime

from sketchy_orchestration.domain.lateness import Histogram


class DatabaseClock:
    """The database's time between two looks at it: the worker's wall clock plays no part."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def set(self, now: float) -> None:
        """The database said `now`, in seconds since the epoch."""
        self._offset = now - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._offset + time.monotonic()

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now(), UTC)


@dataclass(slots=True)
class RelayTally:
    """Counts since the last report; `lateness` is from an event's occurrence to its acceptance."""

    sequenced: int = 0
    delivered: int = 0
    expired: int = 0
    dead: int = 0
    failed_attempts: int = 0
    syncs: int = 0
    replayed: int = 0
    leases_lost: int = 0
    errors: int = 0
    lateness: Histogram = field(default_factory=Histogram)

    def reset(self) -> None:
        """Begin to count anew."""
        fresh = RelayTally()
        for each in fields(self):
            setattr(self, each.name, getattr(fresh, each.name))

    def numbers(self) -> dict[str, float]:
        return {
            "sequenced": self.sequenced,
            "delivered": self.delivered,
            "expired": self.expired,
            "dead": self.dead,
            "failed_attempts": self.failed_attempts,
            "time_syncs": self.syncs,
            "replayed": self.replayed,
            "leases_lost": self.leases_lost,
            "errors": self.errors,
            "delivery_p50_ms": round(self.lateness.percentile(0.5), 3),
            "delivery_p99_ms": round(self.lateness.percentile(0.99), 3),
            "delivery_max_ms": round(self.lateness.largest, 3),
        }
