"""Measures a rollout from our own tables: ours by thresholds, and beside the control group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import psycopg
from psycopg import Connection

from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.database.connect import Row
from sketchy_orchestration.database.rollout import EndedGame
from sketchy_orchestration.domain.analysis import Counts, Judged, Measurement, judge, judge_comparison
from sketchy_orchestration.domain.analysis_comparison import mann_whitney, sure_gap
from sketchy_orchestration.domain.rollout import Rollout
from sketchy_orchestration.domain.rollout_metrics import Measure, MetricName, applies
from sketchy_orchestration.domain.rollout_plan import Comparison, Metric
from sketchy_orchestration.domain.service_levels import BY_NAME, Sums, tally

OURS, CONTROL = "orchestration", "legacy"

_SHARES = {
    MetricName.error_rate: "error_rate",
    MetricName.timer_accuracy: "timer_accuracy",
    MetricName.event_delivery: "event_delivery",
    MetricName.slow_sweeps: "sweep_duration",
}
_BAD_SHARES = (MetricName.error_rate, MetricName.slow_sweeps)
_TIMES = {
    MetricName.lateness_p95_ms: "lateness",
    MetricName.event_latency_p95_ms: "delivery",
    MetricName.trigger_p95_ms: "trigger",
}
_T = TypeVar("_T")


def measure(connection: Connection[Row], rollout: Rollout, now: datetime) -> list[Judged]:
    """Take a look: every metric and comparison of the plan that says anything at this percentage, judged.

    Changes nothing. A query that fails is a measurement that could not be made.

    Raises:
        psycopg.Error: the connection itself is lost.
    """
    look = _Look(connection, rollout, now)
    plan, counts = rollout.plan, rollout.counts
    judged = [
        judge(metric, look.threshold(metric), counts.get(metric.name, Counts()))
        for metric in plan.metrics
        if applies(metric.name, rollout.percentage)
    ]
    if rollout.percentage > 0:
        judged += [
            judge_comparison(each, look.comparison(each), counts.get(f"compare_{each.measure}", Counts()))
            for each in plan.comparisons
        ]
    return judged


@dataclass(frozen=True, slots=True)
class _Group:
    """Games of one handler; `earlier`: some of them ended before the step began."""

    games: Sequence[EndedGame]
    earlier: bool = False

    @property
    def completed(self) -> int:
        return sum(game.completed for game in self.games)

    def said(self, whose: str) -> str:
        share = f"{self.completed / len(self.games):.1%}" if self.games else "none"
        return f"{whose} {share} of {len(self.games)}{' (earlier ones among them)' if self.earlier else ''}"


class _Look:
    """One look: each query made once, and only if something needs it."""

    def __init__(self, connection: Connection[Row], rollout: Rollout, now: datetime) -> None:
        self._connection = connection
        self._rollout = rollout
        self._now = now
        self._sums: dict[datetime, Sums] = {}
        self._ended: dict[datetime, list[EndedGame]] = {}

    def threshold(self, metric: Metric) -> list[Measurement]:
        """The metric over the whole step, and over the recent past where that is shorter."""
        since = self._rollout.step_since
        if metric.name is MetricName.critical_alerts:
            return [self._measured(self._critical)]
        if metric.name is MetricName.completion_gap:
            return [self._measured(lambda: self._gap(metric))]
        if metric.name is MetricName.control_games:
            return [self._measured(lambda: self._control(metric))]
        recent = self._now - timedelta(minutes=self._rollout.plan.recent_minutes)
        return [
            self._measured(partial(self._counted, metric.name, start))
            for start in ([since] if recent <= since else [since, recent])
        ]

    def comparison(self, comparison: Comparison) -> Measurement:
        """Our games of this step beside the control group's."""
        return self._measured(lambda: self._compared(comparison))

    def _measured(self, make: Callable[[], Measurement]) -> Measurement:
        try:
            return make()
        except psycopg.Error as error:
            if self._connection.closed or self._connection.broken:
                raise
            return Measurement(None, 0, error=" ".join(str(error).split())[:200])

    def _critical(self) -> Measurement:
        count, which = table.critical_alerts(self._connection)
        return Measurement(count, 1, said=f"{count} fire: {which}" if count else "none fires")

    def _counted(self, name: MetricName, since: datetime) -> Measurement:
        sums = self._sums_since(since)
        if name in _TIMES:
            times = sums.times.get(_TIMES[name])
            if times is None or not times.total:
                return Measurement(None, 0)
            p95 = times.percentile(0.95)
            return Measurement(p95, times.total, said=f"{p95:.1f} ms, of {times.total}")
        level = BY_NAME[_SHARES[name]]
        found = tally(level, level.contract, sums)
        if found.share is None:
            return Measurement(None, 0)
        value = 1 - found.share if name in _BAD_SHARES else found.share
        return Measurement(
            value, found.total, bad=found.bad, said=f"{value:.3%}, {found.bad} bad of {found.total}"
        )

    def _control(self, metric: Metric) -> Measurement:
        control = self._group(CONTROL, metric.minimum)
        return Measurement(
            len(control.games), len(control.games), said=control.said("the control group completes")
        )

    def _gap(self, metric: Metric) -> Measurement:
        ours, control = self._group(OURS, metric.minimum), self._group(CONTROL, metric.minimum)
        sample = min(len(ours.games), len(control.games))
        said = f"{ours.said('ours complete')}, {control.said('the control group')}"
        if not sample:
            return Measurement(None, 0, said=said)
        gap = sure_gap(
            ours.completed,
            len(ours.games),
            control.completed,
            len(control.games),
            self._rollout.plan.confidence,
        )
        return Measurement(gap, sample, said=f"{said}: surely {gap:.1%} below" if gap else said)

    def _compared(self, comparison: Comparison) -> Measurement:
        minimum = comparison.minimum
        ours = _values(self._group(OURS, minimum), comparison.measure)
        theirs = _values(self._group(CONTROL, minimum), comparison.measure)
        sample = min(len(ours), len(theirs))
        if not sample:
            said = f"{len(ours)} games of ours, {len(theirs)} of the control group"
            return Measurement(None, 0, said=said)
        found = mann_whitney(ours, theirs, more_is_better=comparison.measure is Measure.completed)
        failing = found.fails(comparison.confidence, comparison.effect)
        return Measurement(found.worse, sample, said=found.said(), failing=failing)

    def _group(self, handler: str, minimum: int) -> _Group:
        """The games of a handler in this step; to too few of the control group earlier ones are added."""
        since = self._rollout.step_since
        games = [game for game in self._ended_since(since) if game.handler == handler]
        if handler == OURS or len(games) >= minimum:
            return _Group(games)
        earlier = min(since, self._now - timedelta(days=self._rollout.plan.control_days))
        more = [game for game in self._ended_since(earlier) if game.handler == handler]
        return _Group(more, earlier=len(more) > len(games))

    def _sums_since(self, since: datetime) -> Sums:
        return _once(self._sums, since, lambda: table.window(self._connection, since, self._now))

    def _ended_since(self, since: datetime) -> list[EndedGame]:
        return _once(self._ended, since, lambda: table.ended_games(self._connection, since, self._now))


def _once(known: dict[datetime, _T], since: datetime, ask: Callable[[], _T]) -> _T:
    if since not in known:
        known[since] = ask()
    return known[since]


def _values(group: _Group, measure: Measure) -> list[float]:
    if measure is Measure.completed:
        return [float(game.completed) for game in group.games]
    return [game.overrun_ms for game in group.games if game.overrun_ms is not None]
