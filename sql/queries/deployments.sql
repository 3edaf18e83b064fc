-- Deployments, step by step, as sketchy_operator.

-- name: begin
insert into orchestration.deployments (package, build, migrations, settings, label, config, started_by, reason)
values (%(package)s, %(build)s, %(migrations)s, %(settings)s, %(label)s, %(config)s, %(by)s, %(reason)s)
returning deployment_id

-- name: running
select deployment_id, began_at, state, package, build, migrations, settings, label, config, kept, started_by, reason, why
from orchestration.deployments where ended_at is null

-- name: newest
select deployment_id, began_at, state, package, build, migrations, settings, label, config, kept, started_by, reason, why
from orchestration.deployments order by deployment_id desc limit 1

-- name: steps
select place, name, state, began_at, ended_at, found from orchestration.deployment_steps
where deployment_id = %(deployment_id)s order by place

-- name: enter
insert into orchestration.deployment_steps (deployment_id, place, name, state, found)
values (%(deployment_id)s, %(place)s, %(name)s, %(state)s, %(found)s)
on conflict (deployment_id, place) do update
set state = excluded.state, found = case when excluded.found = '' then deployment_steps.found else excluded.found end,
    ended_at = case when excluded.state in ('doing', 'undoing') then null else clock_timestamp() end

-- name: keep
update orchestration.deployments set kept = kept || %(kept)s where deployment_id = %(deployment_id)s

-- name: state
update orchestration.deployments
set state = %(state)s, why = coalesce(%(why)s, why),
    ended_at = case when %(state)s in ('running', 'rolling_back') then null else clock_timestamp() end
where deployment_id = %(deployment_id)s

-- name: lock
-- Held for as long as somebody walks the deployment: it dies with whoever does.
select pg_try_advisory_lock(orchestration.lock_class(), 4000)

-- name: backup_marker
-- Where a restore that must not have this deployment ends.
select coalesce((select pg_current_wal_lsn()::text), '') as lsn, clock_timestamp()::text as at
