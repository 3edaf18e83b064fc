"""Faults: what goes wrong on purpose, for which requests, how often and how long."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from sketchy_orchestration.local.pubnub.config import StandInError

OPERATIONS = (
    "publish",
    "fire",
    "signal",
    "subscribe",
    "presence",
    "history",
    "time",
    "grant",
    "revoke",
)


class FaultKind(StrEnum):
    """What happens to a request a fault strikes."""

    latency = "latency"  # answered `delay` seconds late, plus up to `jitter`
    status = "status"  # not processed; `status` and `body` instead
    rate_limited = "rate-limited"  # not processed; 429 with Retry-After
    wrong_key = "wrong-key"  # not processed; PubNub's answer to an unknown key
    reset_before = "reset-before"  # not processed; connection reset
    reset_after = "reset-after"  # processed, then reset: the lost acknowledgement
    hang = "hang"  # not processed and never answered
    truncated = "truncated"  # processed; the answer breaks off half way
    garbage = "garbage"  # processed; random bytes instead of the answer
    html = "html"  # not processed; a load balancer's error page
    trickle = "trickle"  # processed; the answer comes a byte every `delay` seconds
    duplicate = "duplicate"  # processed; subscribers get the message twice


_PROCESSED = frozenset(
    {
        FaultKind.latency,
        FaultKind.reset_after,
        FaultKind.truncated,
        FaultKind.garbage,
        FaultKind.trickle,
        FaultKind.duplicate,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        operations: which of OPERATIONS it strikes; empty for all.
        channels: a shell pattern; requests without a channel match only `*`.
        share: of the matching requests, 0 to 1.
        seconds: how long it stays, from when it is switched on; None until it is switched off.
        times: how many requests it strikes at most; None for no limit.
        delay, jitter: seconds, for latency and trickle.
        status, body: for status; status also for html.
        retry_after: seconds, for rate-limited.
        accept: overrides whether the request is processed before it is answered wrongly.
    """

    kind: FaultKind
    operations: tuple[str, ...] = ()
    channels: str = "*"
    share: float = 1.0
    seconds: float | None = None
    times: int | None = None
    delay: float = 0.1
    jitter: float = 0.0
    status: int = 503
    body: str = '{"message":"Service Unavailable","error":true,"service":"Balancer","status":503}'
    retry_after: float = 1.0
    accept: bool | None = None

    def __post_init__(self) -> None:
        """Raises StandInError naming the wrong value."""
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown:
            raise StandInError(f"unknown operation {unknown[0]!r}: use {', '.join(OPERATIONS)}")
        if not 0 < self.share <= 1:
            raise StandInError(f"share is {self.share}: must be above 0 and at most 1")
        for name in ("delay", "jitter", "retry_after"):
            if not 0 <= getattr(self, name) <= 3600:
                raise StandInError(f"{name} is {getattr(self, name)}: must be 0 to 3600 seconds")
        if not 200 <= self.status <= 599:
            raise StandInError(f"status is {self.status}: must be 200 to 599")
        if self.seconds is not None and self.seconds <= 0:
            raise StandInError(f"seconds is {self.seconds}: must be more than 0")
        if self.times is not None and self.times < 1:
            raise StandInError(f"times is {self.times}: must be at least 1")

    @property
    def processes(self) -> bool:
        """Whether the request takes effect although its sender may not learn of it."""
        return self.kind in _PROCESSED if self.accept is None else self.accept

    @classmethod
    def from_json(cls, given: object) -> Fault:
        """Raises StandInError when the object does not describe a fault."""
        if not isinstance(given, dict):
            raise StandInError("a fault is a JSON object")
        known = {item.name: item for item in fields(cls)}
        unknown = [name for name in given if name not in known]
        if unknown:
            raise StandInError(f"a fault has no {unknown[0]!r}: use {', '.join(known)}")
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        try:
            values["kind"] = FaultKind(str(values.get("kind")))
        except ValueError:
            raise StandInError(f"unknown kind {given.get('kind')!r}: use {', '.join(FaultKind)}") from None
        values["operations"] = tuple(values.get("operations", ()))
        try:
            return cls(**values)
        except TypeError:
            raise StandInError("a value of the fault has the wrong type") from None

    def as_json(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that strikes one request, with what chance decided for it."""

    fault: Fault
    delay: float
    seed: int


@dataclass(slots=True)
class _Active:
    number: int
    fault: Fault
    random: random.Random
    until: float | None
    struck: int = 0
    left: int | None = field(default=None)


class Faults:
    """The faults switched on now. Every random choice follows from the seed, the fault's number and the order
    of matching requests, so the same requests in the same order fail in the same way."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._next = 1
        self._active: tuple[_Active, ...] = ()

    def on(self, fault: Fault) -> int:
        """Switch a fault on; returns its number."""
        number = self._next
        self._next += 1
        until = None if fault.seconds is None else time.monotonic() + fault.seconds
        chance = random.Random(f"{self._seed}:{number}")
        self._active = (*self._active, _Active(number, fault, chance, until, left=fault.times))
        return number

    def off(self, number: int | None = None) -> int:
        """Switch one fault off, or all; returns how many were on."""
        kept = tuple(one for one in self._active if number is not None and one.number != number)
        gone = len(self._active) - len(kept)
        self._active = kept
        return gone

    @property
    def any_on(self) -> bool:
        return bool(self._active)

    def active(self) -> list[tuple[int, Fault, int]]:
        """Number, fault, and how many requests it struck, of each that is on."""
        self._drop_expired()
        return [(one.number, one.fault, one.struck) for one in self._active]

    def strike(self, operation: str, channels: Iterable[str]) -> list[Struck]:
        """The faults that strike this request: any number of latencies and duplicates, at most one other."""
        if not self._active:
            return []
        self._drop_expired()
        names = list(channels) or [""]
        struck: list[Struck] = []
        broken = False
        for one in self._active:
            fault = one.fault
            if fault.operations and operation not in fault.operations:
                continue
            if fault.channels != "*" and not any(fnmatchcase(name, fault.channels) for name in names):
                continue
            mild = fault.kind in (FaultKind.latency, FaultKind.duplicate)
            if one.random.random() >= fault.share or one.left == 0 or (broken and not mild):
                continue
            broken = broken or not mild
            one.struck += 1
            if one.left is not None:
                one.left -= 1
            delay = fault.delay + fault.jitter * one.random.random()
            struck.append(Struck(fault, delay, one.random.getrandbits(32)))
        return struck

    def _drop_expired(self) -> None:
        now = time.monotonic()
        if any((one.until is not None and one.until <= now) for one in self._active):
            self._active = tuple(one for one in self._active if one.until is None or one.until > now)
