"""Days of Dagster's storage: the rows a running one has left, a sixteenth of as many as a day has of each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg

_PART = 16
"""Sizes are multiplied by this, rows divided: the test takes a sixteenth of the time."""
_SHIFT_RUNS = 96 // _PART
"""Runs a day of each kind of shift: two at a time, half an hour each."""
_OTHER_RUNS = 32 // _PART
"""Scheduled jobs a day, rounded up: reconcile 24, partitions_ahead 4, housekeeping."""
_POINTS = 288 // _PART
"""Points a day of each runless asset: one about every five minutes."""
_POINTS_OF_A_SHIFT = 6
_CHECKS = 32 // _PART

_TICKS = """
    with seen as (
        select selector_id, count(*) as n, extract(epoch from max(timestamp) - min(timestamp)) as seconds
        from job_ticks where id <= %(last)s group by selector_id
    ), rate as (
        select selector_id, n,
               case when n > 2 and seconds > 1 then round(86400 * (n - 1) / seconds / %(part)s)
                    else 24 / %(part)s end as a_day
        from seen
    ), sample as (
        select t.*, row_number() over (partition by t.selector_id order by t.id desc) - 1 as nth
        from job_ticks t
        where t.id <= %(last)s
    )
    insert into job_ticks
        (job_origin_id, selector_id, status, type, timestamp, tick_body, create_timestamp, update_timestamp)
    select s.job_origin_id, s.selector_id, s.status, s.type, m.at, s.tick_body, m.at, m.at
    from rate r cross join generate_series(1, r.a_day::integer / 4) g
    join sample s on s.selector_id = r.selector_id and s.nth = g %% r.n
    cross join lateral (select %(from)s::timestamp + g * interval '1 day' / r.a_day::float8 as at) m
"""
_RUN = """
    with copies as (
        select gen_random_uuid()::text as id, %(from)s::timestamp + g * interval '1 day' / %(n)s as at
        from generate_series(1, %(n)s) g
    ), run as (
        insert into runs (run_id, snapshot_id, pipeline_name, mode, status, run_body, create_timestamp,
                          update_timestamp, start_time, end_time)
        select c.id, r.snapshot_id, r.pipeline_name, r.mode, r.status,
               replace(r.run_body, r.run_id, c.id), c.at, c.at,
               extract(epoch from c.at), extract(epoch from c.at)
        from copies c, runs r where r.run_id = %(run)s
    ), tags as (
        insert into run_tags (run_id, key, value)
        select c.id, t.key, t.value from copies c, run_tags t where t.run_id = %(run)s
    ), events as (
        select e.*,
               1 + (e.dagster_event_type is not distinct from 'ASSET_MATERIALIZATION')::integer * %(points)s
                   as times
        from event_logs e where e.run_id = %(run)s
    )
    insert into event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
    select c.id, replace(e.event, e.run_id, c.id), e.dagster_event_type, c.at, e.step_key, e.asset_key,
           e.partition
    from copies c, events e, generate_series(1, e.times)
"""
_RUNLESS = """
    insert into event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
    select e.run_id, e.event, e.dagster_event_type, %(from)s::timestamp + g * interval '1 day' / k.n,
           e.step_key, e.asset_key, e.partition
    from (select distinct on (l.dagster_event_type, l.asset_key,
                              case when l.dagster_event_type like 'ASSET_CHECK%%'
                                   then substring(l.event from '"check_name": "([a-z_]+)"') end) l.*
          from event_logs l where l.run_id = '' and l.id <= %(last)s) e
    cross join lateral (select case when e.dagster_event_type like 'ASSET_CHECK%%' then %(checks)s
                                    else %(points)s end as n) k
    cross join lateral generate_series(1, k.n) g
"""
_CHECK_ROWS = """
    insert into asset_check_executions (asset_key, check_name, partition, run_id, execution_status,
        evaluation_event, evaluation_event_timestamp, evaluation_event_storage_id, create_timestamp)
    select c.asset_key, c.check_name, c.partition, c.run_id, c.execution_status, c.evaluation_event,
           m.at, c.evaluation_event_storage_id, m.at
    from (select distinct on (asset_key, check_name) * from asset_check_executions where id <= %(last)s) c
    cross join generate_series(1, %(checks)s) g
    cross join lateral (select %(from)s::timestamp + g * interval '1 hour' as at) m
"""
_SIZE = """
    select sum(pg_total_relation_size(oid)) / 1e6 from pg_class
    where relnamespace = 'dagster'::regnamespace and relkind = 'r'
"""
_TABLES = ("job_ticks", "event_logs", "runs", "run_tags", "asset_check_executions")


class Week:
    """Writes days into the storage of a Dagster that has stopped.

    Attributes:
        rows_a_day: how many rows the last day wrote, by table.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True, options="-csearch_path=dagster")
        self._last = {table: self._one(f"select coalesce(max(id), 0) from {table}") for table in (*_TABLES,)}
        self._samples = {
            job: self._one(
                "select run_id from runs where pipeline_name = %s and status = 'SUCCESS' order by id limit 1",
                job,
            )
            for job in ("timer_shift", "fanout_shift", "performance_review")
        }
        assert all(self._samples.values()), self._samples
        self.rows_a_day: dict[str, int] = {}
        self._begun = float(self._one(_SIZE))

    def __enter__(self) -> Week:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def live_through_a_day(self, *, before: datetime, forget_ticks: Callable[[datetime], None]) -> None:
        """Write the rows of the day that ends then; every six hours the ticks' cleaning comes by."""
        begin = before - timedelta(days=1)
        given = {"from": begin.replace(tzinfo=None)}
        did = {"job_ticks": 0}
        for quarter in range(4):
            now = begin + quarter * timedelta(hours=6)
            since = {"from": now.replace(tzinfo=None)}
            did["job_ticks"] += self._do(_TICKS, last=self._last["job_ticks"], part=_PART, **since)
            forget_ticks(now + timedelta(hours=6))
            self._connection.execute("vacuum job_ticks")
        for job, run in self._samples.items():
            times = _SHIFT_RUNS if job.endswith("shift") else _OTHER_RUNS
            more = _POINTS_OF_A_SHIFT - 1
            rows = self._do(_RUN, run=run, n=times, points=more, **given)
            did["event_logs"] = did.get("event_logs", 0) + rows
            did["runs"] = did.get("runs", 0) + times
        values = {"points": _POINTS, "checks": _CHECKS, **given}
        did["event_logs"] += self._do(_RUNLESS, last=self._last["event_logs"], **values)
        did["asset_check_executions"] = self._do(
            _CHECK_ROWS, last=self._last["asset_check_executions"], **values
        )
        self.rows_a_day = {table: rows * _PART for table, rows in did.items()}

    def megabytes(self) -> float:
        """All of the schema, when autovacuum has come by."""
        for table in _TABLES:
            self._connection.execute(f"vacuum {table}")
        return round(self._begun + _PART * (float(self._one(_SIZE)) - self._begun), 1)

    def _do(self, statement: str, **values: object) -> int:
        return self._connection.execute(statement, values).rowcount

    def _one(self, statement: str, *values: object) -> Any:
        row = self._connection.execute(statement, values or None).fetchone()
        return row[0] if row else None
