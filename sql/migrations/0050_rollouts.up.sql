-- Rollouts: a plan of percentages, where it stands, what was measured, who changed it. Each change is one statement that
-- states which version it changes, so that of two who decide at once one is refused.
create table orchestration.rollouts (
    id bigint generated always as identity primary key,
    flag text not null,
    plan jsonb not null,
    release text,
    state text not null check (state in ('running', 'paused', 'completed', 'aborted', 'rolled_back', 'undone')),
    pause text check (pause in ('operator', 'inconclusive', 'gate', 'flag', 'failed')),
    why text not null,
    step integer not null check (step >= 0),
    percentage numeric not null check (percentage between 0 and 100),
    before numeric not null,
    good integer[] not null default '{}',
    attempt integer not null default 1,
    version bigint not null default 1,
    started_at timestamptz not null,
    started_by text not null,
    step_since timestamptz not null,
    paused_at timestamptz,
    paused_seconds double precision not null default 0,
    changed_at timestamptz not null,
    looks bigint not null default 0,
    looked_at timestamptz,
    counts jsonb not null default '{}',
    check ((state = 'paused') = (pause is not null)),
    check ((state = 'paused') = (paused_at is not null))
);
comment on column orchestration.rollouts.before is 'The flag''s percentage before the rollout: where undo goes back to';
comment on column orchestration.rollouts.good is 'Steps whose checkpoint passed in this attempt';
comment on column orchestration.rollouts.counts is 'By metric: failing measurements in this step, errors in a row';
create unique index rollouts_active_idx on orchestration.rollouts (flag) where state in ('running', 'paused');
create index rollouts_flag_idx on orchestration.rollouts (flag, id);

create table orchestration.rollout_changes (
    rollout_id bigint not null references orchestration.rollouts on delete cascade,
    version bigint not null,
    at timestamptz not null,
    action text not null,
    by text not null,
    reason text not null,
    state text not null,
    step integer not null,
    percentage numeric not null,
    details jsonb not null default '{}',
    request_id text not null,
    primary key (rollout_id, version)
);

create table orchestration.rollout_verdicts (
    id bigint generated always as identity primary key,
    rollout_id bigint not null references orchestration.rollouts on delete cascade,
    version bigint not null,
    at timestamptz not null,
    step integer not null,
    checkpoint boolean not null,
    metric text not null,
    verdict text not null check (verdict in ('pass', 'fail', 'inconclusive')),
    value double precision,
    sample bigint not null,
    dry_run boolean not null,
    said text not null
);
create index rollout_verdicts_rollout_idx on orchestration.rollout_verdicts (rollout_id, id);

-- Writes the change beside the state, sets the flag, and leaves what is to be told where alert messages wait.
create function orchestration.rollout_changed(
    p_rollout orchestration.rollouts, p_action text, p_by text, p_reason text, p_details jsonb, p_messages jsonb
) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    if coalesce(btrim(p_reason), '') = '' or coalesce(btrim(p_by), '') = '' then
        raise exception 'a rollout is changed by somebody and for a reason: both are needed'
            using errcode = 'invalid_parameter_value';
    end if;
    insert into orchestration.rollout_changes
        (rollout_id, version, at, action, by, reason, state, step, percentage, details, request_id)
    values (p_rollout.id, p_rollout.version, p_rollout.changed_at, p_action, p_by, p_reason, p_rollout.state,
            p_rollout.step, p_rollout.percentage, coalesce(p_details, '{}'), orchestration.request_id());
    if p_action in ('start', 'resume', 'retry')
       or exists (select from orchestration.flags f where f.name = p_rollout.flag and f.value <> p_rollout.percentage)
          and p_action <> 'pause' then
        perform orchestration.set_flag(p_rollout.flag, p_by, 'rollout ' || p_rollout.id || ' ' || p_action || ': ' || p_reason,
                                       null, p_rollout.percentage);
    end if;
    insert into orchestration.alert_messages (kind, channel, title, body)
    select 'rollout', m ->> 'channel', m ->> 'title', m ->> 'body' from jsonb_array_elements(p_messages) m;
end
$$;

-- The turn among those who change flags comes before the rollout's row, here and wherever both are taken.
-- Raises 23505 while another rollout of the flag is active.
create function orchestration.begin_rollout(
    p_flag text, p_plan jsonb, p_percentage numeric, p_release text, p_by text, p_reason text, p_now timestamptz,
    p_messages jsonb
) returns bigint
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_rollout orchestration.rollouts;
begin
    perform pg_advisory_xact_lock(orchestration.lock_class(), 3);
    insert into orchestration.rollouts (flag, plan, release, state, why, step, percentage, before, started_at, started_by,
                                        step_since, changed_at)
    select f.name, p_plan, p_release, 'running', p_reason, 0, p_percentage, f.value, n.at, p_by, n.at, n.at
    from orchestration.flags f, (select coalesce(p_now, clock_timestamp()) as at) n
    where f.name = p_flag
    returning * into v_rollout;
    if not found then
        raise exception 'there is no flag %', p_flag using errcode = 'no_data_found';
    end if;
    perform orchestration.rollout_changed(v_rollout, 'start', p_by, p_reason, jsonb_build_object('plan', p_plan), p_messages);
    -- What was measured for rollouts of long ago leaves; the changes themselves stay.
    delete from orchestration.rollout_verdicts v using orchestration.rollouts r
    where r.id = v.rollout_id and r.changed_at < v_rollout.changed_at - interval '90 days'
      and r.state not in ('running', 'paused');
    return v_rollout.id;
