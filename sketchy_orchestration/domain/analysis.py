"""Verdicts: what measurements come to, look by look. Inconclusive is one of its own and never passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sketchy_orchestration.domain.rollout_metrics import METRICS
from sketchy_orchestration.domain.rollout_plan import Comparison, EmptyData, Metric


class Verdict(StrEnum):
    """What measures say of a step of a rollout."""

    passed = "pass"
    failed = "fail"
    inconclusive = "inconclusive"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement over one window.

    Attributes:
        value: None when there are no data.
        sample: how many facts it rests on. bad: how many of them were bad, where that can be counted.
        error: why it could not be made.
        said: what stands behind it, for people.
        failing: decided by whoever measured (comparisons); None: the limit decides.
    """

    value: float | None
    sample: int
    bad: int | None = None
    error: str | None = None
    said: str = ""
    failing: bool | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What is remembered of a metric within a step: failures; errors and successes in a row."""

    failures: int = 0
    errors: int = 0
    successes: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """A metric's verdict at one look.

    Attributes:
        waits: inconclusive only for now: the next look may tell; failure and error limits bound it.
        blind: it could not be measured for longer than its error limit.
    """

    metric: str
    verdict: Verdict
    value: float | None
    sample: int
    said: str
    counts: Counts
    dry_run: bool = False
    waits: bool = False
    blind: bool = False

    @property
    def decides(self) -> bool:
        return not self.dry_run


@dataclass(frozen=True, slots=True)
class _Outcome:
    verdict: Verdict | None  # None: it could not be measured
    measurement: Measurement
    said: str


def judge(metric: Metric, measured: Sequence[Measurement], counts: Counts) -> Judged:
    """Judge one metric by its windows: the worst of them counts.

    Args:
        measured: the whole step so far, then the recent past, which only adds what fails or is an error.
    """
    limits = _Limits(
        metric.name,
        metric.minimum,
        metric.empty,
        metric.failure_limit,
        metric.error_limit,
        metric.dry_run,
        metric.successes,
    )
    whole, *parts = measured
    told = [each for each in parts if each.error is not None or each.sample]
    return _fold(limits, [_of_threshold(metric, each) for each in (whole, *told)], counts)


def judge_comparison(comparison: Comparison, measured: Measurement, counts: Counts) -> Judged:
    """Judge one comparison with the control group; `sample` is the smaller group's."""
    name = f"compare_{comparison.measure}"
    limits = _Limits(
        name,
        comparison.minimum,
        comparison.empty,
        comparison.failure_limit,
        comparison.error_limit,
        comparison.dry_run,
    )
    return _fold(limits, [_of_sample(limits, measured, bool(measured.failing))], counts)


@dataclass(frozen=True, slots=True)
class _Limits:
    name: str
    minimum: int
    empty: EmptyData
    failures: int
    errors: int
    dry_run: bool
    successes: int = 1


def _of_threshold(metric: Metric, measured: Measurement) -> _Outcome:
    kind, limit = METRICS[metric.name], metric.at
    value = measured.value
    failing = value is not None and not math.isnan(value) and not kind.keeps(value, limit)
    limits = _Limits(metric.name, metric.minimum, metric.empty, 0, 0, False)
    outcome = _of_sample(limits, measured, failing)
    if outcome.verdict is Verdict.inconclusive and failing and measured.bad is not None and limit < 1:
        # Were all up to the minimum sample good from now on, it would fail all the same: why wait?
        allowed = (1 - limit if kind.above else limit) * metric.minimum
        if measured.bad > allowed:
            return _Outcome(
                Verdict.failed, measured, f"{measured.said}; {measured.bad} bad ones are too many already"
            )
    return outcome


def _of_sample(limits: _Limits, measured: Measurement, failing: bool) -> _Outcome:
    if measured.error is not None:
        return _Outcome(None, measured, f"could not be measured: {measured.error}")
    if measured.value is None or math.isnan(measured.value) or measured.sample == 0:
        said = measured.said or "no data"
        return _Outcome(Verdict(limits.empty.value), measured, f"{said}; no data counts as {limits.empty}")
    if measured.sample < limits.minimum:
        return _Outcome(
            Verdict.inconclusive, measured, f"{measured.said}; {measured.sample} of {limits.minimum} needed"
        )
    return _Outcome(Verdict.failed if failing else Verdict.passed, measured, measured.said)


def _fold(limits: _Limits, outcomes: Sequence[_Outcome], before: Counts) -> Judged:
    step = outcomes[0]
    failing = next((each for each in outcomes if each.verdict is Verdict.failed), None)
    error = next((each for each in outcomes if each.verdict is None), None)
    told = failing or error or step
    judged = Judged(
        # A plain string: Dagster cannot store a name that is a member of an enumeration.
        str(limits.name),
        Verdict.inconclusive,
        told.measurement.value,
        told.measurement.sample,
        told.said,
        before,
        limits.dry_run,
    )
    if failing is not None:
        counts = Counts(before.failures + 1)
        if counts.failures > limits.failures:
            return replace(judged, verdict=Verdict.failed, counts=counts)
        said = f"{told.said}; failing {counts.failures} of {limits.failures} times tolerated"
        return replace(judged, counts=counts, said=said, waits=True)
    if error is not None:
        counts = Counts(before.failures, before.errors + 1)
        if counts.errors > limits.errors:
            said = f"{told.said} ({counts.errors} times in a row)"
            return replace(judged, counts=counts, said=said, blind=True)
        return replace(judged, counts=counts, waits=True)
    assert step.verdict is not None, "an error was dealt with above"  # noqa: S101
    if step.verdict is not Verdict.passed:
        return replace(judged, verdict=step.verdict, counts=Counts(before.failures))
    counts = Counts(before.failures, successes=before.successes + 1)
    if counts.successes < limits.successes:
        said = f"{told.said}; passed {counts.successes} of {limits.successes} times in a row"
        return replace(judged, counts=counts, said=said, waits=True)
    return replace(judged, verdict=Verdict.passed, counts=counts)


def merged(before: Mapping[str, Counts], judged: Sequence[Judged]) -> dict[str, Counts]:
    """What is to be remembered after a look."""
    return {**before, **{each.metric: each.counts for each in judged}}


def overall(judged: Sequence[Judged]) -> Verdict:
    """The verdict of all that decide: a failure fails, anything missing or nothing at all is inconclusive."""
    deciding = [each for each in judged if each.decides]
    if any(each.verdict is Verdict.failed for each in deciding):
        return Verdict.failed
    if not deciding or any(each.verdict is Verdict.inconclusive for each in deciding):
        return Verdict.inconclusive
    return Verdict.passed
