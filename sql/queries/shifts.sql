-- name: start
insert into orchestration.shifts (shift_id, kind, version, host, pid, dagster_run_id, release)
values (%(shift_id)s, %(kind)s, %(version)s, %(host)s, %(pid)s, %(dagster_run_id)s, %(release)s)

-- name: beat
update orchestration.shifts s
set heartbeat_at = clock_timestamp(), report = %(report)s
where s.shift_id = %(shift_id)s and s.ended_at is null
returning s.relieved_by is not null as relieved,
          s.started_at < clock_timestamp() - %(hard_bound)s::interval as too_long,
          (select count(*) from orchestration.shifts o
           where o.kind = s.kind and o.ended_at is null and o.relieved_by is null
             and o.heartbeat_at > clock_timestamp() - %(fresh)s::interval
             and (o.started_at, o.shift_id) < (s.started_at, s.shift_id)) as rank

-- name: relieve
update orchestration.shifts s
set relieved_by = %(shift_id)s
where s.shift_id = (
    select o.shift_id
    from orchestration.shifts o
    where o.kind = %(kind)s and o.ended_at is null and o.relieved_by is null and o.shift_id <> %(shift_id)s
      and o.started_at < clock_timestamp() - %(soft_bound)s::interval
      and (select count(*) from orchestration.shifts n
           where n.kind = %(kind)s and n.ended_at is null and n.relieved_by is null
             and n.heartbeat_at > clock_timestamp() - %(fresh)s::interval) > %(wanted)s
    order by o.started_at
    limit 1
    for update skip locked)
returning s.shift_id

-- name: end
update orchestration.shifts
set ended_at = clock_timestamp(), end_reason = %(reason)s, report = coalesce(%(report)s, report)
where shift_id = %(shift_id)s and ended_at is null
