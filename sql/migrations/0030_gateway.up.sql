-- What the gateway may do, each as one function: it writes no table itself. Bodies that read tables of the application
-- are strings, so that they bind to no column of theirs.

-- An event somebody sends through the gateway joins those that triggers write. No row comes back when there is no such
-- game. An event of type test belongs to no game: p_subject names its channel.
create function orchestration.accept_event(
    p_game_id uuid, p_subject text, p_type text, p_user_id text, p_data jsonb, p_request_id text
) returns table (outbox_id bigint, event_id uuid, occurred_at timestamptz, channels text[])
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    if (p_type = 'test') is distinct from (p_game_id is null) then
        raise exception 'an event of type % %', p_type,
            case when p_game_id is null then 'needs a game' else 'belongs to no game' end
            using errcode = 'invalid_parameter_value';
    end if;
    if p_game_id is not null and not exists (select from public.games g where g.id = p_game_id) then
        return;
    end if;
    return query
    insert into orchestration.outbox as o (game_id, lane, type, user_id, data, channels, request_id)
    values (p_game_id,
            coalesce(orchestration.lane_of(p_game_id),
                     get_byte(sha256(convert_to(p_subject, 'UTF8')), 0)::smallint & 31::smallint),
            p_type, p_user_id, p_data,
            orchestration.channels_of(p_type, coalesce(p_game_id::text, p_subject), p_user_id), p_request_id)
    returning o.id, o.event_id, o.occurred_at, o.channels;
end
$$;

-- One pass of the timer for who asks over HTTP; one at a time, a second answers skipped. Times in milliseconds.
create function orchestration.timer_pass(p_request_id text) returns table (
    skipped boolean, switched_off boolean, processed integer, errors integer,
    lock_ms double precision, query_ms double precision, processing_ms double precision
)
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_began timestamptz := clock_timestamp();
    v_locked timestamptz;
    v_looked timestamptz;
    v_swept orchestration.sweep_result;
begin
    -- It ends with the transaction, so that it dies with its holder, behind a transaction-mode pooler too.
    skipped := not pg_try_advisory_xact_lock(orchestration.lock_class(), 3000);
    v_locked := clock_timestamp();
    lock_ms := extract(epoch from v_locked - v_began) * 1000;
    switched_off := false;
    processed := 0;
    errors := 0;
    query_ms := 0;
    processing_ms := 0;
    if not skipped then
        perform set_config('orchestration.request_id', p_request_id, true);
        perform from orchestration.live_games l where l.deadline <= v_locked and not l.paused;
        v_looked := clock_timestamp();
        query_ms := extract(epoch from v_looked - v_locked) * 1000;
        v_swept := orchestration.sweep();
        switched_off := v_swept.switched_off;
        processed := v_swept.moved + v_swept.extended;
        errors := v_swept.set_aside;
        processing_ms := extract(epoch from clock_timestamp() - v_looked) * 1000;
    end if;
    return next;
end
$$;

-- The clock of a game for one of its players: always one row; phase is null when there is no such game.
create function orchestration.game_timer(p_game_id uuid, p_user_id uuid) returns table (
    phase text, plays boolean, time_remaining integer, phase_duration integer, phase_expires_at timestamptz,
    server_time timestamptz
)
    language plpgsql stable security definer set search_path = ''
as $$
declare
    v_game jsonb;
begin
    select to_jsonb(g), exists (select from public.game_participants p
                                where p.game_id = g.id and p.user_id = p_user_id and p.left_at is null)
    into v_game, plays
    from public.games g where g.id = p_game_id;
    server_time := clock_timestamp();
    phase := v_game ->> 'status';
    phase_duration := coalesce((v_game ->> 'current_phase_duration')::integer,
                               orchestration.phase_seconds(phase, v_game));
    if orchestration.has_deadline_column(v_game) then
        phase_expires_at := (v_game ->> 'phase_expires_at')::timestamptz;
    elsif phase in ('briefing', 'drawing', 'voting', 'results') then
        -- Grace periods of our own games are in live_games alone.
        phase_expires_at := coalesce((select l.deadline from orchestration.live_games l where l.game_id = p_game_id),
                                     orchestration.deadline_of(v_game, orchestration.phase_began(v_game)));
    end if;
    time_remaining := greatest(0, ceil(extract(epoch from phase_expires_at - server_time)))::integer;
    return next;
end
$$;

-- The games a player is in that are not over, the newest first.
create function orchestration.games_of_player(p_user_id uuid, p_limit integer) returns setof uuid
    language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select p.game_id
    from public.game_participants p join public.games g on g.id = p.game_id
    where p.user_id = p_user_id and p.left_at is null and g.status not in ('completed', 'cancelled')
    order by p.joined_at desc, p.game_id
    limit p_limit;
end
$$;

revoke all on function
    orchestration.accept_event(uuid, text, text, text, jsonb, text), orchestration.timer_pass(text),
    orchestration.game_timer(uuid, uuid), orchestration.games_of_player(uuid, integer)
    from public;
grant execute on function
    orchestration.accept_event(uuid, text, text, text, jsonb, text), orchestration.timer_pass(text),
    orchestration.game_timer(uuid, uuid), orchestration.games_of_player(uuid, integer)
    to sketchy_gateway;
