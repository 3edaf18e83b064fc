-- What runs where, since when, as sketchy_operator.

-- name: list
select release_id, label, package, build, migrations, settings, placement, current_since, current_until, made_by, reason
from orchestration.releases
order by current_until desc nulls first, current_since desc
limit %(limit)s

-- name: current
select release_id, label, package, build, migrations, settings, placement, current_since, current_until, made_by, reason
from orchestration.releases where current_since is not null and current_until is null

-- name: previous
select release_id, label, package, build, migrations, settings, placement, current_since, current_until, made_by, reason
from orchestration.releases where current_until is not null order by current_until desc limit 1

-- name: at_work
select s.kind, s.release, s.version, s.host, s.pid, s.dagster_run_id, s.started_at, s.relieved_by is not null as relieved,
       s.heartbeat_at > clock_timestamp() - %(fresh)s::interval as beats
from orchestration.shifts s
where s.ended_at is null and s.heartbeat_at > clock_timestamp() - interval '1 minute'
order by s.kind desc, s.started_at

-- name: make_current
select orchestration.make_current(%(label)s, %(package)s, %(build)s, %(migrations)s, %(settings)s, %(placement)s, %(by)s,
                                  %(reason)s)

-- name: relieve_others
select orchestration.relieve_others(%(release)s, %(kind)s, %(wanted)s, %(fresh)s)
