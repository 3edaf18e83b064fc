"""The house kept clean: partitions, traces of finished games, Dagster's own runs, and what reconciles."""

import dagster as dg

from sketchy_orchestration.defs.maintenance import jobs, schedules

definitions = dg.Definitions(jobs=jobs.JOBS, schedules=schedules.SCHEDULES)
