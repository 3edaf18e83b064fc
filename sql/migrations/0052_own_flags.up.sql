-- Flags that an operator adds and takes away again; those that came with the system stay.
create function orchestration.add_flag(
    p_name text, p_kind text, p_enabled boolean, p_value numeric, p_description text, p_by text, p_reason text
) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    if coalesce(btrim(p_reason), '') = '' or coalesce(btrim(p_description), '') = '' then
        raise exception 'a flag needs a description, and its adding a reason' using errcode = 'invalid_parameter_value';
    end if;
    insert into orchestration.flags (name, kind, enabled, value, description, changed_by, reason)
    values (p_name, p_kind, p_enabled, p_value, p_description, p_by, p_reason);
end
$$;

create function orchestration.remove_flag(p_name text, p_by text, p_reason text) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    if exists (select from orchestration.flag_history h where h.name = p_name and h.changed_by = 'default') then
        raise exception 'flag % came with the system and stays', p_name using errcode = 'object_in_use',
            hint = 'switch it off instead';
    end if;
    if exists (select from orchestration.rollouts r where r.flag = p_name and r.state in ('running', 'paused')) then
        raise exception 'flag % has an active rollout', p_name using errcode = 'object_in_use', hint = 'abort it first';
    end if;
    -- The last change says who removed it and why; the removal itself is the row after it.
    perform orchestration.set_flag(p_name, p_by, p_reason);
    delete from orchestration.flags f where f.name = p_name;
end
$$;

insert into orchestration.flags (name, kind, enabled, value, description) values
    ('gateway_connections', 'number', false, 4, 'Database connections of one gateway; off: what its setting says');

revoke all on function
    orchestration.add_flag(text, text, boolean, numeric, text, text, text),
    orchestration.remove_flag(text, text, text)
    from public;
grant execute on function
    orchestration.add_flag(text, text, boolean, numeric, text, text, text),
    orchestration.remove_flag(text, text, text)
    to sketchy_operator;
