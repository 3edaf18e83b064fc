-- The emergency stop: one transaction after which no sweep and no sequencing commits, and no relay begins a publish.

insert into orchestration.flags (name, kind, enabled, value, description) values
    ('emergency_stop', 'switch', false, null,
     'Everything stands still: set by `sketchy stop --emergency`, taken back by `sketchy stop --lift`');

create table orchestration.emergency_stops (
    stop_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    operator text not null,
    reason text not null,
    flags_before jsonb not null,
    shifts_ended integer not null,
    games_released integer not null default 0,
    released_at timestamptz,
    steps jsonb not null default '[]',
    lifted_at timestamptz,
    lifted_by text,
    lift_reason text,
    request_id text not null
);
comment on column orchestration.emergency_stops.flags_before is 'What lifting the stop gives back: name to on or off';
comment on column orchestration.emergency_stops.steps is 'What was done, in order: step, milliseconds since the command, what it found';
create unique index emergency_stops_standing_idx on orchestration.emergency_stops ((true)) where lifted_at is null;

-- Stops everything, at once and together, and ends a rollout under way; a second call answers the stop that stands.
-- Sweeps that come meanwhile wait for its lock and find the switch off, which is what it is for; behind a transaction left
-- open they give up after their lock time-out, blame no game, and come again. No statement of the application waits: none
-- takes that lock or one on a row written here, and no sweep asks for it once it has locked a game.
create function orchestration.emergency_stop(p_by text, p_reason text, p_triggers_off boolean default false)
    returns orchestration.emergency_stops
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_stop orchestration.emergency_stops;
    v_before jsonb;
    v_ended integer;
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'a reason is needed for an emergency stop' using errcode = 'invalid_parameter_value';
    end if;
    -- First our turn, then the lock under which sweeps commit: from here on none begins, and those begun have ended.
    perform pg_advisory_xact_lock(orchestration.lock_class(), 3);
    perform pg_advisory_xact_lock(orchestration.lock_class(), 1);
    select s.* into v_stop from orchestration.emergency_stops s where s.lifted_at is null;
    select jsonb_object_agg(f.name, f.enabled) into v_before
    from orchestration.flags f where f.name in ('timer_monitoring', 'pubnub_broadcasting', 'triggers');
    update orchestration.flags f
    set enabled = f.name = 'emergency_stop', changed_by = p_by, reason = p_reason
    where (f.name in ('timer_monitoring', 'pubnub_broadcasting', 'emergency_stop') or (f.name = 'triggers' and p_triggers_off))
      and f.enabled is distinct from (f.name = 'emergency_stop');
    perform orchestration.halt_rollouts(p_by, p_reason);
    -- Each leaves with its next heartbeat; supervision starts none while the stop stands.
    update orchestration.shifts set ended_at = clock_timestamp(), end_reason = 'emergency_stop' where ended_at is null;
    get diagnostics v_ended = row_count;
    if v_stop.stop_id is null then
        insert into orchestration.emergency_stops (operator, reason, flags_before, shifts_ended, request_id)
        values (p_by, p_reason, v_before, v_ended, orchestration.request_id())
        returning * into v_stop;
        insert into orchestration.operator_actions (operator, action, reason, details, request_id)
        values (p_by, 'emergency_stop', p_reason, jsonb_build_object('stop', v_stop.stop_id, 'flags_before', v_before),
                orchestration.request_id());
    end if;
    return v_stop;
end
$$;

-- Statements of ours that are still at work, begun before the stop: what they commit, they commit after it. Empty: the stop
-- is complete in the database.
create function orchestration.still_committing(p_since timestamptz) returns table (pid integer, application text)
    language sql stable security definer set search_path = ''
as $$
    select a.pid, a.application_name
    from pg_stat_activity a
    where a.datname = current_database() and a.application_name like 'sketchy %' and a.pid <> pg_backend_pid()
      and a.state <> 'idle' and a.xact_start < p_since
      and (a.application_name like 'sketchy relay%' or a.application_name like 'sketchy timer%')
