-- The emergency stop and its way back, as sketchy_operator.

-- name: standing
select stop_id, at, operator, reason, flags_before, shifts_ended, games_released, released_at, steps
from orchestration.emergency_stops where lifted_at is null

-- name: last
select stop_id, at, operator, reason, flags_before, shifts_ended, games_released, released_at, steps, lifted_at, lifted_by
from orchestration.emergency_stops order by stop_id desc limit %(limit)s

-- name: stop
select stop_id, at, operator, reason, flags_before, shifts_ended, games_released, released_at, steps
from orchestration.emergency_stop(%(by)s, %(reason)s, %(triggers_off)s)

-- name: would_stop
-- What an emergency stop would find now.
select (select jsonb_object_agg(f.name, f.enabled) from orchestration.flags f
        where f.name in ('timer_monitoring', 'pubnub_broadcasting', 'triggers', 'emergency_stop')) as flags,
       (select count(*)::int from orchestration.shifts s where s.ended_at is null) as shifts,
       (select count(*)::int from orchestration.live_games) as games,
       (select coalesce(sum((s.report ->> 'in_flight')::numeric), 0)::int from orchestration.shifts s
        where s.ended_at is null and s.kind = 'fanout') as in_flight

-- name: still_committing
select pid, application from orchestration.still_committing(%(since)s)

-- name: cancel_sweeps
select orchestration.cancel_sweeps()

-- name: relays
-- Sessions of relays, and lanes held by any of them.
select count(*)::int
from pg_locks l
where l.locktype = 'advisory' and l.database = (select d.oid from pg_database d where d.datname = current_database())
  and l.classid = orchestration.lock_class()::oid and l.objid between 1000 and 1031 and l.granted

-- name: release
select orchestration.release_games(%(by)s, %(reason)s)

-- name: horizon
-- Transactions that have written and are at work now have lower numbers.
select pg_snapshot_xmax(pg_current_snapshot())::text

-- name: older_writers
-- Whether one of them is still at work: it may have enrolled a game unseen.
select (pg_snapshot_xmin(pg_current_snapshot()) < %(horizon)s::xid8)::int

-- name: forget_released
select orchestration.forget_released()

-- name: expire_released
select orchestration.expire_released()

-- name: note
update orchestration.emergency_stops set steps = %(steps)s where stop_id = %(stop_id)s

-- name: lift
select stop_id, at, operator, reason, flags_before, shifts_ended, games_released, released_at, steps
from orchestration.lift_stop(%(by)s, %(reason)s)

-- name: recycle
-- Asks every shift to leave, so that its connections are made anew by its replacement.
update orchestration.shifts set ended_at = clock_timestamp(), end_reason = %(reason)s where ended_at is null
returning shift_id

-- name: act
select orchestration.note_action(%(by)s, %(action)s, %(reason)s, %(details)s)
