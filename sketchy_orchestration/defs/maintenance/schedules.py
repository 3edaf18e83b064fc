"""Schedules: all in UTC, at minutes that do not meet."""

import dagster as dg

from sketchy_orchestration.defs.maintenance import jobs

_RUNNING = dg.DefaultScheduleStatus.RUNNING


def _schedule(job: dg.JobDefinition, cron: str, description: str) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=f"{job.name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=_RUNNING,
        tags=jobs.OWNER_TAGS,
        description=description,
    )


SCHEDULES = [
    _schedule(jobs.partitions_ahead, "17 */6 * * *", "Four times a day; a week ahead bears many failures."),
    _schedule(jobs.housekeeping, "43 3 * * *", "Once a day, at a time of night when few play."),
    _schedule(jobs.reconcile, "7 * * * *", "Once an hour; sweeps repair games that stand still at once."),
]
