-- name: live
select game_id from orchestration.live_games order by game_id

-- name: act
select game_id, phase, outcome
from orchestration.act_on_games(%(action)s, %(ids)s::uuid[], %(by)s, %(reason)s, %(seconds)s::integer, %(dry_run)s)

-- name: retry
select orchestration.retry_set_aside(%(ids)s::uuid[], %(by)s, %(reason)s)

-- name: sync
select orchestration.ask_time_sync(%(ids)s::uuid[], %(by)s, %(reason)s)

-- name: drop
select orchestration.drop_set_aside(%(id)s, %(by)s, %(reason)s)

-- name: handler
select e.handler, e.percentage, e.decided_at, e.released_at, l.phase, l.deadline, l.paused,
       a.error as set_aside_error, a.retry_at
from orchestration.enrolments e
left join orchestration.live_games l on l.game_id = e.game_id
left join orchestration.set_aside a on a.game_id = e.game_id
where e.game_id = %(id)s

-- name: timeline
select at, kind, seq, what, detail, request_id
from (
    select t.at, 'phase' as kind, null::bigint as seq, t.from_phase || ' -> ' || t.to_phase as what,
           t.cause || coalesce(', deadline ' || orchestration.iso(t.deadline), '')
               || coalesce(', ' || round(t.lateness_ms::numeric, 1) || ' ms late', '')
               || case when t.rebased then ', rebased' else '' end
               || coalesce(', until ' || orchestration.iso(t.next_deadline), '') as detail,
           t.request_id, 1 as k, t.id
    from orchestration.transitions t where t.game_id = %(id)s
    union all
    select o.occurred_at, 'event', s.seq, o.type,
           coalesce(c.outcome || coalesce(' ' || (select string_agg(replace(k, '-' || o.game_id, '') || '@' || v, ' ' order by k)
                                                  from jsonb_each_text(c.timetokens) x (k, v)), '')
                    || ', ' || round(extract(epoch from c.at - o.occurred_at) * 1000, 1) || ' ms after', 'waiting'),
           o.request_id, 2, o.id
    from orchestration.outbox o
    left join orchestration.sequenced s on s.outbox_id = o.id
    left join orchestration.outcomes c on c.outbox_id = o.id
    where o.game_id = %(id)s
    union all
    select f.at, 'attempt', null, f.channel,
           'attempt ' || f.attempt || coalesce(' accepted: ' || f.timetoken, ' failed: ' || f.verdict || ', ' || f.reason),
           null, 3, f.outbox_id
    from orchestration.attempts f where f.game_id = %(id)s
    union all
    select d.dead_at, 'dead letter', d.seq, d.type, d.reason || coalesce(': ' || d.last_answer, ''), d.request_id, 4, 0
    from orchestration.dead_letters d where d.game_id = %(id)s
    union all
    select a.at, 'operator', null, a.action || ' by ' || a.operator, a.reason || coalesce(' (' || (a.details ->> 'outcome') || ')', ''),
           a.request_id, 5, a.id
    from orchestration.operator_actions a where a.game_id = %(id)s
) all_of_it
order by at, k, id

-- name: lateness
select count(*) as transitions,
       percentile_cont(array[0.5, 0.95, 0.99]) within group (order by lateness_ms) as percentiles,
       max(lateness_ms) as largest,
       count(*) filter (where lateness_ms < 0) as early,
       count(*) filter (where rebased) as rebased
from orchestration.transitions
where at > clock_timestamp() - %(window)s::interval and cause = 'timer' and handler = 'orchestration'

-- name: next_deadlines
select l.game_id, l.phase, l.deadline, extract(epoch from l.deadline - clock_timestamp())::float8 as next_in
from orchestration.live_games l
where not l.paused and l.deadline is not null
  and not exists (select from orchestration.set_aside a where a.game_id = l.game_id)
order by l.deadline limit %(limit)s

-- name: set_aside
select a.game_id, l.phase, a.since, a.attempts, a.retry_at, a.sqlstate, a.error
from orchestration.set_aside a left join orchestration.live_games l on l.game_id = a.game_id
order by a.since limit %(limit)s
