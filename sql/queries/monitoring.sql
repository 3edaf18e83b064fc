-- name: signals
select s.name, s.label, s.value from orchestration.signals() s

-- name: roll_up
select orchestration.roll_up_minutes()

-- name: sums
-- What the window holds, histograms merged.
with seen as (
    select m.metric, m.label, m.count, m.total, m.largest, m.buckets
    from orchestration.metric_minutes m
    where m.minute >= %(since)s::timestamptz and m.minute < coalesce(%(until)s::timestamptz, 'infinity')
), buckets as (
    select s.metric, s.label, e.key::integer as bucket, sum(e.value::bigint)::bigint as count
    from seen s cross join lateral jsonb_each_text(s.buckets) e
    group by 1, 2, 3
)
select s.metric, s.label, sum(s.count)::bigint as count, sum(s.total)::float8 as total, max(s.largest) as largest,
       (select coalesce(jsonb_object_agg(b.bucket, b.count), '{}') from buckets b
        where b.metric = s.metric and b.label = s.label) as buckets
from seen s
group by s.metric, s.label

-- name: totals
select t.metric, t.label, t.count, t.total, 0::float8 as largest, t.buckets from orchestration.metric_totals t

-- name: now
select clock_timestamp()

-- name: observe
select orchestration.observe(%(name)s, %(label)s, %(value)s, %(note)s)

-- name: accounted
-- Every event beside what became of it, of the hours the ledger knows.
select coalesce(sum(l.written), 0)::bigint as written,
       coalesce(sum(l.delivered + l.dead + l.expired), 0)::bigint as settled,
       coalesce(sum(greatest(0, l.written - l.delivered - l.dead - l.expired - l.waiting)), 0)::bigint as unaccounted
from orchestration.ledger l where l.hour >= %(since)s::timestamptz

-- name: refresh_ledger
select orchestration.refresh_ledger()

-- name: lock_watch
select pg_try_advisory_lock(orchestration.lock_class(), 4000)

-- name: unlock_watch
select pg_advisory_unlock(orchestration.lock_class(), 4000)

-- name: sweep_time
-- Of the sweeps in the current reports of the shifts at work.
select coalesce(sum((s.report ->> 'sweep_ms')::float8) / nullif(sum((s.report ->> 'sweeps')::float8), 0), 0)::float8
from orchestration.shifts s
where s.kind = 'timer' and s.heartbeat_at > clock_timestamp() - interval '5 minutes'

-- name: inputs
-- What people reported about players: tickets are counted, satisfaction is an average.
select o.name, o.label, case o.name when 'support_tickets' then sum(o.value) else avg(o.value) end::float8 as value
from orchestration.observations o
where o.name in ('support_tickets', 'satisfaction') and o.at >= %(since)s::timestamptz
group by o.name, o.label
order by o.name desc, o.label
