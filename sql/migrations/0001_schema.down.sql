drop function orchestration.wait_at_most(integer);
drop function orchestration.request_id();
drop function orchestration.iso(timestamptz);
drop function orchestration.lock_class();

do $roles$
declare
    v_role text;
begin
    foreach v_role in array array['sketchy_timer', 'sketchy_relay', 'sketchy_gateway', 'sketchy_operator'] loop
        execute format('revoke usage on schema orchestration from %I', v_role);
    end loop;
end
$roles$;
drop schema orchestration cascade;

-- The roles go too, unless another database of the cluster, or a login, still leans on them.
do $roles$
declare
    v_role text;
begin
    foreach v_role in array array['sketchy_timer', 'sketchy_relay', 'sketchy_gateway', 'sketchy_operator'] loop
        begin
            execute format('drop role if exists %I', v_role);
        exception when dependent_objects_still_exist or insufficient_privilege or object_in_use then
            raise notice 'role % is still in use elsewhere and stays', v_role;
        end;
    end loop;
end
$roles$;
