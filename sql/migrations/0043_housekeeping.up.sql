-- What else leaves with time: settled dead letters, observations, minutes, resolved alerts, transitions of games that were
-- never enrolled. Bounded by p_limit rows of each kind and call; returns what was, or would be, removed.
create function orchestration.forget_old(
    p_what text, p_before timestamptz, p_limit integer default 5000, p_dry_run boolean default false
) returns bigint
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_source text := case p_what
        when 'observations' then 'orchestration.observations x where x.at < $1'
        when 'metric_minutes' then 'orchestration.metric_minutes x where x.minute < $1'
        when 'alerts' then 'orchestration.alerts x where x.resolved_at < $1'
        when 'dead_letters' then 'orchestration.dead_letters x where coalesce(x.replayed_at, x.discarded_at) < $1'
        when 'transitions' then 'orchestration.transitions x where x.at < $1 and not exists '
            '(select from orchestration.enrolments e where e.game_id = x.game_id)'
        when 'last_reports' then 'orchestration.last_reports x where not exists '
            '(select from orchestration.shifts s where s.shift_id = x.shift_id)'
    end;
    v_rows bigint;
begin
    if v_source is null then
        raise exception 'nothing is called %', p_what using errcode = 'invalid_parameter_value',
            hint = 'observations, metric_minutes, alerts, dead_letters, transitions, last_reports';
    end if;
    if p_dry_run then
        execute 'select count(*) from ' || v_source using p_before into v_rows;
    else
        execute format('delete from %s y where y.ctid = any (array(select x.ctid from %s limit $2))',
                       split_part(v_source, ' ', 1), v_source) using p_before, p_limit;
        get diagnostics v_rows = row_count;
    end if;
    return v_rows;
end
$$;

revoke all on function orchestration.forget_old(text, timestamptz, integer, boolean) from public;
grant execute on function orchestration.forget_old(text, timestamptz, integer, boolean) to sketchy_operator;
