-- Flags: switches, percentages and numbers that take effect within a second, without a redeploy.
create table orchestration.flags (
    name text primary key check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    kind text not null check (kind in ('switch', 'percentage', 'number')),
    enabled boolean not null default true,
    value numeric,
    salt text not null default gen_random_uuid()::text,
    allow text[] not null default '{}',
    deny text[] not null default '{}',
    description text not null,
    changed_at timestamptz not null default clock_timestamp(),
    changed_by text not null default 'default',
    reason text not null default 'initial value',
    check ((kind = 'switch') = (value is null)),
    check (kind <> 'percentage' or value between 0 and 100)
);
comment on column orchestration.flags.salt is 'Makes the buckets of one flag independent of another''s';

create table orchestration.flag_history (
    id bigint generated always as identity primary key,
    name text not null,
    kind text not null,
    enabled boolean,
    value numeric,
    allow text[],
    deny text[],
    changed_at timestamptz not null default clock_timestamp(),
    changed_by text not null,
    reason text not null,
    request_id text not null
);
create index flag_history_name_idx on orchestration.flag_history (name, id);

-- The bucket of a subject under a salt, 0 to 9,999: the first 32 bits of sha256(salt ':' subject), unsigned, mod 10,000.
-- docs/flags.md has test vectors; Python and JavaScript reproduce them.
create function orchestration.bucket(p_salt text, p_subject text) returns integer
    language sql immutable parallel safe strict
    return (('x' || substr(encode(sha256(convert_to(p_salt || ':' || p_subject, 'UTF8')), 'hex'), 1, 8))::bit(32)::bigint
            % 10000)::integer;

create function orchestration.flag_on(p_name text) returns boolean
    language sql stable parallel safe
    return (select f.enabled from orchestration.flags f where f.name = p_name);

create function orchestration.flag_number(p_name text) returns numeric
    language sql stable parallel safe
    return (select f.value from orchestration.flags f where f.name = p_name);

-- Is this subject within the flag? Deny beats allow beats percentage; a higher percentage holds every subject of a lower.
create function orchestration.flag_includes(p_name text, p_subject text) returns boolean
    language sql stable parallel safe
    return coalesce((
        select case
            when not f.enabled or p_subject = any (f.deny) then false
            when p_subject = any (f.allow) or f.kind = 'switch' then true
            else orchestration.bucket(f.salt, p_subject) < f.value * 100
        end
        from orchestration.flags f where f.name = p_name), false);

create function orchestration.flag_stamp() returns trigger
    language plpgsql security definer set search_path = ''
as $$
begin
    new.changed_at := clock_timestamp();
    return new;
end
$$;

-- Whoever acts under a switch holds the shared lock until it commits, so nothing commits after a switch-off has. Deferred:
-- taken at the commit itself, so that a transaction left open after its change holds up nobody. Only for a switch-off:
-- were it taken for every change, all sweeps would wait behind it until one that hangs has ended.
create function orchestration.flag_guard() returns trigger
    language plpgsql security definer set search_path = ''
as $$
begin
    if tg_op = 'DELETE' or (tg_op = 'UPDATE' and old.enabled and not new.enabled) then
        perform pg_advisory_xact_lock(orchestration.lock_class(), 1);
    end if;
    return null;
end
$$;

create function orchestration.flag_record() returns trigger
    language plpgsql security definer set search_path = ''
as $$
begin
    insert into orchestration.flag_history (name, kind, enabled, value, allow, deny, changed_by, reason, request_id)
    select f.name, f.kind, f.enabled, f.value, f.allow, f.deny, f.changed_by, f.reason, orchestration.request_id()
    from (select (case when tg_op = 'DELETE' then old else new end).*) f;
    perform pg_notify('orchestration_flags', coalesce(new.name, old.name));
    return null;
end
$$;

create trigger flag_stamp before insert or update on orchestration.flags
    for each row execute function orchestration.flag_stamp();
create constraint trigger flag_guard after insert or update or delete on orchestration.flags
    deferrable initially deferred for each row execute function orchestration.flag_guard();
create trigger flag_record after insert or update or delete on orchestration.flags
    for each row execute function orchestration.flag_record();

-- Sets what is given and leaves the rest; raises on an unknown flag or a missing reason.
create function orchestration.set_flag(
    p_name text, p_by text, p_reason text,
    p_enabled boolean default null, p_value numeric default null,
    p_allow text[] default null, p_deny text[] default null
) returns orchestration.flags
    language plpgsql security definer set search_path = ''
as $$
declare
    v_flag orchestration.flags;
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'a reason is needed to change flag %', p_name using errcode = 'invalid_parameter_value';
    end if;
    -- Those who change flags take turns, before any row is locked; sweeps take no notice of it.
    perform pg_advisory_xact_lock(orchestration.lock_class(), 3);
    update orchestration.flags f
    set enabled = coalesce(p_enabled, f.enabled), value = coalesce(p_value, f.value),
        allow = coalesce(p_allow, f.allow), deny = coalesce(p_deny, f.deny),
        changed_by = p_by, reason = p_reason
    where f.name = p_name
    returning * into v_flag;
    if not found then
        raise exception 'there is no flag %', p_name using errcode = 'no_data_found',
            hint = 'flags: ' || (select string_agg(name, ', ' order by name) from orchestration.flags);
    end if;
    return v_flag;
end
$$;

insert into orchestration.flags (name, kind, enabled, value, description) values
    ('triggers', 'switch', true, null, 'Our triggers on the application''s tables do their work'),
    ('timer_monitoring', 'switch', true, null, 'Sweeps move games on'),
    ('pubnub_broadcasting', 'switch', true, null, 'The relay publishes; off: events are sequenced and wait'),
    ('grace_period', 'switch', true, null, 'Drawing is extended once while drawings are missing'),
    ('enrolment', 'percentage', true, 0, 'Share of new games handled by this system, in percent'),
    ('grace_seconds', 'number', true, 10, 'Length of the grace period, seconds'),
    ('max_games_per_sweep', 'number', true, 500, 'Most games one sweep moves on'),
    ('fanout_concurrency', 'number', true, 100, 'Most publishes in flight per relay'),
    ('publish_rate', 'number', true, 0, 'Publishes per second over all relays; 0 is no limit'),
    ('publish_attempts', 'number', true, 3, 'Attempts before an event becomes a dead letter'),
    ('timer_sync_seconds', 'number', false, 10, 'Seconds between time syncs of running games, when on');

grant select on orchestration.flags, orchestration.flag_history
    to sketchy_timer, sketchy_relay, sketchy_gateway, sketchy_operator;
revoke all on all functions in schema orchestration from public;
grant execute on function
    orchestration.bucket(text, text), orchestration.flag_on(text), orchestration.flag_number(text),
    orchestration.flag_includes(text, text)
    to sketchy_timer, sketchy_relay, sketchy_gateway, sketchy_operator;
grant execute on function orchestration.set_flag(text, text, text, boolean, numeric, text[], text[]) to sketchy_operator;
