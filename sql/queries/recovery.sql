-- name: roles
select r.rolname from pg_catalog.pg_roles r where r.rolname !~ '^pg_' and not r.rolsuper

-- name: tables
select n.nspname, c.relname
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname = any (%(schemas)s)
order by 1, 2

-- name: seq_without_gaps
select count(*)
from (select s.game_id from orchestration.sequenced s where s.game_id is not null
      group by s.game_id having max(s.seq) - min(s.seq) + 1 <> count(*)) g

-- name: outcomes_of_known_events
select count(*) from orchestration.outcomes o
where not exists (select from orchestration.outbox b where b.id = o.outbox_id and b.occurred_at = o.occurred_at)

-- name: one_transition_out_of_a_phase
select count(*)
from (select t.game_id from orchestration.transitions t where t.cause = 'timer'
      group by t.game_id, t.from_phase having count(*) > 1) g

-- name: live_games_are_games
select count(*) from orchestration.live_games l
where not exists (select from public.games g where g.id = l.game_id)
