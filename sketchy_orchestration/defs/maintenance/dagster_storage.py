"""What Dagster keeps and does not clean by itself: finished runs, ticks, runless asset events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.dagster_run import RunsFilter
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import delete, func, select

from sketchy_orchestration.monitoring.housekeeping import Done

RUNS_KEPT = timedelta(days=2)
EVENTS_KEPT = timedelta(days=14)
_BATCH = 100
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def clean(
    instance: dg.DagsterInstance,
    *,
    dry_run: bool = False,
    runs_kept: timedelta = RUNS_KEPT,
    events_kept: timedelta = EVENTS_KEPT,
    most: int = 20_000,
) -> Done:
    """Delete finished runs, ticks and runless events that are older.

    Args:
        most: runs deleted at most, so that one call ends.
    """
    done = Done("dagster_storage", dry_run)
    now = datetime.now(UTC)
    done.removed["runs"] = _runs(instance, now - runs_kept, dry_run=dry_run, most=most)
    if not dry_run:
        done.removed["ticks"] = _ticks(instance, now - runs_kept)
    done.removed["runless events"] = _runless(instance, now - events_kept, dry_run=dry_run)
    return done


def _runs(instance: dg.DagsterInstance, before: datetime, *, dry_run: bool, most: int) -> int:
    old = RunsFilter(statuses=_FINISHED, updated_before=before)
    if dry_run:
        return instance.get_runs_count(old)
    deleted = 0
    while deleted < most:
        batch = instance.get_run_ids(old, limit=_BATCH)
        for run_id in batch:
            instance.delete_run(run_id)
        deleted += len(batch)
        if len(batch) < _BATCH:
            break
    return deleted


def _ticks(instance: dg.DagsterInstance, before: datetime) -> int:
    states = instance.all_instigator_state()
    for state in states:
        instance.purge_ticks(state.instigator_origin_id, state.selector_id, before.timestamp())
    return len(states)


def _runless(instance: dg.DagsterInstance, before: datetime, *, dry_run: bool) -> int:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return 0
    table = SqlEventLogStorageTable
    # Dagster stores moments of UTC without a zone.
    old = (table.c.run_id == RUNLESS_RUN_ID) & (table.c.timestamp < before.replace(tzinfo=None))
    with storage.index_connection() as connection:
        count = connection.execute(select(func.count()).select_from(table).where(old)).scalar_one()
        if not dry_run and count:
            connection.execute(delete(table).where(old))
    return int(count)
