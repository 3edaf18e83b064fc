"""Plans of a rollout: percentages, how long each, what is measured, what a failure does. Typed, versioned."""

from __future__ import annotations

import hashlib
from datetime import datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from sketchy_orchestration.domain.rollout_metrics import METRICS, Measure, MetricName

ENROLMENT = "enrolment"


class OnFail(StrEnum):
    """What a failed verdict does: to 0 %, to the last percentage that passed, or stop there and wait."""

    zero = "zero"
    last_good = "last_good"
    hold = "hold"


class EmptyData(StrEnum):
    """What it means that nothing at all was measured."""

    inconclusive = "inconclusive"
    passed = "pass"
    failed = "fail"


class Weekday(StrEnum):
    """A day on which a rollout may take its next step."""

    monday = "monday"
    tuesday = "tuesday"
    wednesday = "wednesday"
    thursday = "thursday"
    friday = "friday"
    saturday = "saturday"
    sunday = "sunday"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Part):
    """One percentage, watched for so many hours; with `gate` a person lets it go on after the checkpoint."""

    percentage: Annotated[float, Field(ge=0, le=100)]
    hours: Annotated[float, Field(gt=0, le=24 * 90)]
    gate: bool = False

    @property
    def lasts(self) -> timedelta:
        return timedelta(hours=self.hours)


class Metric(_Part):
    """One threshold.

    Attributes:
        limit: the value must be below it, or above it: as the metric says; None takes the metric's own.
        failure_limit: failing measurements of a step that are tolerated; one more is a failed verdict.
        error_limit: measurements in a row that could not be made, before it counts as not to be measured.
        successes: looks in a row that must pass before the checkpoint does.
        minimum: a smaller sample is inconclusive, unless no further sample could mend it.
        empty: what it means that there are no data.
        dry_run: measured, shown and recorded, but decides nothing.
    """

    name: MetricName
    limit: float | None = None
    failure_limit: Annotated[int, Field(ge=0)] = 0
    error_limit: Annotated[int, Field(ge=0)] = 4
    successes: Annotated[int, Field(ge=1)] = 1
    minimum: Annotated[int, Field(ge=1)] = 1
    empty: EmptyData = EmptyData.inconclusive
    dry_run: bool = False

    @property
    def at(self) -> float:
        """The limit that holds."""
        return METRICS[self.name].limit if self.limit is None else self.limit


class Comparison(_Part):
    """Our games beside those of the control group, by Mann-Whitney's test.

    Attributes:
        confidence: it fails when ours are worse with at least this confidence (one-sided) ...
        effect: ... and by at least this much: Cliff's delta, 0 none, 1 every one of ours is worse.
        minimum: games needed of each group.
        empty: what it means that one of the groups has none.
    """

    measure: Measure
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.98
    effect: Annotated[float, Field(gt=0, le=1)] = 0.25
    failure_limit: Annotated[int, Field(ge=0)] = 0
    error_limit: Annotated[int, Field(ge=0)] = 4
    minimum: Annotated[int, Field(ge=5)] = 50
    empty: EmptyData = EmptyData.inconclusive
    dry_run: bool = False


class Freeze(_Part):
    """No step is taken while it lasts: a period (`since`, `until`), or weekly `days`, `begin` to `end` (UTC).

    An `end` at or before `begin` is that of the next day. Rolling back is never frozen.
    """

    why: Annotated[str, Field(min_length=1)]
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    days: tuple[Weekday, ...] = ()
    begin: time = time(0)
    end: time = time(0)

    @model_validator(mode="after")
    def _one_kind(self) -> Freeze:
        period = self.since is not None and self.until is not None and self.since < self.until
        if period == bool(self.days) or (not period and (self.since or self.until)):
            raise ValueError("give either `since` before `until`, or `days` with `begin` and `end`")
        return self

    def holds(self, now: datetime) -> bool:
        """Whether it is frozen at that moment."""
        if self.since is not None and self.until is not None:
            return self.since <= now < self.until
        return any(
            start <= now < start + self._length
            for start in (self._start(now), self._start(now - timedelta(days=1)))
            if list(Weekday)[start.weekday()] in self.days
        )

    def _start(self, day: datetime) -> datetime:
        return day.replace(
            hour=self.begin.hour, minute=self.begin.minute, second=self.begin.second, microsecond=0
        )

    @property
    def _length(self) -> timedelta:
        day = timedelta(days=1)
        begin = timedelta(hours=self.begin.hour, minutes=self.begin.minute, seconds=self.begin.second)
        end = timedelta(hours=self.end.hour, minutes=self.end.minute, seconds=self.end.second)
        return end - begin if end > begin else end + day - begin


