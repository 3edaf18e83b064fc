-- What the migrator asks and keeps. Run by the owner of the schema.

-- name: bookkeeping_exists
select to_regclass('orchestration.migrations') is not null

-- The table comes with the first migration and goes with its way back; the running parts may read their version.
-- name: make_bookkeeping
create table if not exists orchestration.migrations (
    number integer primary key check (number > 0),
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp(),
    applied_by text not null default session_user,
    version text not null,
    catalogue jsonb
)

-- name: grant_bookkeeping
do $$
declare
    v_role text;
begin
    foreach v_role in array array['sketchy_timer', 'sketchy_relay', 'sketchy_gateway', 'sketchy_operator'] loop
        if to_regrole(v_role) is not null then
            execute format('grant select on orchestration.migrations to %I', v_role);
        end if;
    end loop;
end
$$

-- name: drop_bookkeeping
drop table orchestration.migrations

-- name: applied
select number, name, checksum, applied_at, applied_by, version from orchestration.migrations order by number

-- name: record
insert into orchestration.migrations (number, name, checksum, version)
values (%(number)s, %(name)s, %(checksum)s, %(version)s)

-- name: forget
delete from orchestration.migrations where number = %(number)s

-- name: keep_catalogue
update orchestration.migrations set catalogue = %(catalogue)s where number = %(number)s

-- name: kept_catalogue
select catalogue from orchestration.migrations where number = %(number)s

-- name: try_lock
select pg_try_advisory_lock(%(class)s, %(number)s)

-- name: lock_holder
select a.pid, a.application_name, a.usename::text as "user", a.state,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_age,
       extract(epoch from clock_timestamp() - a.query_start)::float8 as query_age,
       left(a.query, 120) as query
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.classid = %(class)s and l.objid = %(number)s
    and l.database = (select oid from pg_database where datname = current_database())

-- Is the migration waiting, and how long has anybody waited for a table that it holds or stands in line for?
-- name: watch
select coalesce(bool_or(w.pid = %(pid)s), false),
       coalesce(max(extract(epoch from clock_timestamp() - w.waitstart)) filter (where w.pid <> %(pid)s), 0)::float8
from pg_locks w
where not w.granted
    and (w.pid = %(pid)s
         or (w.database, w.relation) in (select o.database, o.relation from pg_locks o where o.pid = %(pid)s
                                         and o.relation is not null))

-- name: blockers
select a.pid, a.application_name, a.usename::text as "user", a.state,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_age,
       extract(epoch from clock_timestamp() - a.query_start)::float8 as query_age,
       left(a.query, 120) as query
from pg_stat_activity a
where a.pid = any (pg_blocking_pids(%(pid)s))
order by a.xact_start nulls last

-- name: step_aside
select pg_cancel_backend(%(pid)s)

-- name: can_say_why_not_down
select to_regprocedure('orchestration.why_not_down()') is not null

-- name: why_not_down
select reason::text from orchestration.why_not_down() as reason

-- name: missing_tables
select 'public.' || name
from unnest(%(tables)s::text[]) with ordinality as wanted (name, place)
where to_regclass('public.' || quote_ident(name)) is null
order by place

-- name: missing_permissions
select format('own table public.%%s (it belongs to %%s)', c.relname, pg_get_userbyid(c.relowner))
from pg_class c
where c.relnamespace = to_regnamespace('public') and c.relname = any (%(tables)s)
    and not pg_has_role(current_user, c.relowner, 'usage')
union all
select format('create a schema in database %%I: grant create on database %%I to %%I',
              current_database(), current_database(), current_user)
where to_regnamespace('orchestration') is null
    and not has_database_privilege(current_database(), 'create')
union all
select format('own schema orchestration (it belongs to %%s)', pg_get_userbyid(n.nspowner))
from pg_namespace n
where n.nspname = 'orchestration' and not pg_has_role(current_user, n.nspowner, 'usage')
union all
select format('create role %%s: alter role %%I createrole, or create the role and grant it to %%I',
              wanted, current_user, current_user)
from unnest(%(roles)s::text[]) as wanted, pg_roles me
where me.rolname = current_user and to_regrole(wanted) is null and not (me.rolcreaterole or me.rolsuper)
union all
select format('become role %%s: grant %%s to %%I', wanted, wanted, current_user)
from unnest(%(roles)s::text[]) as wanted, pg_roles me
where me.rolname = current_user and to_regrole(wanted) is not null
    and not pg_has_role(current_user, to_regrole(wanted), case
        when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end)
    and not pg_has_role(current_user, to_regrole(wanted), 'usage with admin option')
    and not (me.rolcreaterole and current_setting('server_version_num')::int < 160000)

-- name: not_ours
select count(*) from pg_class where relnamespace = to_regnamespace('orchestration')
