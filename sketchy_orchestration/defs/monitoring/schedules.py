"""Schedules: all in UTC."""

import dagster as dg

from sketchy_orchestration.defs.monitoring import jobs
from sketchy_orchestration.defs.monitoring.assets import OWNER_TAGS
from sketchy_orchestration.settings import Environment, settings


def _schedule(job: dg.JobDefinition, cron: str, description: str) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        tags=OWNER_TAGS,
        description=description,
    )


@dg.schedule(
    name="load_test_schedule",
    job=jobs.load_test,
    cron_schedule="11 4 1 1,4,7,10 *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    tags=OWNER_TAGS,
    description="Once a quarter, outside production; in production it skips and says so.",
)
def load_test_schedule() -> dg.RunRequest | dg.SkipReason:
    if settings().environment is Environment.production:
        return dg.SkipReason("no load is put on production: run it in staging")
    return dg.RunRequest()


SCHEDULES = [
    _schedule(jobs.performance_review, "23 6 * * 1", "Every Monday morning, for the weekly review."),
    load_test_schedule,
    _schedule(jobs.recovery_drill, "31 4 8 1,7 *", "Twice a year, in January and July, when few play."),
]
