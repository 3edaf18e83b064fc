-- The three roles of a Supabase database, for clusters that lack them.
--
-- Roles belong to the cluster: another database of it may be creating the same ones at this moment, and no
-- lock that an ordinary role may take spans databases. So every step tolerates having been done already, and
-- one that met a concurrent change is tried again.
do $$
declare
    wanted text;
    attempt int;
begin
    foreach wanted in array array['anon', 'authenticated', 'service_role'] loop
        for attempt in 1..50 loop
            begin
                if not exists (select from pg_roles where rolname = wanted) then
                    execute format('create role %I nologin', wanted);
                end if;
                -- From version 16 on, who creates a role may administer it, but becomes it only when granted.
                if not pg_has_role(current_user, wanted, 'member') then
                    execute format('grant %I to %I', wanted, current_user);
                elsif current_setting('server_version_num')::int >= 160000
                      and not (select rolsuper from pg_roles where rolname = current_user)
                      and not pg_has_role(current_user, wanted, 'set') then
                    execute format('grant %I to %I with set true', wanted, current_user);
                end if;
                exit;
            exception
                when duplicate_object or unique_violation or internal_error then
                    if attempt = 50 then
                        raise;
                    end if;
                    perform pg_sleep(0.02);
                when insufficient_privilege then
                    -- A role that somebody else made and lends to nobody: tables can be granted to it all the same.
                    if not exists (select from pg_roles where rolname = wanted) then
                        raise;
                    end if;
                    raise notice 'role % exists and may not be granted to %', wanted, current_user;
                    exit;
            end;
        end loop;
    end loop;

    -- Only a role that itself bypasses row level security may hand that on; elsewhere policies say the same.
    if (select rolsuper or (rolbypassrls and rolcreaterole) from pg_roles where rolname = current_user)
       and not (select rolbypassrls from pg_roles where rolname = 'service_role') then
        begin
            alter role service_role bypassrls;
        exception when insufficient_privilege or internal_error then
            raise notice 'service_role is left without BYPASSRLS: %', sqlerrm;
        end;
    end if;
end
$$;
