-- name: ensure_partitions
select orchestration.ensure_partitions(%(days)s)

-- name: old_partitions
select p.day, p.waiting, p.bytes from orchestration.old_partitions(%(keep)s::interval) p

-- name: detach_day
select orchestration.detach_day(%(day)s)

-- name: detached
select c.relname, pg_total_relation_size(c.oid)
from pg_catalog.pg_class c
where c.relnamespace = 'orchestration'::regnamespace and c.relkind = 'r' and not c.relispartition
  and c.relname ~ '^detached_(outbox|sequenced|outcomes|attempts)_[0-9]{8}$'

-- name: drop_detached
select orchestration.drop_detached()

-- name: forget_games
select f.what, f.rows from orchestration.forget_games(clock_timestamp() - %(keep)s::interval, %(limit)s, %(dry_run)s) f

-- name: forget_old
select orchestration.forget_old(%(what)s, clock_timestamp() - %(keep)s::interval, %(limit)s, %(dry_run)s)

-- name: fold_minutes
select orchestration.fold_minutes(clock_timestamp() - %(keep)s::interval, %(dry_run)s)

-- name: reconcile
select r.game_id::text, r.repair from orchestration.reconcile(%(dry_run)s, %(limit)s) r

-- name: sizes
select coalesce(sum(pg_total_relation_size(c.oid)) filter (where n.nspname = 'orchestration'), 0)::bigint as ours,
       coalesce(sum(pg_total_relation_size(c.oid)) filter (where n.nspname = 'dagster'), 0)::bigint as dagster
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm')
