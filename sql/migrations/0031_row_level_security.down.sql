do $$
declare
    v_row record;
begin
    for v_row in
        select c.oid::regclass as relation, y.polname as policy
        from pg_catalog.pg_class c left join pg_catalog.pg_policy y on y.polrelid = c.oid
        where c.relnamespace = 'orchestration'::regnamespace and c.relrowsecurity
        order by c.relname, y.polname
    loop
        if v_row.policy is not null then
            execute format('drop policy %I on %s', v_row.policy, v_row.relation);
        end if;
        execute format('alter table %s disable row level security', v_row.relation);
    end loop;
end
$$;
drop function orchestration.secure_tables();
