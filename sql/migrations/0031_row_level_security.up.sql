-- Row level security on every table of ours: a grant alone, given by mistake or by a default, opens nothing. The owner,
-- and so every security-definer function of ours, passes by. Partitions are reached through their parents only.

-- Switches it on where it is off, and says for each grant that it is meant. Later migrations that make tables call it.
create function orchestration.secure_tables() returns void
    language plpgsql volatile set search_path = ''
as $$
declare
    v_row record;
begin
    for v_row in
        select c.oid::regclass as relation
        from pg_catalog.pg_class c
        where c.relnamespace = 'orchestration'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
          and not c.relrowsecurity
        order by c.relname
    loop
        execute format('alter table %s enable row level security', v_row.relation);
    end loop;

    for v_row in
        select g.relation, g.role, lower(g.privilege) as command
        from (
            select c.oid::regclass as relation, c.relowner as owner, a.grantee, pg_get_userbyid(a.grantee) as role,
                   a.privilege_type as privilege
            from pg_catalog.pg_class c cross join lateral aclexplode(c.relacl) a
            where c.relnamespace = 'orchestration'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
            union
            select c.oid::regclass, c.relowner, a.grantee, pg_get_userbyid(a.grantee), a.privilege_type
            from pg_catalog.pg_class c join pg_catalog.pg_attribute t on t.attrelid = c.oid and not t.attisdropped
            cross join lateral aclexplode(t.attacl) a
            where c.relnamespace = 'orchestration'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
        ) g
        where g.grantee <> 0 and g.grantee <> g.owner and g.privilege in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
          and not exists (select from pg_catalog.pg_policy y
                          where y.polrelid = g.relation and y.polname = g.role || '_' || lower(g.privilege))
        order by g.relation::text, g.role, g.privilege
    loop
        execute format('create policy %I on %s for %s to %I %s', v_row.role || '_' || v_row.command, v_row.relation,
                       v_row.command, v_row.role,
                       case v_row.command when 'insert' then 'with check (true)' else 'using (true)' end);
    end loop;
end
$$;
revoke all on function orchestration.secure_tables() from public;
select orchestration.secure_tables();
