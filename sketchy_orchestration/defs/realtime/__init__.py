"""Timers and fan-out as Dagster runs and shows them."""

import dagster as dg

from sketchy_orchestration.defs.realtime import assets, dead_letters, jobs, schedules, sensors

definitions = dg.Definitions(
    assets=assets.ASSETS,
    jobs=[*jobs.JOBS, *dead_letters.JOBS],
    schedules=schedules.SCHEDULES,
    sensors=sensors.SENSORS,
)
