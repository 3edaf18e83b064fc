"""Service levels: what is promised, what is wanted, and what was measured. Typed here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sketchy_orchestration.domain.lateness import Histogram, upper_bound


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of good events or minutes, and what makes one good.

    Attributes:
        share: 0 to 1.
        within_ms: the time within which an event is good; None when the metric itself says what is good.
    """

    share: float
    within_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """One promise.

    Attributes:
        name: as in metrics, assets and alerts.
        title: for people.
        metric: the measured times; or None when `good` and `bad` name counters.
        good, bad: counters as (metric, label); label None is all labels of the metric.
        contract: what is promised; breaking it is an incident. ambition: what we want of ourselves.
        window_days: over which both are judged.
        budget: whether the contract has an error budget that alerts watch burn.
    """

    name: str
    title: str
    contract: Objective
    ambition: Objective
    metric: str | None = None
    good: tuple[tuple[str, str | None], ...] = ()
    bad: tuple[tuple[str, str | None], ...] = ()
    window_days: int = 28
    budget: bool = True


@dataclass(frozen=True, slots=True)
class Sums:
    """What a window holds.

    Attributes:
        counts: by (metric, label).
        times: histogram by metric, ms.
    """

    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    times: Mapping[str, Histogram] = field(default_factory=dict)

    def count(self, metric: str, label: str | None = None) -> int:
        """Events of a metric; of one label, or of all."""
        return sum(n for (m, one), n in self.counts.items() if m == metric and label in (None, one))


@dataclass(frozen=True, slots=True)
class Tally:
    """Good ones of all."""

    good: int
    total: int

    @property
    def share(self) -> float | None:
        """None when nothing happened: no verdict."""
        return self.good / self.total if self.total else None

    @property
    def bad(self) -> int:
        return self.total - self.good


@dataclass(frozen=True, slots=True)
class Standing:
    """A service level as measured over its window.

    Attributes:
        budget_left: of the contract's error budget, 1 is untouched, below 0 is overspent; None without data.
        p95_ms, p99_ms: of the metric's times; None where there are none.
    """

    level: ServiceLevel
    contract: Tally
    ambition: Tally
    budget_left: float | None
    p95_ms: float | None = None
    p99_ms: float | None = None

    @property
    def kept(self) -> bool | None:
        """Whether the contract holds; None when nothing happened."""
        share = self.contract.share
        return None if share is None else share >= self.level.contract.share

    @property
    def reached(self) -> bool | None:
        """Whether our own ambition is reached."""
        share = self.ambition.share
        return None if share is None else share >= self.level.ambition.share


LEVELS: tuple[ServiceLevel, ...] = (
    ServiceLevel(
        "availability",
        "Minutes in which games moved on and events were heard",
        Objective(0.999),
        Objective(0.9999),
        good=(("minutes", "up"),),
        bad=(("minutes", "down"),),
    ),
    ServiceLevel(
        "timer_accuracy",
        "Phases ended within their budget after the deadline, and never before it",
        Objective(0.999, within_ms=1_000),
        Objective(0.99, within_ms=15),
        metric="lateness",
    ),
    ServiceLevel(
        "event_delivery",
        "Events accepted by PubNub, of all that were not outdated",
        Objective(0.995),
        Objective(1.0),
        good=(("outcomes", "delivered"),),
        bad=(("outcomes", "dead"),),
    ),
    ServiceLevel(
        "error_rate",
        "Transitions and publishes that needed no second try",
        Objective(0.995),
        Objective(0.999),
        good=(("transitions", None), ("publishes", None)),
        bad=(("failed_attempts", None), ("trigger_failures", None), ("set_aside", None)),
    ),
    ServiceLevel(
        "sweep_duration",
        "Sweeps that took less than five seconds",
        Objective(0.95),
        Objective(0.999),
        good=(("shifts", "timer:sweeps"),),
        bad=(("shifts", "timer:slow_sweeps"),),
        budget=False,
    ),
    ServiceLevel(
        "event_latency",
        "From an event's commit to its acceptance by PubNub",
        Objective(0.95, within_ms=2_000),
        Objective(0.99, within_ms=30),
        metric="delivery",
    ),
    ServiceLevel(
        "trigger_duration",
        "From a trigger's first line to the writing of its event",
        Objective(0.95, within_ms=500),
        Objective(0.99, within_ms=1),
        metric="trigger",
        budget=False,
    ),
    ServiceLevel(
        "global_delivery",
        "Canaries heard by their own publisher",
        Objective(0.99, within_ms=1_000),
        Objective(0.99, within_ms=150),
        metric="canary",
        bad=(("canary_lost", None),),
        budget=False,
    ),
)
BY_NAME: Mapping[str, ServiceLevel] = {level.name: level for level in LEVELS}


class UnknownLevelError(ValueError):
    """An override names a service level that does not exist, or a share outside 0 to 1."""


def overridden(shares: Mapping[str, float]) -> tuple[ServiceLevel, ...]:
    """The service levels with other contracts, by name.

    Raises:
        UnknownLevelError: naming what is wrong and what there is.
    """
    for name, share in shares.items():
        if name not in BY_NAME:
            raise UnknownLevelError(f"there is no service level {name!r}; there are: {', '.join(BY_NAME)}")
        if not 0 < share <= 1:
            raise UnknownLevelError(f"the share of {name} is {share:g}: it must be above 0 and at most 1")
    return tuple(
        replace(level, contract=replace(level.contract, share=shares[level.name]))
        if level.name in shares
        else level
        for level in LEVELS
    )


def tally(level: ServiceLevel, objective: Objective, sums: Sums) -> Tally:
    """Good and all of a window. A time counts as good when its whole bucket is within the limit."""
    bad = sum(sums.count(*each) for each in level.bad)
    if level.metric is None:
        good = sum(sums.count(*each) for each in level.good)
        if level.name == "sweep_duration":
            good -= bad  # slow sweeps are among the sweeps
        return Tally(max(good, 0), max(good, 0) + bad)
    times = sums.times.get(level.metric, Histogram())
    limit = objective.within_ms or 0
    good = sum(count for bucket, count in times.counts.items() if upper_bound(bucket) <= limit)
    if level.name == "timer_accuracy":
        early = sums.count("early")
        good, bad = max(0, good - early), 0
    return Tally(good, times.total + bad)


def standing(level: ServiceLevel, sums: Sums) -> Standing:
    """Judge one service level by the sums of its window."""
    contract = tally(level, level.contract, sums)
    allowed = (1 - level.contract.share) * contract.total
    if not contract.total:
        left = None
    elif allowed <= 0:
        left = 1.0 if contract.bad == 0 else float("-inf")
    else:
        left = 1 - contract.bad / allowed
    times = sums.times.get(level.metric) if level.metric else None
    return Standing(
        level,
        contract,
        tally(level, level.ambition, sums),
        left,
        times.percentile(0.95) if times and times.total else None,
        times.percentile(0.99) if times and times.total else None,
    )
