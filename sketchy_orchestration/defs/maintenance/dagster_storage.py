"""What Dagster keeps and does not clean by itself: finished runs, ticks, runless asset events and checks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.dagster_run import RunsFilter
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.schedules.schema import JobTickTable
from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage
from sqlalchemy import delete, func, select

from sketchy_orchestration.monitoring.housekeeping import Done

RUNS_KEPT = timedelta(days=2)
EVENTS_KEPT = timedelta(days=14)
SKIPPED_TICKS_KEPT = timedelta(hours=6)
"""Sensors and schedules skip 35,000 times a day; Dagster itself keeps that for a day at least, 45 MB."""

_BATCH = 100
_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def clean(
    instance: dg.DagsterInstance,
    *,
    dry_run: bool = False,
    runs_kept: timedelta = RUNS_KEPT,
    events_kept: timedelta = EVENTS_KEPT,
    most: int = 20_000,
    now: datetime | None = None,
) -> Done:
    """Delete finished runs, ticks, runless events and evaluations of checks that are older.

    Args:
        most: runs deleted at most, so that one call ends.
        now: the moment ages are counted from; this one when not given.
    """
    done = Done("dagster_storage", dry_run)
    moment = now or datetime.now(UTC)
    done.removed["runs"] = _runs(instance, moment - runs_kept, dry_run=dry_run, most=most)
    done.removed["ticks"] = _ticks(instance, moment - runs_kept, dry_run=dry_run)
    for what, count in _runless(instance, moment - events_kept, dry_run=dry_run).items():
        done.removed[what] = count
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


def _ticks(instance: dg.DagsterInstance, before: datetime, *, dry_run: bool) -> int:
    old = _old_ticks(instance, before)
    if not dry_run:
        for state in instance.all_instigator_state():
            instance.purge_ticks(state.instigator_origin_id, state.selector_id, before.timestamp())
        old -= _old_ticks(instance, before)
    return old


def forget_skipped_ticks(instance: dg.DagsterInstance, now: datetime | None = None) -> None:
    """Delete ticks older than SKIPPED_TICKS_KEPT that requested nothing; cheap enough for every hour."""
    before = (now or datetime.now(UTC)) - SKIPPED_TICKS_KEPT
    for state in instance.all_instigator_state():
        instance.purge_ticks(
            state.instigator_origin_id, state.selector_id, before.timestamp(), [TickStatus.SKIPPED]
        )


def _old_ticks(instance: dg.DagsterInstance, before: datetime) -> int:
    storage = instance.schedule_storage
    if not isinstance(storage, SqlScheduleStorage):
        return 0
    old = select(func.count()).select_from(JobTickTable).where(JobTickTable.c.timestamp < _stored(before))
    with storage.connect() as connection:
        return int(connection.execute(old).scalar_one())


def _runless(instance: dg.DagsterInstance, before: datetime, *, dry_run: bool) -> dict[str, int]:
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return {}
    events, checks = SqlEventLogStorageTable, AssetCheckExecutionsTable
    # The newest evaluation of a check is what the UI shows, however old it is.
    newest = select(func.max(checks.c.id)).group_by(checks.c.asset_key, checks.c.check_name)
    old = {
        "runless events": (
            events,
            (events.c.run_id == RUNLESS_RUN_ID) & (events.c.timestamp < _stored(before)),
        ),
        "evaluations of checks": (
            checks,
            (checks.c.create_timestamp < _stored(before)) & checks.c.id.not_in(newest),
        ),
    }
    removed = {}
    with storage.index_connection() as connection:
        for what, (table, condition) in old.items():
            count = int(
                connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()
            )
            if not dry_run and count:
                connection.execute(delete(table).where(condition))
            removed[what] = count
    return removed


def _stored(moment: datetime) -> datetime:
    """As Dagster stores moments: of UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)
