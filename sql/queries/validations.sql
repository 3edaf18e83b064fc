-- Verdicts and attestations, as sketchy_operator.

-- name: record
insert into orchestration.validations
    (began_at, target, suites, package, build, migrations, settings, passed, total, go, why, results, started_by)
values (%(began_at)s, %(target)s, %(suites)s, %(package)s, %(build)s, %(migrations)s, %(settings)s, %(passed)s, %(total)s,
        %(go)s, %(why)s, %(results)s, %(by)s)
returning validation_id

-- name: newest_of
select validation_id, ended_at, target, go, why, passed, total,
       extract(epoch from clock_timestamp() - ended_at)::float8 as age
from orchestration.validations
where (package, build, migrations, settings) = (%(package)s, %(build)s, %(migrations)s, %(settings)s)
  and suites @> %(suites)s::text[]
order by validation_id desc limit 1

-- name: list
select validation_id, ended_at, target, go, why, passed, total,
       extract(epoch from clock_timestamp() - ended_at)::float8 as age
from orchestration.validations order by validation_id desc limit %(limit)s

-- name: attest
insert into orchestration.attestations (item, attested_by, note, expires_at)
values (%(item)s, %(by)s, %(note)s, clock_timestamp() + make_interval(days => %(days)s))
returning item, attested_by, at, note, expires_at, expires_at > clock_timestamp() as valid

-- name: attestations
select distinct on (item) item, attested_by, at, note, expires_at, expires_at > clock_timestamp() and withdrawn_at is null as valid
from orchestration.attestations order by item, at desc

-- name: clean_up
-- Games that invented players made since, and have finished. As the owner of the application's tables.
with gone as (
    delete from public.games g
    using public.users u
    where u.id = g.created_by and u.email like '%%@players.example'
      and g.created_at >= %(began_at)s and g.status in ('completed', 'cancelled')
    returning g.id
)
select count(*)::int from gone