$$;

-- Breaks off sweeps that keep the stop waiting; how many were reached. Needs sessions of the same login, as where no role
-- has a login of its own.
create function orchestration.cancel_sweeps() returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_pid integer;
    v_reached integer := 0;
begin
    for v_pid in
        select l.pid from pg_locks l
        where l.locktype = 'advisory' and l.classid = orchestration.lock_class()::oid and l.objid = 1 and l.objsubid = 2
          and l.granted and l.pid <> pg_backend_pid()
    loop
        begin
            v_reached := v_reached + pg_cancel_backend(v_pid)::integer;
        exception when insufficient_privilege then null;
        end;
    end loop;
    return v_reached;
end
$$;

-- Hands every enrolled game in play to the legacy handler, in one transaction and for good, and enrols no more. It writes
-- only what says who handles a game, which no statement of the application ever locks.
create function orchestration.release_games(p_by text, p_reason text) returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_ids uuid[];
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'a reason is needed to release games' using errcode = 'invalid_parameter_value';
    end if;
    if not coalesce(orchestration.flag_on('emergency_stop'), false) then
        raise exception 'games change hands only under an emergency stop' using errcode = 'object_not_in_prerequisite_state',
            hint = 'run `sketchy stop --emergency --release`';
    end if;
    update orchestration.flags f set value = 0, changed_by = p_by, reason = p_reason
    where f.name = 'enrolment' and f.value <> 0;
    with released as (
        update orchestration.enrolments e set handler = 'legacy', released_at = clock_timestamp()
        where e.handler = 'orchestration'
          and (exists (select from orchestration.live_games l where l.game_id = e.game_id)
               or exists (select from public.games g
                          where g.id = e.game_id and g.status in ('waiting', 'briefing', 'drawing', 'voting', 'results')))
        returning e.game_id
    )
    select array_agg(r.game_id) into v_ids from released r;
    if v_ids is not null then
        update orchestration.emergency_stops
        set games_released = games_released + cardinality(v_ids), released_at = clock_timestamp()
        where lifted_at is null;
        insert into orchestration.operator_actions (operator, action, reason, details, request_id)
        values (p_by, 'release_games', p_reason, jsonb_build_object('games', cardinality(v_ids)), orchestration.request_id());
    end if;
    return coalesce(cardinality(v_ids), 0);
end
$$;

-- Forgets what we kept of released games, a few at a time and never waiting for the application; how many were left.
create function orchestration.forget_released(p_limit integer default 500) returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_left integer;
begin
    delete from orchestration.live_games l
    where l.game_id in (select k.game_id from orchestration.live_games k
                        join orchestration.enrolments e on e.game_id = k.game_id
                        where e.released_at is not null
                        limit p_limit for update of k skip locked);
    delete from orchestration.set_aside a using orchestration.enrolments e
    where e.game_id = a.game_id and e.released_at is not null;
    select count(*) into v_left
    from orchestration.live_games k join orchestration.enrolments e on e.game_id = k.game_id where e.released_at is not null;
    return v_left;
end
$$;

-- Events of released games that still wait would contradict the handler that has them now: they are given their place and
-- marked expired, so that nothing is lost and nothing is sent. Only while no relay holds a lane; null: one does.
create function orchestration.expire_released() returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_free integer;
    v_expired integer;
