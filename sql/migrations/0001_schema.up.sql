-- The schema of everything that is ours, and the roles of the running parts.
create schema if not exists orchestration;
comment on schema orchestration is 'Phase timers, outbox, sequencing and delivery of games. Owned by the migrating role.';

-- Roles belong to the whole cluster: another database may have made them, or may be making them right now.
do $roles$
declare
    v_role text;
begin
    foreach v_role in array array['sketchy_timer', 'sketchy_relay', 'sketchy_gateway', 'sketchy_operator'] loop
        begin
            if to_regrole(v_role) is null then
                execute format('create role %I nologin', v_role);
            end if;
        exception when duplicate_object or unique_violation then null;
        end;
        -- The migrating role becomes each of them with SET ROLE where no login of their own is configured.
        if not pg_has_role(current_user, v_role,
                           case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end) then
            execute format('grant %I to current_user', v_role);
        end if;
        execute format('grant usage on schema orchestration to %I', v_role);
    end loop;
end
$roles$;

-- Functions with a parsed body (return ...) bind their names when they are made: they need no search path, and without
-- one the planner can inline them, unless they promise more than what they call (immutable, strict). Whatever has a
-- string body, or runs as its owner, has an empty one.

-- Advisory locks of ours have the class 5273; the second number says which.
create function orchestration.lock_class() returns integer
    language sql immutable parallel safe
    return 5273;

create function orchestration.iso(p_at timestamptz) returns text
    language sql stable parallel safe
    return to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- The id that ties log, outbox and message together: the caller's when PostgREST passed one on, else one per transaction.
create function orchestration.request_id() returns text
    language plpgsql volatile set search_path = ''
as $$
declare
    v_id text := nullif(current_setting('orchestration.request_id', true), '');
begin
    if v_id is null then
        v_id := coalesce(
            substring(current_setting('request.headers', true) from '"x-request-id"\s*:\s*"([A-Za-z0-9._:-]{1,128})"'),
            gen_random_uuid()::text);
        perform set_config('orchestration.request_id', v_id, true);
    end if;
    return v_id;
end
$$;

-- A wait that outlasts the caller's statement_timeout would cancel the caller's statement, and no handler for OTHERS
-- catches that: so no lock is waited for longer than a quarter of what is left of it. For functions with a lock_timeout
-- of their own: what is set here lasts until they return.
create function orchestration.wait_at_most(p_milliseconds integer) returns void
    language plpgsql volatile set search_path = ''
as $$
declare
    v_limit double precision := extract(epoch from current_setting('statement_timeout')::interval) * 1000;
    v_spent double precision := extract(epoch from clock_timestamp() - statement_timestamp()) * 1000;
begin
    if v_limit > 0 and v_limit - v_spent < 4 * p_milliseconds then
        perform set_config('lock_timeout', greatest(1, (v_limit - v_spent) / 4)::integer::text, true);
    end if;
end
$$;

revoke all on all functions in schema orchestration from public;
grant execute on function orchestration.lock_class(), orchestration.iso(timestamptz), orchestration.request_id()
    to sketchy_timer, sketchy_relay, sketchy_gateway, sketchy_operator;
