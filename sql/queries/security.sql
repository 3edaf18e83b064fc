-- What the catalogue says of who may do what. Run as the owner; each row is one thing that should not be.

-- Functions that others than the running parts may call: name, who. The application's own functions ask the first, its
-- policies the second.
-- name: lint
with schema as (
    select n.oid, n.nspowner as owner, n.nspacl from pg_catalog.pg_namespace n where n.nspname = 'orchestration'
), parts (name) as (
    values ('sketchy_timer'), ('sketchy_relay'), ('sketchy_gateway'), ('sketchy_operator')
), exceptions (function, grantee) as (
    values ('orchestration.is_enrolled(uuid)', 'public'), ('orchestration.my_games()', 'authenticated')
), functions as (
    select p.oid, p.oid::regprocedure::text as name, p.proowner, p.prosecdef, p.proconfig, p.proacl
    from pg_catalog.pg_proc p join schema on p.pronamespace = schema.oid
    where p.proname !~ '^legacy_'
), relations as (
    select c.oid, c.oid::regclass::text as name, c.relowner, c.relacl, c.relrowsecurity, c.relkind
    from pg_catalog.pg_class c join schema on c.relnamespace = schema.oid
    where c.relkind in ('r', 'p', 'v', 'm', 'S')
), partitions as (
    select i.inhrelid as oid from pg_catalog.pg_inherits i
)
select format('function %%s runs as its owner without an empty search_path', f.name)
from functions f where f.prosecdef and not coalesce(f.proconfig @> array['search_path=""'], false)
union all
select format('function %%s runs as %%s, who does not own the schema', f.name, pg_get_userbyid(f.proowner))
from functions f, schema where f.prosecdef and f.proowner <> schema.owner
union all
select format('function %%s may be called by %%s', f.name, g.grantee)
from functions f, schema
cross join lateral (
    select case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee)::text end as grantee
    from aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a where a.grantee <> f.proowner
) g
where g.grantee not in (select name from parts)
  and (f.name, g.grantee) not in (select function, grantee from exceptions)
union all
select format('table %%s has no row level security', r.name)
from relations r
where r.relkind in ('r', 'p') and not r.relrowsecurity and r.oid not in (select oid from partitions)
union all
select format('%%s grants %%s to %%s', r.name, a.privilege_type,
              case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee)::text end)
from relations r cross join lateral aclexplode(r.relacl) a
where a.grantee <> r.relowner
  and (a.grantee = 0 or pg_get_userbyid(a.grantee)::text not in (select name from parts)
       or a.is_grantable or r.oid in (select oid from partitions)
       or a.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE'))
union all
select format('%%s may create objects in schema orchestration', pg_get_userbyid(a.grantee))
from schema cross join lateral aclexplode(schema.nspacl) a
where a.privilege_type = 'CREATE' and a.grantee <> schema.owner
union all
select format('role %%s %%s', r.rolname, what)
from pg_catalog.pg_roles r
cross join lateral (values
    (r.rolsuper, 'is a superuser'), (r.rolbypassrls, 'passes by row level security'),
    (r.rolcreaterole, 'may create roles'), (r.rolcreatedb, 'may create databases'), (r.rolreplication, 'may replicate')
) as has (it, what)
where has.it and r.rolname in (select name from parts)
union all
select format('role %%s is a member of %%s', pg_get_userbyid(m.member), pg_get_userbyid(m.roleid))
from pg_catalog.pg_auth_members m
where pg_get_userbyid(m.member) in (select name from parts)
union all
select format('the schema belongs to %%s, a superuser', r.rolname)
from schema join pg_catalog.pg_roles r on r.oid = schema.owner where r.rolsuper

-- name: listening
select coalesce(current_setting('listen_addresses', true), '')

-- Logins that can become one of the running parts, with how long their password is still good.
-- name: logins
select r.rolname::text, p.rolname::text as part, r.rolvaliduntil
from pg_catalog.pg_roles p
join pg_catalog.pg_auth_members m on m.roleid = p.oid
join pg_catalog.pg_roles r on r.oid = m.member and r.rolcanlogin
where p.rolname in ('sketchy_timer', 'sketchy_relay', 'sketchy_gateway', 'sketchy_operator')
order by p.rolname, r.rolname

-- Who may do what with each table, in letters: s select, i insert, u update, d delete; a capital is some columns only.
-- name: matrix
select c.relname::text as table_name, r.rolname::text as role,
       concat(
           case when has_table_privilege(r.oid, c.oid, 'select') then 's'
                when has_any_column_privilege(r.oid, c.oid, 'select') then 'S' end,
           case when has_table_privilege(r.oid, c.oid, 'insert') then 'i'
                when has_any_column_privilege(r.oid, c.oid, 'insert') then 'I' end,
           case when has_table_privilege(r.oid, c.oid, 'update') then 'u'
                when has_any_column_privilege(r.oid, c.oid, 'update') then 'U' end,
           case when has_table_privilege(r.oid, c.oid, 'delete') then 'd' end) as letters
from pg_catalog.pg_class c
cross join pg_catalog.pg_roles r
where c.relnamespace = to_regnamespace('orchestration') and c.relkind in ('r', 'p') and not c.relispartition
  and r.rolname in ('sketchy_timer', 'sketchy_relay', 'sketchy_gateway', 'sketchy_operator',
                    'anon', 'authenticated', 'service_role')
order by c.relname, r.rolname