begin
    select count(*) into v_free
    from generate_series(0, 31) l
    where pg_try_advisory_xact_lock(orchestration.lock_class(), orchestration.lane_lock(l::smallint));
    if v_free < 32 then
        return null;
    end if;
    with waiting as (
        select o.id, o.event_id, o.game_id, o.lane, o.occurred_at, s.seq
        from orchestration.enrolments e
        join orchestration.outbox o on o.game_id = e.game_id
        left join orchestration.sequenced s on s.outbox_id = o.id and s.occurred_at = o.occurred_at
        where e.released_at is not null
          and not exists (select from orchestration.outcomes c where c.outbox_id = o.id and c.occurred_at = o.occurred_at)
    ), numbered as (
        select w.id, w.event_id, w.game_id, w.lane, w.occurred_at, w.seq as known,
               coalesce(w.seq, greatest((select max(n.seq) from orchestration.sequenced n where n.game_id = w.game_id),
                                        (select q.seq from orchestration.last_seqs q where q.game_id = w.game_id), 0)
                   + row_number() over (partition by w.game_id, w.seq is null order by w.id)) as seq
        from waiting w
    ), placed as (
        insert into orchestration.sequenced (outbox_id, event_id, game_id, lane, seq, epoch, occurred_at)
        select n.id, n.event_id, n.game_id, n.lane, n.seq, l.epoch, n.occurred_at
        from numbered n join orchestration.lanes l on l.lane = n.lane where n.known is null
        returning outbox_id
    ), gone as (
        insert into orchestration.outcomes (outbox_id, event_id, game_id, lane, seq, outcome, attempts, occurred_at)
        select n.id, n.event_id, n.game_id, n.lane, n.seq, 'expired', 0, n.occurred_at from numbered n
        returning outbox_id
    )
    select (select count(*) from gone) + 0 * (select count(*) from placed) into v_expired;
    return v_expired;
end
$$;

-- Lets the system work again: the flags as they were before the stop. Released games stay released. Nobody waits for it:
-- sweeps are off until it has committed, and read the flags without a lock.
create function orchestration.lift_stop(p_by text, p_reason text) returns orchestration.emergency_stops
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_stop orchestration.emergency_stops;
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'a reason is needed to lift an emergency stop' using errcode = 'invalid_parameter_value';
    end if;
    perform pg_advisory_xact_lock(orchestration.lock_class(), 3);
    update orchestration.emergency_stops s
    set lifted_at = clock_timestamp(), lifted_by = p_by, lift_reason = p_reason
    where s.lifted_at is null returning * into v_stop;
    update orchestration.flags f
    set enabled = case when f.name = 'emergency_stop' then false
                       else coalesce((v_stop.flags_before ->> f.name)::boolean, f.enabled) end,
        changed_by = p_by, reason = p_reason
    where f.name = 'emergency_stop' and f.enabled
       or f.enabled is distinct from (v_stop.flags_before ->> f.name)::boolean and v_stop.flags_before ? f.name;
    if v_stop.stop_id is not null then
        insert into orchestration.operator_actions (operator, action, reason, details, request_id)
        values (p_by, 'lift_stop', p_reason, jsonb_build_object('stop', v_stop.stop_id), orchestration.request_id());
    end if;
    return v_stop;
end
$$;

-- What an operator, or a job in an operator's name, did: its row beside those of acts on games.
create function orchestration.note_action(p_by text, p_action text, p_reason text, p_details jsonb default '{}') returns void
    language sql volatile security definer set search_path = ''
as $$
    insert into orchestration.operator_actions (operator, action, reason, details, request_id)
    values (p_by, p_action, p_reason, p_details, orchestration.request_id())
$$;

grant select on orchestration.emergency_stops to sketchy_timer, sketchy_relay, sketchy_gateway, sketchy_operator;
grant update (steps) on orchestration.emergency_stops to sketchy_operator;
revoke all on function
    orchestration.emergency_stop(text, text, boolean), orchestration.still_committing(timestamptz),
    orchestration.cancel_sweeps(), orchestration.release_games(text, text), orchestration.forget_released(integer),
    orchestration.expire_released(), orchestration.lift_stop(text, text),
    orchestration.note_action(text, text, text, jsonb)
    from public;
grant execute on function
    orchestration.emergency_stop(text, text, boolean), orchestration.still_committing(timestamptz),
    orchestration.cancel_sweeps(), orchestration.release_games(text, text), orchestration.forget_released(integer),
    orchestration.expire_released(), orchestration.lift_stop(text, text),
    orchestration.note_action(text, text, text, jsonb)
    to sketchy_operator;
select orchestration.secure_tables();
