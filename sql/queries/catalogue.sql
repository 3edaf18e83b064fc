-- What the schema is made of, one row an object: its name and a hash of its definition. Run with an empty
-- search_path, so that every definition is printed with qualified names. The owner is called "owner", so that a
-- restored copy under another name compares equal; partitions come and go and are left out.

-- name: objects
with ours as (
    select n.oid, n.nspowner, n.nspacl from pg_catalog.pg_namespace n where n.nspname = 'orchestration'
), relations as (
    select c.* from pg_catalog.pg_class c join ours on c.relnamespace = ours.oid
    where not c.relispartition and c.relkind in ('r', 'p', 'v', 'm', 'S')
), grants as (
    select 'n' as kind, ours.oid, ours.nspowner as owner, coalesce(ours.nspacl, acldefault('n', ours.nspowner)) as acl
    from ours
    union all
    select 'c', r.oid, r.relowner,
           coalesce(r.relacl, acldefault(case r.relkind when 'S' then 's'::"char" else 'r'::"char" end, r.relowner))
    from relations r
    union all
    select 'f', p.oid, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_catalog.pg_proc p join ours on p.pronamespace = ours.oid
), granted as (
    select g.kind, g.oid, string_agg(
        case when a.grantee = 0 then 'public' when a.grantee = g.owner then 'owner'
             else pg_get_userbyid(a.grantee)::text end
        || '=' || a.privilege_type || case when a.is_grantable then '*' else '' end, ','
        order by a.grantee = g.owner, pg_get_userbyid(a.grantee), a.privilege_type) as text
    from grants g, aclexplode(g.acl) a
    group by g.kind, g.oid
), objects (object, definition) as (
    select 'server', 'major version ' || current_setting('server_version_num')::int / 10000
    union all
    select 'schema orchestration', g.text
    from ours left join granted g on g.kind = 'n' and g.oid = ours.oid
    union all
    select case r.relkind when 'S' then 'sequence ' when 'v' then 'view ' when 'm' then 'view ' else 'table ' end
           || r.oid::regclass,
           concat_ws(' ', r.relkind, r.relpersistence, r.reloptions, r.relrowsecurity, r.relforcerowsecurity,
                     pg_get_partkeydef(r.oid), case when r.relkind in ('v', 'm') then pg_get_viewdef(r.oid) end, g.text)
    from relations r left join granted g on g.kind = 'c' and g.oid = r.oid
    union all
    select 'column ' || r.oid::regclass || '.' || quote_ident(a.attname),
           concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
                     pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation, (
               select string_agg(pg_get_userbyid(x.grantee) || '=' || x.privilege_type, ','
                                 order by pg_get_userbyid(x.grantee), x.privilege_type)
               from aclexplode(a.attacl) x))
    from relations r
    join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where r.relkind <> 'S'
    union all
    -- Not-null constraints are rows of their own from version 18 on; the column says it already.
    select 'constraint ' || quote_ident(k.conname) || ' of ' || r.oid::regclass, pg_get_constraintdef(k.oid)
    from relations r join pg_catalog.pg_constraint k on k.conrelid = r.oid
    where k.contype <> 'n'
    union all
    select 'index ' || i.indexrelid::regclass, concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid)
    from relations r join pg_catalog.pg_index i on i.indrelid = r.oid
    union all
    select 'policy ' || quote_ident(y.polname) || ' of ' || r.oid::regclass,
           concat_ws(' ', y.polcmd, y.polpermissive, pg_get_expr(y.polqual, y.polrelid),
                     pg_get_expr(y.polwithcheck, y.polrelid))
    from relations r join pg_catalog.pg_policy y on y.polrelid = r.oid
    union all
    -- Ours are those on our tables and those that call our functions, wherever they are.
    select 'trigger ' || quote_ident(t.tgname) || ' of ' || t.tgrelid::regclass,
           concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_class c on c.oid = t.tgrelid and not c.relispartition
    join pg_catalog.pg_proc p on p.oid = t.tgfoid
    where not t.tgisinternal
        and (c.relnamespace in (select oid from ours) or p.pronamespace in (select oid from ours))
    union all
    select 'function ' || p.oid::regprocedure, concat_ws(' ', pg_get_functiondef(p.oid), g.text)
    from pg_catalog.pg_proc p
    join ours on p.pronamespace = ours.oid
    left join granted g on g.kind = 'f' and g.oid = p.oid
    where p.prokind in ('f', 'p') and p.proname !~ '^legacy_'
    union all
    -- The application's functions, guarded: that the guard is there. The body is theirs and may change.
    select 'guard of ' || p.oid::regprocedure, null
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where p.prokind in ('f', 'p') and n.nspname = 'public'
        and (p.prosrc ~ '\morchestration\.' or p.proconfig::text ~ 'orchestration\.')
    union all
    select 'type ' || t.oid::regtype, concat_ws(' ', t.typtype, format_type(t.typbasetype, t.typtypmod), (
        select string_agg(e.enumlabel, ',' order by e.enumsortorder)
        from pg_catalog.pg_enum e where e.enumtypid = t.oid))
    from pg_catalog.pg_type t join ours on t.typnamespace = ours.oid
    where t.typtype in ('e', 'd', 'r')
)
select object, left(encode(sha256(convert_to(coalesce(definition, ''), 'UTF8')), 'hex'), 16)
from objects
order by object

-- Rules of the house that the catalogue can show: one row a breach. Functions legacy_* are the application's own,
-- kept with the grants and settings that the application gave them.
-- name: breaches
select 'function ' || p.oid::regprocedure || ' runs as its owner without an empty search_path'
from pg_catalog.pg_proc p
where p.pronamespace = to_regnamespace('orchestration') and p.prosecdef and p.proname !~ '^legacy_'
    and not coalesce(p.proconfig @> array['search_path=""'], false)
union all
select 'function ' || p.oid::regprocedure || ' may be called by everybody'
from pg_catalog.pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
where p.pronamespace = to_regnamespace('orchestration') and a.grantee = 0
    and p.oid::regprocedure::text <> all (%(public_functions)s) and p.proname !~ '^legacy_'
union all
select 'table ' || c.oid::regclass || ' grants ' || a.privilege_type || ' to everybody'
from pg_catalog.pg_class c, aclexplode(c.relacl) a
where c.relnamespace = to_regnamespace('orchestration') and a.grantee = 0
union all
select 'column ' || c.oid::regclass || '.' || t.attname || ' grants ' || a.privilege_type || ' to everybody'
from pg_catalog.pg_class c
join pg_catalog.pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
where c.relnamespace = to_regnamespace('orchestration') and a.grantee = 0
