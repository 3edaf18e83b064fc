-- Row level security on the application's games and game_participants: prepared here, switched on by nobody but an
-- operator (`sketchy gateway row-security on`). Players then see open lobbies and the games they are or were in.

create table orchestration.application_row_security (
    table_name text primary key,
    was_enabled boolean not null,
    switched_on_at timestamptz not null default clock_timestamp()
);
comment on table orchestration.application_row_security is 'How the tables were before we switched it on; empty: off';

-- Games of the calling player. It reads past row level security, or the policies would ask each other for ever.
create function orchestration.my_games() returns setof uuid
    language plpgsql stable security definer set search_path = ''
as $$
begin
    return query select p.game_id from public.game_participants p where p.user_id = auth.uid();
end
$$;

create function orchestration.switch_application_row_security(p_on boolean) returns boolean
    language plpgsql volatile set search_path = ''
as $$
declare
    v_row record;
begin
    if p_on = exists (select from orchestration.application_row_security) then
        return false;
    end if;
    if not p_on then
        for v_row in
            select y.polname, c.oid::regclass as relation
            from pg_catalog.pg_policy y join pg_catalog.pg_class c on c.oid = y.polrelid
            where c.oid in ('public.games'::regclass, 'public.game_participants'::regclass)
              and y.polname like 'orchestration\_%'
        loop
            execute format('drop policy %I on %s', v_row.polname, v_row.relation);
        end loop;
        for v_row in select r.table_name from orchestration.application_row_security r where not r.was_enabled loop
            execute format('alter table public.%I disable row level security', v_row.table_name);
        end loop;
        delete from orchestration.application_row_security;
        return true;
    end if;

    insert into orchestration.application_row_security (table_name, was_enabled)
    select c.relname, c.relrowsecurity from pg_catalog.pg_class c
    where c.oid in ('public.games'::regclass, 'public.game_participants'::regclass);

    create policy orchestration_see on public.games for select to authenticated
        using (status = 'waiting' or created_by = (select auth.uid())
               or id in (select orchestration.my_games()));
    create policy orchestration_create on public.games for insert to authenticated
        with check (created_by = (select auth.uid()));
    create policy orchestration_change on public.games for update to authenticated
        using (created_by = (select auth.uid()));
    create policy orchestration_delete on public.games for delete to authenticated
        using (created_by = (select auth.uid()));
    create policy orchestration_service on public.games for all to service_role using (true) with check (true);

    -- What of a game its policies show, shows who is in it.
    create policy orchestration_see on public.game_participants for select to authenticated
        using (user_id = (select auth.uid())
               or exists (select from public.games g where g.id = game_id));
    create policy orchestration_join on public.game_participants for insert to authenticated
        with check (user_id = (select auth.uid()));
    create policy orchestration_change on public.game_participants for update to authenticated
        using (user_id = (select auth.uid()));
    create policy orchestration_leave on public.game_participants for delete to authenticated
        using (user_id = (select auth.uid()));
    create policy orchestration_service on public.game_participants for all to service_role
        using (true) with check (true);

    alter table public.games enable row level security;
    alter table public.game_participants enable row level security;
    return true;
end
$$;

revoke all on function orchestration.my_games(), orchestration.switch_application_row_security(boolean) from public;
grant select on orchestration.application_row_security to sketchy_operator;
do $$
begin
    if to_regrole('authenticated') is not null then
        grant execute on function orchestration.my_games() to authenticated;
    end if;
end
$$;
select orchestration.secure_tables();
