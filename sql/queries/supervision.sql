-- What supervision and the backstops ask, as sketchy_operator. Shifts are few: their rows are read whole.

-- name: shifts
select s.shift_id, s.dagster_run_id as run_id, s.host, s.pid, s.heartbeat_at::text as heartbeat,
       extract(epoch from clock_timestamp() - s.started_at)::float8 as age,
       -- Nobody can beat while the database is down.
       extract(epoch from clock_timestamp() - greatest(s.heartbeat_at, pg_postmaster_start_time()))::float8 as silence,
       s.relieved_by is not null as relieved,
       extract(epoch from clock_timestamp() - s.ended_at)::float8 as ended_for,
       coalesce(s.release <> %(release)s and s.release = (select r.label from orchestration.releases r
           where r.current_since is not null and r.current_until is null), false) as outranks
from orchestration.shifts s
where s.kind = %(kind)s and (s.ended_at is null or s.dagster_run_id = any (%(run_ids)s))
order by s.started_at, s.shift_id

-- name: end_shift
update orchestration.shifts
set ended_at = clock_timestamp(), end_reason = %(reason)s
where shift_id = %(shift_id)s and ended_at is null and heartbeat_at::text = %(heartbeat)s
returning shift_id

-- name: end_all
update orchestration.shifts set ended_at = clock_timestamp(), end_reason = %(reason)s where ended_at is null

-- name: switch
select enabled, changed_by, reason from orchestration.flags where name = %(name)s

-- now(), not clock_timestamp(): only a stable expression is looked up in an index.

-- name: overdue_games
select count(*)::int as count,
       coalesce(extract(epoch from clock_timestamp() - min(due.deadline)), 0)::float8 as oldest,
       coalesce(orchestration.flag_on('timer_monitoring'), false) as enabled,
       0 as shifts
from (
    select l.deadline
    from orchestration.live_games l
    where l.deadline < now() - %(by)s::interval and not l.paused
      and not exists (select from orchestration.set_aside a
                      where a.game_id = l.game_id and a.retry_at > now())
    order by l.deadline
    limit %(limit)s
) due

-- name: overdue_events
with at_work as materialized (
    select count(*)::int as shifts
    from orchestration.shifts
    where kind = 'fanout' and ended_at is null and heartbeat_at > clock_timestamp() - %(fresh)s::interval
)
select count(waiting.id)::int as count,
       coalesce(extract(epoch from clock_timestamp() - min(waiting.occurred_at)), 0)::float8 as oldest,
       coalesce(orchestration.flag_on('pubnub_broadcasting'), false) as enabled,
       (select shifts from at_work) as shifts
from (
    select o.id, o.occurred_at
    from orchestration.outbox o
    -- They hold the lanes: nobody else could send, and counting a day's events is not free.
    where (select shifts from at_work) = 0
      and o.occurred_at < now() - %(by)s::interval
      and o.occurred_at > now() - %(window)s::interval
      and not exists (select from orchestration.outcomes c
                      where c.outbox_id = o.id and c.occurred_at = o.occurred_at)
    limit %(limit)s
) waiting
