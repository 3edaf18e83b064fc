-- What the gateway asks, as sketchy_gateway. Each is one statement: it works behind a transaction-mode pooler.

-- Behind a pooler nothing outlives a transaction, so the role and the limits are set in each.
-- name: enter
select set_config('role', coalesce(%(role)s, current_setting('role')), true),
       set_config('statement_timeout', %(statement_timeout)s, true),
       set_config('lock_timeout', %(lock_timeout)s, true)

-- name: begin_session
select set_config('statement_timeout', %(statement_timeout)s, false),
       set_config('lock_timeout', %(lock_timeout)s, false)

-- name: backend
select pg_backend_pid()

-- name: ready
select to_regprocedure('orchestration.games_of_player(uuid, integer)') is not null as value

-- name: connections_wanted
select (select greatest(1, least(100, f.value))::integer
        from orchestration.flags f where f.name = 'gateway_connections' and f.enabled) as value

-- name: game_timer
select phase, plays, time_remaining, phase_duration, phase_expires_at, server_time
from orchestration.game_timer(%(game_id)s, %(user_id)s)

-- name: games_of_player
select game_id::text as value from orchestration.games_of_player(%(user_id)s, %(limit)s) as game_id

-- name: accept_event
select outbox_id, event_id::text, occurred_at, channels
from orchestration.accept_event(%(game_id)s, %(subject)s, %(type)s, %(user_id)s, %(data)s, %(request_id)s)

-- name: timer_pass
select skipped, switched_off, processed, errors, lock_ms, query_ms, processing_ms
from orchestration.timer_pass(%(request_id)s)

-- The bound on occurred_at spares the partitions that cannot hold them.
-- name: outcomes
select o.outbox_id, o.outcome, o.attempts, o.timetokens, d.reason
from orchestration.outcomes o
left join orchestration.dead_letters d on d.event_id = o.event_id
where o.outbox_id = any (%(outbox_ids)s) and o.occurred_at >= %(since)s

-- One event more than asked for says that there are more.
-- name: events_after
select s.seq, s.event_id::text, b.type, b.user_id, b.data, b.request_id, b.occurred_at,
       coalesce(o.outcome, 'waiting') as state, o.after_seq, coalesce(o.timetokens, '{}') as timetokens
from (
    select q.seq, q.event_id, q.outbox_id, q.occurred_at
    from orchestration.sequenced q
    where q.game_id = %(game_id)s and q.seq > %(after)s
    order by q.seq
    limit %(limit)s + 1
) s
join orchestration.outbox b on b.id = s.outbox_id and b.occurred_at = s.occurred_at
left join orchestration.outcomes o on o.outbox_id = s.outbox_id and o.occurred_at = s.occurred_at
order by s.seq

-- name: last_seq
select greatest((select max(s.seq) from orchestration.sequenced s where s.game_id = %(game_id)s),
                (select l.seq from orchestration.last_seqs l where l.game_id = %(game_id)s), 0) as value

-- name: switch_row_security
select orchestration.switch_application_row_security(%(on)s)

-- name: row_security
select c.relname::text, c.relrowsecurity,
       exists (select from orchestration.application_row_security r where r.table_name = c.relname)
from pg_class c
where c.oid in ('public.games'::regclass, 'public.game_participants'::regclass)
order by c.relname

-- name: who_blocks_row_security
select distinct a.pid, a.application_name, a.usename::text as "user", a.state,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_age,
       extract(epoch from clock_timestamp() - a.query_start)::float8 as query_age,
       left(a.query, 120) as query
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.granted and a.pid <> pg_backend_pid()
  and l.database = (select oid from pg_database where datname = current_database())
  and l.relation in ('public.games'::regclass, 'public.game_participants'::regclass)
