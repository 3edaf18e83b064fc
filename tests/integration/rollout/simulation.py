"""Hours in seconds: writes the rows that hours of play would leave, and walks the rollout beside them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg

from sketchy_orchestration.database import rollout as table
from sketchy_orchestration.delivery import rollout as rollouts
from sketchy_orchestration.delivery.rollout_controller import Walked, walk
from sketchy_orchestration.domain.rollout import Rollout, State
from sketchy_orchestration.domain.rollout_plan import Plan
from sketchy_orchestration.settings import Settings

TICK = timedelta(hours=1)

# Whole minutes of play as the roll-up leaves them: (metric, label, count, value in ms).
_MINUTE = """
    insert into orchestration.metric_minutes (minute, metric, label, count, total, largest, buckets)
    select m.minute, s.metric, s.label, s.n, s.n * coalesce(s.ms, 0), coalesce(s.ms, 0),
           case when s.ms is null then '{}' else jsonb_build_object(orchestration.bucket_of(s.ms), s.n) end
    from generate_series(date_trunc('minute', %(since)s::timestamptz),
                         %(until)s::timestamptz - interval '1 minute', interval '1 minute') m (minute),
         (values ('lateness', 'drawing', %(games)s::bigint * 4, %(late)s::float8),
                 ('transitions', 'timer', %(games)s * 4, null),
                 ('publishes', '', %(games)s * 10, null),
                 ('delivery', '', %(games)s * 10, 12),
                 ('outcomes', 'delivered', %(games)s * 10, null),
                 ('trigger', '', %(games)s * 4, 0.4),
                 ('shifts', 'timer:sweeps', 100, null),
                 ('failed_attempts', 'server_error', round(%(games)s * 14 * %(errors)s::numeric), null))
             s (metric, label, n, ms)
    where s.n > 0
"""
_GAMES = """
    with made as (
        select gen_random_uuid() as id, g as number,
               %(since)s::timestamptz
                   + (%(until)s::timestamptz - %(since)s) * ((g - 0.5) / %(count)s) as ended
        from generate_series(1, %(count)s) g
    ), enrolled as (
        insert into orchestration.enrolments (game_id, handler, percentage, decided_at)
        select id, %(handler)s, 0, ended - interval '2 minutes' from made
    ), phases as (
        insert into orchestration.transitions
            (game_id, from_phase, to_phase, deadline, at, cause, handler, request_id)
        select id, 'drawing', 'voting', at - make_interval(secs => %(overrun)s * (1 + number %% 7)), at,
               'timer', %(handler)s, 'r'
        from made, lateral (select ended - interval '1 minute' as at) m
    )
    insert into orchestration.transitions
        (game_id, from_phase, to_phase, deadline, at, cause, handler, request_id)
    select id, 'results',
           case when number <= %(count)s * %(complete)s::numeric then 'completed' else 'cancelled' end,
           ended - make_interval(secs => %(overrun)s), ended, 'timer', %(handler)s, 'r' from made
"""


@dataclass
class Play:
    """How games go, while it goes so.

    Attributes:
        games: that end within an hour, of both handlers together.
        errors: share of transitions and publishes that needed another try. late: seconds.
        complete: share of our games that are completed; the control group's is 0.9.
    """

    games: int = 600
    errors: float = 0.001
    late: float = 0.004
    complete: float = 0.9


class Simulation:
    """A rollout in simulated time: `now` moves on tick by tick, and rows are written for what passed."""

    def __init__(self, connection: psycopg.Connection, settings: Settings, hours: float = 40) -> None:
        self.connection = connection
        self.settings = settings
        connection.execute(
            "update orchestration.rolled_up set until = date_trunc('minute', clock_timestamp())"
        )
        row = connection.execute(
            "select date_trunc('hour', clock_timestamp()) - %s", [timedelta(hours=hours)]
        ).fetchone()
        assert row is not None
        self.now: datetime = row[0]
        self.play = Play()

    def start(self, plan: Plan | None = None, **more: object) -> Rollout:
        return rollouts.start(
            self.connection, self.settings, plan or Plan(), by="ann", reason="a test", now=self.now, **more
        )  # type: ignore[arg-type]

    def percentage(self) -> float:
        return table.flag_now(self.connection, "enrolment").value

    def pass_time(self, span: timedelta = TICK) -> None:
        """Time passes and games are played."""
        since, until = self.now, self.now + span
        play, share = self.play, self.percentage() / 100
        games = play.games * (span / timedelta(hours=1))
        ours = round(games * share)
        minutes = span / timedelta(minutes=1)
        values = {"since": since, "until": until, "errors": play.errors, "late": play.late * 1000}
        if ours:
            self.connection.execute(_MINUTE, {**values, "games": max(1, round(ours / minutes))})
        for handler, count, overrun, complete in (
            ("orchestration", ours, play.late, play.complete),
            ("legacy", round(games) - ours, 4.0, 0.9),
        ):
            if count:
                self.connection.execute(
                    _GAMES,
                    {**values, "handler": handler, "count": count, "overrun": overrun, "complete": complete},
                )
        self.now = until

    def tick(self) -> list[Walked]:
        """Time passes, then the controller takes one tick."""
        self.pass_time()
        walked = walk(self.settings, self.now)
        assert walked is not None
        return walked

    def rollout(self) -> Rollout:
        return rollouts.newest(self.connection, "enrolment")

    def until(self, *states: State, ticks: int = 200) -> Rollout:
        """Go on until the rollout is in one of these states."""
        for _ in range(ticks):
            if self.rollout().state in states:
                return self.rollout()
            self.tick()
        raise AssertionError(f"after {ticks} ticks: {self.rollout()}")

    def until_percentage(self, percentage: float, ticks: int = 200) -> None:
        for _ in range(ticks):
            if self.percentage() == percentage:
                return
            self.tick()
        raise AssertionError(f"never at {percentage} %: {self.rollout()}")

    def story(self) -> list[tuple[str, str, float]]:
        """What happened, oldest first: (action, state, percentage)."""
        rows = table.changes(self.connection, self.rollout().id)
        return [(row.action, row.state, row.percentage) for row in reversed(rows)]
