"""The metrics a rollout can be judged by: which way is good, what they need, what the seeds ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class MetricName(StrEnum):
    """What a step of a rollout may be judged by."""

    error_rate = "error_rate"
    timer_accuracy = "timer_accuracy"
    event_delivery = "event_delivery"
    lateness_p95_ms = "lateness_p95_ms"
    event_latency_p95_ms = "event_latency_p95_ms"
    trigger_p95_ms = "trigger_p95_ms"
    slow_sweeps = "slow_sweeps"
    critical_alerts = "critical_alerts"
    completion_gap = "completion_gap"
    control_games = "control_games"


class Measure(StrEnum):
    """What is compared, game by game, with the control group."""

    completed = "completed"
    overrun_ms = "overrun_ms"


@dataclass(frozen=True, slots=True)
class Kind:
    """One metric.

    Attributes:
        title: for people.
        limit: the default; the value must be below it, or `above` it; `reached` allows the limit itself.
        needs_ours: says nothing while the flag is at 0 %: games of ours are what it measures.
        control: it needs the control group.
        only_at_zero: asked only at 0 %, where the control group is measured before anything is at stake.
    """

    title: str
    limit: float
    above: bool = False
    reached: bool = False
    needs_ours: bool = True
    control: bool = False
    only_at_zero: bool = False

    def keeps(self, value: float, limit: float) -> bool:
        """Whether the value is on the right side of the limit."""
        if self.reached and value == limit:
            return True
        return value > limit if self.above else value < limit


METRICS: Mapping[MetricName, Kind] = {
    MetricName.error_rate: Kind(
        "Share of transitions and publishes that failed or needed a second try", 0.005
    ),
    MetricName.timer_accuracy: Kind(
        "Share of phases ended within a second after their deadline, never before", 0.999, above=True
    ),
    MetricName.event_delivery: Kind("Share of events accepted by PubNub", 0.995, above=True),
    MetricName.lateness_p95_ms: Kind("Lateness of phases, p95, ms", 1000, reached=True),
    MetricName.event_latency_p95_ms: Kind(
        "Commit of an event to its acceptance, p95, ms", 2000, reached=True
    ),
    MetricName.trigger_p95_ms: Kind(
        "A trigger's time on the application's statement, p95, ms", 500, reached=True
    ),
    MetricName.slow_sweeps: Kind("Share of sweeps that took five seconds or more", 0.05, reached=True),
    MetricName.critical_alerts: Kind("Critical alerts firing", 0, reached=True, needs_ours=False),
    MetricName.completion_gap: Kind(
        "How far our completion rate is surely below the control group's", 0, reached=True, control=True
    ),
    MetricName.control_games: Kind(
        "Games of the control group to compare with",
        1,
        above=True,
        reached=True,
        needs_ours=False,
        control=True,
        only_at_zero=True,
    ),
}


def applies(name: MetricName, percentage: float) -> bool:
    """Whether the metric says anything at that percentage."""
    kind = METRICS[name]
    return percentage == 0 if kind.only_at_zero else percentage > 0 or not kind.needs_ours
