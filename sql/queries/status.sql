-- What `sketchy status` and the live screen show. All of it is read as sketchy_operator.

-- name: games
select phase, count(*)::int as games, count(*) filter (where deadline < clock_timestamp() and not paused)::int as overdue
from orchestration.live_games
group by phase

-- name: overdue
select coalesce(extract(epoch from clock_timestamp() - min(l.deadline)), 0)::float8 as oldest_seconds,
       (select count(*) from orchestration.set_aside)::int as set_aside,
       (select count(*) from orchestration.trigger_failures where resolved_at is null)::int as trigger_failures
from orchestration.live_games l
where not l.paused and l.deadline < clock_timestamp()

-- name: transitions
select count(*)::int as transitions,
       count(*) filter (where cause = 'timer')::int as by_timer,
       percentile_disc(0.5) within group (order by lateness_ms) filter (where cause = 'timer') as p50_ms,
       percentile_disc(0.99) within group (order by lateness_ms) filter (where cause = 'timer') as p99_ms,
       max(lateness_ms) filter (where cause = 'timer') as max_ms
from orchestration.transitions
where at > clock_timestamp() - make_interval(secs => %(window)s)

-- name: recent_events
with recent as (
    select id, occurred_at from orchestration.outbox order by id desc limit %(limit)s
)
select count(*) filter (where o.outbox_id is null)::int as waiting,
       count(*) filter (where o.outcome = 'delivered'
                        and o.at > clock_timestamp() - make_interval(secs => %(window)s))::int as sent,
       coalesce(extract(epoch from clock_timestamp() - min(recent.occurred_at) filter (where o.outbox_id is null)), 0)::float8
           as oldest_seconds
from recent
left join orchestration.outcomes o on o.outbox_id = recent.id

-- name: waiting_events
select count(*)::int as waiting,
       coalesce(extract(epoch from clock_timestamp() - min(b.occurred_at)), 0)::float8 as oldest_seconds
from orchestration.outbox b
where not exists (select from orchestration.outcomes o where o.outbox_id = b.id and o.occurred_at = b.occurred_at)

-- name: dead_letters
select count(*)::int as dead from orchestration.dead_letters where replayed_at is null and discarded_at is null

-- name: held_back
select coalesce(max((s.report ->> 'held_back_share')::float8), 0)::float8 as share
from orchestration.shifts s
where s.kind = 'fanout' and s.ended_at is null and s.heartbeat_at > clock_timestamp() - interval '5 seconds'

-- name: shifts
select s.kind, s.shift_id::text, s.pid, s.host, s.version, s.dagster_run_id,
       extract(epoch from clock_timestamp() - s.heartbeat_at)::float8 as silent_seconds,
       extract(epoch from clock_timestamp() - s.started_at)::float8 as age_seconds,
       (select count(*) from orchestration.lanes l where l.holder = s.shift_id)::int as lanes
from orchestration.shifts s
where s.ended_at is null and s.heartbeat_at > clock_timestamp() - interval '1 minute'
order by s.kind desc, s.started_at

-- name: circuit
select state, reason, extract(epoch from clock_timestamp() - since)::float8 as since_seconds
from orchestration.circuit order by keyset

-- name: flags
select name, enabled, value::float8 from orchestration.flags order by name

-- name: first_transition_after
select extract(epoch from min(at) - %(since)s)::float8 from orchestration.transitions
where at > %(since)s and cause <> 'application'
