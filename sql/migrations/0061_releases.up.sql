-- What runs where, since when: a row for each exact version that was ever made current, and which one a shift has.
alter table orchestration.shifts add column release text;
comment on column orchestration.shifts.release is 'Package, build and settings of the code that is at work; null: older than this column';

create table orchestration.releases (
    release_id bigint generated always as identity primary key,
    label text not null,
    package text not null,
    build text not null,
    migrations text not null,
    settings text not null,
    placement jsonb not null default '{}',
    current_since timestamptz,
    current_until timestamptz,
    made_by text not null,
    reason text not null,
    unique (package, build, migrations, settings),
    check (current_until is null or current_since is not null)
);
comment on column orchestration.releases.placement is 'Where its code is and what was started of it: interpreter, ports, processes';
create unique index releases_current_idx on orchestration.releases ((true))
    where current_since is not null and current_until is null;

-- Makes a version the current one; the one before ends in the same moment. The same again changes its placement only.
create function orchestration.make_current(
    p_label text, p_package text, p_build text, p_migrations text, p_settings text, p_placement jsonb, p_by text, p_reason text
) returns bigint
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_id bigint;
begin
    update orchestration.releases r set current_until = clock_timestamp()
    where r.current_since is not null and r.current_until is null
      and (r.package, r.build, r.migrations, r.settings) <> (p_package, p_build, p_migrations, p_settings);
    insert into orchestration.releases as r
        (label, package, build, migrations, settings, placement, current_since, made_by, reason)
    values (p_label, p_package, p_build, p_migrations, p_settings, p_placement, clock_timestamp(), p_by, p_reason)
    on conflict (package, build, migrations, settings) do update
    set current_since = case when r.current_since is not null and r.current_until is null then r.current_since
                             else clock_timestamp() end,
        current_until = null, placement = excluded.placement, made_by = p_by, reason = p_reason
    returning r.release_id into v_id;
    return v_id;
end
$$;

-- Shifts of other versions leave when so many of this one are at work: nobody leaves before that, and nobody of this one.
create function orchestration.relieve_others(p_release text, p_kind text, p_wanted integer, p_fresh interval)
    returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_successor uuid;
    v_relieved integer := 0;
begin
    select s.shift_id into v_successor
    from orchestration.shifts s
    where s.kind = p_kind and s.release = p_release and s.ended_at is null and s.relieved_by is null
      and s.heartbeat_at > clock_timestamp() - p_fresh
    order by s.started_at offset p_wanted - 1 limit 1;
    if v_successor is not null then
        update orchestration.shifts s set relieved_by = v_successor
        where s.kind = p_kind and s.release is distinct from p_release and s.ended_at is null and s.relieved_by is null;
        get diagnostics v_relieved = row_count;
    end if;
    return v_relieved;
end
$$;

grant select on orchestration.releases to sketchy_timer, sketchy_relay, sketchy_gateway, sketchy_operator;
revoke all on function
    orchestration.make_current(text, text, text, text, text, jsonb, text, text),
    orchestration.relieve_others(text, text, integer, interval)
    from public;
grant execute on function
    orchestration.make_current(text, text, text, text, text, jsonb, text, text),
    orchestration.relieve_others(text, text, integer, interval)
    to sketchy_operator;
select orchestration.secure_tables();