end
$$;

-- Changes version p_version of the rollout, and no other: false when somebody was quicker.
create function orchestration.change_rollout(
    p_id bigint, p_version bigint, p_to jsonb, p_action text, p_by text, p_reason text, p_details jsonb, p_messages jsonb
) returns boolean
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_rollout orchestration.rollouts;
begin
    perform pg_advisory_xact_lock(orchestration.lock_class(), 3);
    update orchestration.rollouts r
    set state = t.state, pause = t.pause, why = t.why, step = t.step, percentage = t.percentage, good = t.good,
        attempt = t.attempt, step_since = t.step_since, paused_at = t.paused_at, paused_seconds = t.paused_seconds,
        changed_at = t.changed_at, counts = t.counts, looked_at = t.looked_at, version = r.version + 1
    from jsonb_populate_record(null::orchestration.rollouts, p_to) t
    where r.id = p_id and r.version = p_version
    returning r.* into v_rollout;
    if not found then
        return false;
    end if;
    perform orchestration.rollout_changed(v_rollout, p_action, p_by, p_reason, p_details, p_messages);
    return true;
end
$$;

-- What one look at a rollout saw; false when somebody else has looked, or changed it, since.
create function orchestration.record_look(
    p_id bigint, p_version bigint, p_looks bigint, p_now timestamptz, p_checkpoint boolean, p_counts jsonb, p_verdicts jsonb
) returns boolean
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    update orchestration.rollouts r set looks = r.looks + 1, looked_at = p_now, counts = p_counts
    where r.id = p_id and r.version = p_version and r.looks = p_looks;
    if not found then
        return false;
    end if;
    insert into orchestration.rollout_verdicts
        (rollout_id, version, at, step, checkpoint, metric, verdict, value, sample, dry_run, said)
    select p_id, p_version, p_now, r.step, p_checkpoint, v.metric, v.verdict, v.value, v.sample, v.dry_run, v.said
    from orchestration.rollouts r, jsonb_populate_recordset(null::orchestration.rollout_verdicts, p_verdicts) v
    where r.id = p_id;
    return true;
end
$$;

-- Ends every active rollout with nobody in it, whatever its version: for the emergency stop, which waits for no look.
create function orchestration.halt_rollouts(p_by text, p_reason text, p_messages jsonb default '[]') returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_rollout orchestration.rollouts;
    v_halted integer := 0;
begin
    perform pg_advisory_xact_lock(orchestration.lock_class(), 3);
    for v_rollout in
        update orchestration.rollouts r
        set state = 'aborted', pause = null, paused_at = null, why = p_reason, percentage = 0, version = r.version + 1,
            changed_at = clock_timestamp()
        where r.state in ('running', 'paused')
        returning r.*
    loop
        perform orchestration.rollout_changed(v_rollout, 'halt', p_by, p_reason, '{}',
                                              case v_halted when 0 then p_messages else '[]' end);
        v_halted := v_halted + 1;
    end loop;
    return v_halted;
end
$$;

grant select on orchestration.rollouts, orchestration.rollout_changes, orchestration.rollout_verdicts
    to sketchy_operator, sketchy_gateway;
revoke all on function
    orchestration.rollout_changed(orchestration.rollouts, text, text, text, jsonb, jsonb),
    orchestration.begin_rollout(text, jsonb, numeric, text, text, text, timestamptz, jsonb),
    orchestration.change_rollout(bigint, bigint, jsonb, text, text, text, jsonb, jsonb),
    orchestration.record_look(bigint, bigint, bigint, timestamptz, boolean, jsonb, jsonb),
    orchestration.halt_rollouts(text, text, jsonb)
    from public;
grant execute on function
    orchestration.begin_rollout(text, jsonb, numeric, text, text, text, timestamptz, jsonb),
    orchestration.change_rollout(bigint, bigint, jsonb, text, text, text, jsonb, jsonb),
    orchestration.record_look(bigint, bigint, bigint, timestamptz, boolean, jsonb, jsonb),
    orchestration.halt_rollouts(text, text, jsonb)
    to sketchy_operator;
select orchestration.secure_tables();
