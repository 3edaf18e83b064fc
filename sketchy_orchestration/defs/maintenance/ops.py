"""Ops: each reads its config, calls one function, reports what it returned."""

from collections.abc import Callable
from datetime import timedelta

import dagster as dg
from pydantic import Field

from sketchy_orchestration.defs.maintenance import dagster_storage
from sketchy_orchestration.defs.resources import PostgresResource
from sketchy_orchestration.monitoring import housekeeping
from sketchy_orchestration.monitoring.housekeeping import Done

RETRY = dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL)


class CleaningConfig(dg.Config):
    """Config of the jobs that remove something."""

    dry_run: bool = Field(default=False, description="Change nothing; say what would be removed")


class PartitionsConfig(CleaningConfig):
    """Config of partitions_ahead."""

    ahead_days: int = Field(default=housekeeping.PARTITIONS_AHEAD, ge=1, le=60, description="Days made ahead")
    keep_hours: int = Field(
        default=int(housekeeping.PARTITIONS_KEPT.total_seconds() // 3600),
        ge=1,
        le=24 * 365,
        description="Hours a day's events are kept after the day has ended",
    )


class GamesConfig(CleaningConfig):
    """Config of forgetting games."""

    keep_days: int = Field(
        default=housekeeping.GAMES_KEPT.days, ge=1, le=3650, description="Days after a game's last transition"
    )


class DagsterConfig(CleaningConfig):
    """Config of cleaning Dagster's own storage."""

    runs_keep_hours: int = Field(
        default=int(dagster_storage.RUNS_KEPT.total_seconds() // 3600),
        ge=1,
        le=24 * 365,
        description="Hours finished runs and ticks are kept",
    )
    events_keep_days: int = Field(
        default=dagster_storage.EVENTS_KEPT.days, ge=1, le=365, description="Days of points on assets kept"
    )


def _tell(context: dg.OpExecutionContext, done: Done) -> None:
    context.log.info(done.markdown())
    context.add_output_metadata(
        {
            "report": dg.MetadataValue.md(done.markdown()),
            "removed": sum(done.removed.values()),
            "freed_bytes": done.freed,
            "dry_run": done.dry_run,
        }
    )


def _do(context: dg.OpExecutionContext, act: Callable[[], Done]) -> None:
    _tell(context, act())


@dg.op(retry_policy=RETRY)
def keep_partitions(
    context: dg.OpExecutionContext, config: PartitionsConfig, postgres: PostgresResource
) -> None:
    """Makes the partitions of the days ahead, takes old ones away."""
    keep = timedelta(hours=config.keep_hours)
    settings = postgres.settings()
    _do(
        context,
        lambda: housekeeping.partitions(settings, dry_run=config.dry_run, keep=keep, ahead=config.ahead_days),
    )


@dg.op(retry_policy=RETRY)
def forget_finished_games(
    context: dg.OpExecutionContext, config: GamesConfig, postgres: PostgresResource
) -> None:
    """Removes the traces of games that ended long ago."""
    keep = timedelta(days=config.keep_days)
    _do(context, lambda: housekeeping.finished_games(postgres.settings(), dry_run=config.dry_run, keep=keep))


@dg.op(retry_policy=RETRY)
def forget_old_rows(
    context: dg.OpExecutionContext, config: CleaningConfig, postgres: PostgresResource
) -> None:
    """Folds minutes into hours; removes old observations, alerts, settled dead letters."""
    _do(context, lambda: housekeeping.old_rows(postgres.settings(), dry_run=config.dry_run))


@dg.op(retry_policy=RETRY)
def clean_dagster(context: dg.OpExecutionContext, config: DagsterConfig) -> None:
    """Deletes Dagster's own old runs, ticks and points on assets, which it does not do by itself."""
    _do(
        context,
        lambda: dagster_storage.clean(
            context.instance,
            dry_run=config.dry_run,
            runs_kept=timedelta(hours=config.runs_keep_hours),
            events_kept=timedelta(days=config.events_keep_days),
        ),
    )


@dg.op(retry_policy=RETRY)
def reconcile_games(
    context: dg.OpExecutionContext, config: CleaningConfig, postgres: PostgresResource
) -> None:
    """Repairs live_games and tells what no event told."""
    _do(context, lambda: housekeeping.reconcile(postgres.settings(), dry_run=config.dry_run))


@dg.op
def look_at_key_ages(context: dg.OpExecutionContext, postgres: PostgresResource) -> None:
    """Says how old the keys are, and which are due to be rotated."""
    _do(context, lambda: housekeeping.key_ages(postgres.settings()))
