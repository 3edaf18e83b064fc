"""Schedules: every minute, a pass of each kind if anything is overdue."""

import dagster as dg

from sketchy_orchestration.defs.realtime.assets import OWNER_TAGS
from sketchy_orchestration.defs.realtime.jobs import event_fanout, timer_sweep
from sketchy_orchestration.defs.realtime.sensors import pending_runs
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.domain.supervision import Overdue, why_no_pass
from sketchy_orchestration.realtime.supervision import overdue_events, overdue_games


def _decided(
    context: dg.ScheduleEvaluationContext, overdue: Overdue, job_name: str
) -> dg.RunRequest | dg.SkipReason:
    why_not = why_no_pass(overdue, pending=pending_runs(context.instance, job_name))
    return dg.SkipReason(why_not) if why_not is not None else dg.RunRequest()


@dg.schedule(
    cron_schedule="* * * * *",
    job=timer_sweep,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    tags=OWNER_TAGS,
    description=(
        "Every minute, one pass of timer_sweep if a game is overdue by more than 2 s; otherwise it skips and"
        " says why. The last resort behind shifts and backstop; leave it on."
    ),
)
def timer_sweep_every_minute(
    context: dg.ScheduleEvaluationContext, postgres: PostgresResource
) -> dg.RunRequest | dg.SkipReason:
    return _decided(context, overdue_games(postgres.settings()), timer_sweep.name)


@dg.schedule(
    cron_schedule="* * * * *",
    job=event_fanout,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    tags=OWNER_TAGS,
    description=(
        "Every minute, one pass of event_fanout if an event of the last 24 hours has waited for more than"
        " 10 s and no fan-out shift is at work; otherwise it skips and says why. Leave it on."
    ),
)
def event_fanout_every_minute(
    context: dg.ScheduleEvaluationContext, postgres: PostgresResource
) -> dg.RunRequest | dg.SkipReason:
    return _decided(context, overdue_events(postgres.settings()), event_fanout.name)


SCHEDULES = [timer_sweep_every_minute, event_fanout_every_minute]
