"""How often each caller may call, counted in this process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping

from limits import RateLimitItem, parse
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.gateway.callers import Caller, Kind
from sketchy_orchestration.gateway.failures import RequestError

MOST_CALLERS = 50_000
"""Callers counted at once; beyond it the one counted longest ago is forgotten."""


class WrongRateError(SketchyError):
    """A rate in the settings cannot be read."""


class BoundedStorage(Storage):
    """Counts in memory that cannot grow without bound, whoever calls from wherever.

    The library's own memory storage looks at every counter with each hit.
    """

    STORAGE_SCHEME = None

    def __init__(self, most: int = MOST_CALLERS) -> None:
        super().__init__()
        self._most = most
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        return RuntimeError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = time.time()
        until, count = self._counts.get(key, (0.0, 0))
        if until <= now:
            until, count = now + expiry, 0
            self._counts.pop(key, None)
            while len(self._counts) >= self._most:
                self._counts.popitem(last=False)
        self._counts[key] = (until, count + amount)
        return count + amount

    def get(self, key: str) -> int:
        until, count = self._counts.get(key, (0.0, 0))
        return count if until > time.time() else 0

    def get_expiry(self, key: str) -> float:
        return self._counts.get(key, (time.time(), 0))[0]

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        forgotten = len(self._counts)
        self._counts.clear()
        return forgotten

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)


class Rates:
    """One rate for each kind of caller.

    Args:
        rates: by kind, text like "120/minute".

    Raises:
        WrongRateError: naming the rate that cannot be read.
    """

    def __init__(self, rates: Mapping[Kind, str]) -> None:
        self._items: dict[Kind, RateLimitItem] = {}
        for kind, text in rates.items():
            try:
                self._items[kind] = parse(text)
            except ValueError:
                raise WrongRateError(
                    f"GATEWAY_{kind.upper()}_RATE is {text!r}: it must look like 120/minute or 5/second"
                ) from None
        self._limiter = FixedWindowRateLimiter(BoundedStorage())

    def count(self, caller: Caller) -> None:
        """Count one call.

        Raises:
            RequestError: 429, the caller has had its share; Retry-After says when the next one begins.
        """
        item = self._items[caller.kind]
        if self._limiter.hit(item, caller.kind, caller.name):
            return
        reset = self._limiter.get_window_stats(item, caller.kind, caller.name).reset_time
        raise RequestError(
            429,
            "too_many_requests",
            f"more than {item.amount} requests in {item.get_expiry()} s",
            retry_after=reset - time.time(),
        )