def _default_metrics() -> tuple[Metric, ...]:
    return (
        Metric(name=MetricName.error_rate, minimum=1000),
        Metric(name=MetricName.timer_accuracy, minimum=300),
        Metric(name=MetricName.event_delivery, minimum=1000),
        Metric(name=MetricName.lateness_p95_ms, minimum=300),
        Metric(name=MetricName.event_latency_p95_ms, minimum=1000),
        Metric(name=MetricName.trigger_p95_ms, minimum=300),
        Metric(name=MetricName.slow_sweeps, minimum=100),
        Metric(name=MetricName.critical_alerts),
        Metric(name=MetricName.completion_gap, minimum=100),
        Metric(name=MetricName.control_games, minimum=100),
    )


def _default_comparisons() -> tuple[Comparison, ...]:
    return (Comparison(measure=Measure.completed), Comparison(measure=Measure.overrun_ms))


class Plan(_Part):
    """How a flag is rolled out.

    Attributes:
        version: of this format.
        on_fail: what a failed verdict does.
        on_blind: what it does that a metric cannot be measured beyond its error limit: pause, or as on_fail.
        every_seconds: between looks. recent_minutes: a look judges them alone beside the whole step so far.
        control_days: when too few control games ended within the step, earlier ones of so many days join.
        confidence: with which `completion_gap` is sure that our completion rate is the lower one.
    """

    version: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, max_length=80)] = "default"
    flag: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")] = ENROLMENT
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=50)] = (
        Step(percentage=0, hours=2),
        Step(percentage=25, hours=4),
        Step(percentage=50, hours=6),
        Step(percentage=100, hours=12),
    )
    metrics: tuple[Metric, ...] = Field(default_factory=_default_metrics)
    comparisons: tuple[Comparison, ...] = Field(default_factory=_default_comparisons)
    on_fail: OnFail = OnFail.zero
    on_blind: Literal["pause", "fail"] = "pause"
    every_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    recent_minutes: Annotated[float, Field(gt=0, le=1440)] = 10.0
    control_days: Annotated[float, Field(ge=0, le=90)] = 7.0
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.98
    freeze: tuple[Freeze, ...] = ()

    @model_validator(mode="after")
    def _makes_sense(self) -> Plan:
        percentages = [step.percentage for step in self.steps]
        if any(later <= earlier for earlier, later in pairwise(percentages)):
            raise ValueError(f"the percentages of the steps must rise, they are {percentages}")
        for names in ([m.name for m in self.metrics], [c.measure for c in self.comparisons]):
            if len(set(names)) < len(names):
                raise ValueError(f"a metric stands there twice: {', '.join(names)}")
        if self.flag != ENROLMENT:
            beside = [str(m.name) for m in self.metrics if METRICS[m.name].control]
            beside += [f"compare {c.measure}" for c in self.comparisons]
            if beside:
                raise ValueError(
                    f"only {ENROLMENT} has a control group: leave out {', '.join(beside)} for {self.flag}"
                )
        return self

    def frozen(self, now: datetime) -> Freeze | None:
        """The freeze that holds at that moment."""
        return next((freeze for freeze in self.freeze if freeze.holds(now)), None)

    @property
    def fingerprint(self) -> str:
        """Twelve characters that tell this plan from any other."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
