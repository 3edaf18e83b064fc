"""Thresholds proposed from what was measured: decisions only, and none of them is carried out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sketchy_orchestration.domain.lateness import Histogram
from sketchy_orchestration.domain.rollout_metrics import MetricName
from sketchy_orchestration.domain.rollout_plan import Plan

FEWEST = 1000
"""Values below which nothing is proposed."""


@dataclass(frozen=True, slots=True)
class Peak:
    """Of one metric: the busiest minute, the busiest five minutes, and all."""

    minute: float
    five_minutes: float
    total: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What the last days hold.

    Attributes:
        hours: covered by the minutes there are.
        times: histograms by metric, ms. peaks: by metric.
        flags: numbers by name, as set now. alerts: limits by rule, as built in.
    """

    hours: float
    times: Mapping[str, Histogram]
    peaks: Mapping[str, Peak]
    flags: Mapping[str, float]
    alerts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One threshold: where it is set, what it is, what it could be (None: too little to say), and why."""

    name: str
    where: str
    now: float
    proposed: float | None
    because: str


def proposals(measured: Measured, plan: Plan) -> list[Proposal]:
    """A proposal for every threshold that measurements say something about."""
    return [
        *_rollout_limits(measured, plan),
        *_samples(measured, plan),
        *_alerts(measured),
        *_flags(measured),
    ]


_LIMITS = {
    MetricName.lateness_p95_ms: "lateness",
    MetricName.event_latency_p95_ms: "delivery",
    MetricName.trigger_p95_ms: "trigger",
}


def _rollout_limits(measured: Measured, plan: Plan) -> list[Proposal]:
    """Three times the usual p95, so that a rollout stops long before the contract is broken; never looser."""
    found = []
    for metric in plan.metrics:
        if metric.name not in _LIMITS:
            continue
        times = measured.times.get(_LIMITS[metric.name], Histogram())
        p95 = times.percentile(0.95)
        proposed = min(metric.at, _rounded(max(3 * p95, 1.0))) if times.total >= FEWEST else None
        because = f"p95 was {p95:.1f} ms of {times.total}; three times that, at most the service level"
        found.append(Proposal(metric.name, "plan, limit", metric.at, proposed, _enough(because, times.total)))
    return found


def _samples(measured: Measured, plan: Plan) -> list[Proposal]:
    """Half of what the shortest step above zero will see, so that it is conclusive; never below thirty."""
    steps = [step for step in plan.steps if step.percentage > 0]
    step = min(steps, key=lambda each: each.percentage * each.hours, default=None)
    games = measured.peaks.get("games_started")
    if step is None or games is None or measured.hours < 1:
        return []
    expected = games.total / measured.hours * step.hours * step.percentage / 100
    found = []
    for metric in plan.metrics:
        per_game = {"completion_gap": 1.0, "timer_accuracy": 4.0, "lateness_p95_ms": 4.0}.get(metric.name)
        if per_game is None or metric.minimum <= expected * per_game / 2:
            continue
        because = (
            f"{games.total / measured.hours:.1f} games an hour: the step of {step.percentage:g} % will see"
            f" about {expected * per_game:.0f} {'games' if per_game == 1 else 'deadlines'}"
        )
        proposed = max(30.0, math.floor(expected * per_game / 2))
        found.append(
            Proposal(
                metric.name, "plan, minimum", metric.minimum, min(proposed, float(metric.minimum)), because
            )
        )
    return found


def _alerts(measured: Measured) -> list[Proposal]:
    found = []
    failed = measured.peaks.get("failed_attempts", Peak(0, 0, 0))
    publishes = measured.peaks.get("publishes", Peak(0, 0, 0))
    if "pubnub_failures" in measured.alerts:
        proposed = _rounded(max(5.0, 1.5 * failed.five_minutes)) if publishes.total >= FEWEST else None
        because = f"at worst {failed.five_minutes:.0f} failed within 5 minutes; half as much again"
        found.append(
            Proposal(
                "pubnub_failures",
                "monitoring/rules.py",
                measured.alerts["pubnub_failures"],
                proposed,
                _enough(because, round(publishes.total)),
            )
        )
    canary = measured.times.get("canary", Histogram())
    if "canary_slow" in measured.alerts:
        p999 = canary.percentile(0.999)
        proposed = _rounded(max(100.0, 2 * p999)) if canary.total >= FEWEST else None
        because = f"99.9 % of canaries took at most {p999:.0f} ms; twice that"
        found.append(
            Proposal(
                "canary_slow",
                "monitoring/rules.py",
                measured.alerts["canary_slow"],
                proposed,
                _enough(because, canary.total),
            )
        )
    return found


def _flags(measured: Measured) -> list[Proposal]:
    publishes = measured.peaks.get("publishes", Peak(0, 0, 0))
    delivery = measured.times.get("delivery", Histogram())
    moves = measured.peaks.get("transitions", Peak(0, 0, 0))
    enough = publishes.total >= FEWEST
    rate = publishes.minute / 60
    found = []
    if "fanout_concurrency" in measured.flags:
        # Little's law: as many are in flight as come in the time one takes.
        needed = rate * delivery.percentile(0.99) / 1000
        proposed = float(max(20, math.ceil(4 * needed))) if enough else None
        because = f"{rate:.1f} publishes/s at the busiest, each within p99: {needed:.1f} at once"
        found.append(
            _flag(measured, "fanout_concurrency", proposed, _enough(because, round(publishes.total)))
        )
    if measured.flags.get("publish_rate"):
        proposed = _rounded(max(10.0, 3 * rate)) if enough else None
        because = f"{rate:.1f} publishes/s at the busiest; three times that drains a backlog"
        found.append(_flag(measured, "publish_rate", proposed, _enough(because, round(publishes.total))))
    if "max_games_per_sweep" in measured.flags:
        proposed = float(min(500, max(50, math.ceil(moves.minute)))) if moves.total >= FEWEST else None
        because = f"{moves.minute:.0f} transitions in the busiest minute: as many may be due at once"
        found.append(_flag(measured, "max_games_per_sweep", proposed, _enough(because, round(moves.total))))
    return found


def _flag(measured: Measured, name: str, proposed: float | None, because: str) -> Proposal:
    return Proposal(name, "flag", measured.flags[name], proposed, because)


def _enough(because: str, sample: int) -> str:
    return because if sample >= FEWEST else f"too little to say: {sample} of {FEWEST}"


def _rounded(value: float) -> float:
    """Up to two digits that a person would write."""
    digits = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return float(math.ceil(value / digits) * digits)
