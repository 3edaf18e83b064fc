-- name: rollouts
-- Of one flag or of all, newest first.
select r.id, r.flag, r.plan, r.state, r.pause, r.why, r.step, r.percentage::float8 as percentage, r.before::float8 as before,
       r.good, r.attempt, r.version, r.started_at, r.started_by, r.step_since, r.paused_at, r.paused_seconds, r.changed_at,
       r.looks, r.looked_at, r.counts, r.release
from orchestration.rollouts r
where (%(flag)s::text is null or r.flag = %(flag)s) and (%(id)s::bigint is null or r.id = %(id)s)
  and (not %(active)s or r.state in ('running', 'paused'))
order by r.id desc
limit %(limit)s

-- name: flag_now
select f.kind, f.enabled, f.value::float8 as value, f.changed_by as by, f.reason
from orchestration.flags f where f.name = %(flag)s

-- name: begin
select orchestration.begin_rollout(%(flag)s, %(plan)s, %(percentage)s::numeric, %(release)s, %(by)s, %(reason)s, %(now)s,
                                   %(messages)s)

-- name: change
select orchestration.change_rollout(%(id)s, %(version)s, %(to)s, %(action)s, %(by)s, %(reason)s, %(details)s, %(messages)s)

-- name: lock_flags
select pg_advisory_xact_lock(orchestration.lock_class(), 3)

-- name: record_look
select orchestration.record_look(%(id)s, %(version)s, %(looks)s, %(now)s, %(checkpoint)s, %(counts)s, %(verdicts)s)

-- name: halt
select orchestration.halt_rollouts(%(by)s, %(reason)s, %(messages)s)

-- name: lease
-- A holder that falls silent loses it, and in a transaction at once: a halt waits for no longer than that.
select pg_try_advisory_lock(orchestration.lock_class(), 5000), set_config('idle_session_timeout', '60s', false),
       set_config('idle_in_transaction_session_timeout', '500ms', false)

-- name: give_back
select pg_advisory_unlock(orchestration.lock_class(), 5000)

-- name: changes
select c.version, c.at, c.action, c.by, c.reason, c.state, c.step, c.percentage::float8 as percentage, c.details, c.request_id
from orchestration.rollout_changes c where c.rollout_id = %(id)s order by c.version desc limit %(limit)s

-- name: verdicts
-- The newest of each metric at the step where the rollout stands, or stood.
select distinct on (v.metric) v.metric, v.verdict, v.value, v.sample, v.dry_run, v.said, v.at, v.checkpoint
from orchestration.rollout_verdicts v
where v.rollout_id = %(id)s and v.version = (select max(x.version) from orchestration.rollout_verdicts x
                                             where x.rollout_id = %(id)s)
order by v.metric, v.id desc

-- name: window
select w.metric, w.label, w.count, w.total, w.largest, w.buckets
from orchestration.metric_window(%(since)s, %(until)s) w

-- name: ended_games
select g.handler, g.completed, g.overrun_ms from orchestration.ended_games(%(since)s, %(until)s) g

-- name: critical_alerts
select count(*), coalesce(string_agg(concat_ws(' ', a.rule, nullif(a.label, '')), ', ' order by a.rule), '')
from orchestration.alerts a where a.state = 'firing' and a.severity = 'critical'
