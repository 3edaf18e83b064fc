"""The watch as Dagster runs and shows it: assets, checks, alerts, reviews, the recovery drill."""

import dagster as dg

from sketchy_orchestration.defs.monitoring import assets, jobs, schedules, sensors

definitions = dg.Definitions(
    assets=assets.ASSETS,
    asset_checks=assets.CHECKS,
    jobs=jobs.JOBS,
    schedules=schedules.SCHEDULES,
    sensors=sensors.SENSORS,
)
