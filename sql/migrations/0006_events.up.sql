-- From a change of the application's rows to events in the outbox. Functions here only read and insert.
-- Those that read tables of the application have string bodies: a parsed body would bind its columns to ours.

create function orchestration.phase_seconds(p_phase text, p_game jsonb) returns integer
    language sql immutable parallel safe
    return case p_phase
        when 'briefing' then 20
        when 'drawing' then (p_game ->> 'round_duration')::integer
        when 'voting' then (p_game ->> 'voting_duration')::integer
        when 'results' then 15
    end;

-- A database from before the timer columns keeps no deadline of its own; there it follows from the phase's start.
create function orchestration.has_deadline_column(p_game jsonb) returns boolean
    language sql immutable parallel safe
    return p_game ? 'phase_expires_at';

create function orchestration.deadline_of(p_game jsonb, p_phase_began timestamptz) returns timestamptz
    language sql stable parallel safe
    return case
        when p_game ->> 'status' in ('completed', 'cancelled') then null
        when p_game ->> 'status' = 'waiting' then (p_game ->> 'expires_at')::timestamptz
        when orchestration.has_deadline_column(p_game) then (p_game ->> 'phase_expires_at')::timestamptz
        else p_phase_began + make_interval(secs => orchestration.phase_seconds(p_game ->> 'status', p_game))
    end;

create function orchestration.channels_of(p_type text, p_subject text, p_user_id text) returns text[]
    language sql immutable parallel safe
    return array['game-' || p_subject]
        || case when p_type in ('player_joined', 'player_left', 'connection_status')
                then array['presence-' || p_subject] else '{}'::text[] end
        || case when p_type = 'MATCH_FOUND' then array['user-' || p_user_id] else '{}'::text[] end;

create function orchestration.write_event(
    p_game_id uuid, p_type text, p_data jsonb, p_user_id text default 'system'
) returns uuid
    language sql volatile security definer set search_path = ''
begin atomic
    insert into orchestration.outbox (game_id, lane, type, user_id, data, channels, request_id)
    values (p_game_id, orchestration.lane_of(p_game_id), p_type, p_user_id, jsonb_strip_nulls(p_data),
            orchestration.channels_of(p_type, p_game_id::text, p_user_id), orchestration.request_id())
    returning event_id;
end;

-- One game's change as a trigger saw it: at = the trigger's moment, deadline = what the phase left had.
create type orchestration.game_change as (
    game_id uuid, from_phase text, to_phase text, deadline timestamptz, next_deadline timestamptz,
    at timestamptz, cause text, rebased boolean, handler text, game jsonb
);

create function orchestration.game_started_data(p_change orchestration.game_change) returns jsonb
    language sql stable set search_path = ''
as $$
    select jsonb_build_object(
        'startedAt', orchestration.iso(coalesce((p_change.game ->> 'started_at')::timestamptz, p_change.at)),
        'prompt', p_change.game ->> 'prompt',
        'roundDuration', (p_change.game ->> 'round_duration')::integer,
        'participants', coalesce((
            select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                       'userId', p.user_id, 'username', u.username, 'selectedBoosterPack', p.selected_booster_pack))
                   order by p.joined_at, p.id)
            from public.game_participants p left join public.users u on u.id = p.user_id
            where p.game_id = p_change.game_id and p.left_at is null), '[]'));
$$;

-- When the game's phase began, by the application's own columns; results has none.
create function orchestration.phase_began(p_game jsonb) returns timestamptz
    language sql stable parallel safe
    return (p_game ->> case p_game ->> 'status'
        when 'waiting' then 'created_at'
        when 'briefing' then 'started_at'
        when 'drawing' then 'drawing_started_at'
        when 'voting' then 'voting_started_at'
        when 'completed' then 'completed_at' end)::timestamptz;

create function orchestration.phase_changed_data(p_change orchestration.game_change) returns jsonb
    language sql stable
    return jsonb_build_object(
        'newPhase', p_change.to_phase,
        'previousPhase', p_change.from_phase,
        'phaseStartedAt', orchestration.iso(coalesce(orchestration.phase_began(p_change.game), p_change.at)),
        'phaseDuration', orchestration.phase_seconds(p_change.to_phase, p_change.game),
        'transitionTriggeredBy', p_change.cause,
        'gameData', jsonb_build_object(
            'prompt', p_change.game ->> 'prompt',
            'maxPlayers', (p_change.game ->> 'max_players')::integer,
            'currentPlayers', (p_change.game ->> 'current_players')::integer,
            'phaseExpiresAt', orchestration.iso(p_change.next_deadline)));

create function orchestration.timer_expired_data(p_change orchestration.game_change) returns jsonb
    language sql stable
    return jsonb_build_object(
        'expiredPhase', p_change.from_phase,
        'nextPhase', p_change.to_phase,
        'expiredAt', orchestration.iso(p_change.deadline),
        'transitionTriggeredBy', p_change.cause,
        'executionId', current_setting('orchestration.request_id', true));

create function orchestration.timer_sync_data(p_change orchestration.game_change) returns jsonb
    language sql stable
    return jsonb_build_object(
        'phase', p_change.to_phase,
        'phaseStartedAt', orchestration.iso(orchestration.phase_began(p_change.game)),
        'phaseDuration', coalesce((p_change.game ->> 'current_phase_duration')::integer,
                                  orchestration.phase_seconds(p_change.to_phase, p_change.game)),
        'phaseExpiresAt', orchestration.iso(p_change.next_deadline),
        'serverTime', orchestration.iso(p_change.at),
        'timeRemaining', greatest(0, ceil(extract(epoch from p_change.next_deadline - p_change.at)))::integer);

-- Records what happened to games and tells of it: transitions for all, live_games and events for enrolled ones.
-- A statement costs as much to begin as a game to record, so those without anything to do are left out; without any
-- change all are begun: to be planned.
create function orchestration.record_changes(p_changes orchestration.game_change[]) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_request_id text := orchestration.request_id();
    v_left boolean;      -- some game left its phase
    v_in_play boolean;   -- some game is in play
    v_over boolean;      -- some game is over
    v_started boolean;
    v_completed boolean;
    v_moved boolean;     -- some deadline moved within its phase
begin
    select coalesce(bool_or(c.from_phase <> c.to_phase), true),
           coalesce(bool_or(c.to_phase not in ('completed', 'cancelled')), true),
           coalesce(bool_or(c.to_phase in ('completed', 'cancelled')), true),
           coalesce(bool_or(c.from_phase = 'waiting' and c.to_phase in ('briefing', 'drawing')), true),
           coalesce(bool_or(c.to_phase = 'completed'), true),
           coalesce(bool_or(c.from_phase = c.to_phase), true)
    into v_left, v_in_play, v_over, v_started, v_completed, v_moved
    from unnest(p_changes) c;

    if v_left then
        insert into orchestration.transitions
            (game_id, from_phase, to_phase, deadline, at, next_deadline, rebased, cause, handler, request_id)
        select c.game_id, c.from_phase, c.to_phase, c.deadline, c.at, c.next_deadline, c.rebased, c.cause, c.handler,
               v_request_id
        from unnest(p_changes) c where c.from_phase <> c.to_phase;
    end if;
    if v_in_play then
        update orchestration.live_games l
        set phase = c.to_phase, deadline = c.next_deadline, graced = l.graced and c.to_phase = 'drawing'
        from unnest(p_changes) c
        where l.game_id = c.game_id and c.to_phase not in ('completed', 'cancelled');
    end if;
    if v_over then
        delete from orchestration.live_games l using unnest(p_changes) c
        where l.game_id = c.game_id and c.to_phase in ('completed', 'cancelled');
    end if;

    -- A game's events in their order: what ended, what began, how it is now.
    if v_started then
        insert into orchestration.outbox (game_id, lane, type, data, channels, request_id)
        select c.game_id, orchestration.lane_of(c.game_id), 'game_started',
               jsonb_strip_nulls(orchestration.game_started_data(c)),
               orchestration.channels_of('game_started', c.game_id::text, 'system'), v_request_id
        from unnest(p_changes) c
        where c.from_phase = 'waiting' and c.to_phase in ('briefing', 'drawing') and c.handler = 'orchestration';
    end if;
    if v_left then
        insert into orchestration.outbox (game_id, lane, type, data, channels, request_id)
        select (c.change).game_id, orchestration.lane_of((c.change).game_id), e.type, jsonb_strip_nulls(e.data),
               orchestration.channels_of(e.type, (c.change).game_id::text, 'system'), v_request_id
        from (select unnest(p_changes) as change) c
        cross join lateral (
            select 'timer_expired' as type, orchestration.timer_expired_data(c.change) as data
            where (c.change).cause = 'timer'
            union all
            select 'phase_changed', orchestration.phase_changed_data(c.change)
        ) e
        where (c.change).from_phase <> (c.change).to_phase and (c.change).handler = 'orchestration';
    end if;
    if v_completed then
        insert into orchestration.outbox (game_id, lane, type, data, channels, request_id)
        select c.game_id, orchestration.lane_of(c.game_id), 'game_completed',
               jsonb_strip_nulls(jsonb_build_object(
                   'completedAt', orchestration.iso(coalesce((c.game ->> 'completed_at')::timestamptz, c.at)),
                   'winner', winner.told, 'results', coalesce(results.told, '[]'))),
               orchestration.channels_of('game_completed', c.game_id::text, 'system'), v_request_id
        from unnest(p_changes) c
        left join lateral (
            select jsonb_build_object('userId', u.id, 'username', u.username, 'submissionId', s.id) as told
            from public.users u
            left join public.submissions s on s.game_id = c.game_id and s.user_id = u.id
            where u.id = (c.game ->> 'winner_id')::uuid
        ) winner on true
        left join lateral (
            select jsonb_agg(jsonb_build_object('userId', p.user_id, 'username', u.username,
                                                'placement', p.placement, 'voteCount', coalesce(s.vote_count, 0))
                             order by p.placement nulls last, p.joined_at, p.id) as told
            from public.game_participants p
            left join public.users u on u.id = p.user_id
            left join public.submissions s on s.game_id = p.game_id and s.user_id = p.user_id
            where p.game_id = c.game_id and p.left_at is null
        ) results on true
        where c.from_phase <> c.to_phase and c.to_phase = 'completed' and c.handler = 'orchestration';
    end if;
    if v_moved then
        insert into orchestration.outbox (game_id, lane, type, data, channels, request_id)
        select c.game_id, orchestration.lane_of(c.game_id), 'server_timer_sync',
               jsonb_strip_nulls(orchestration.timer_sync_data(c)),
               orchestration.channels_of('server_timer_sync', c.game_id::text, 'system'), v_request_id
        from unnest(p_changes) c
        where c.from_phase = c.to_phase and c.to_phase <> 'waiting' and c.next_deadline is not null
          and c.handler = 'orchestration';
    end if;

    if current_setting('orchestration.cause', true) is distinct from 'sweep' then
        perform orchestration.notify_near(min(c.next_deadline)) from unnest(p_changes) c where c.handler = 'orchestration';
    end if;
end
$$;

-- Deadlines lie 15 s and more away, and a sweeper looks once a second; only one set nearer must wake it.
create function orchestration.notify_near(p_deadline timestamptz) returns void
    language plpgsql volatile set search_path = ''
as $$
begin
    if p_deadline < clock_timestamp() + interval '1500 ms' then
        perform pg_notify('orchestration_deadline', '');
    end if;
end
$$;

-- The last resort of every trigger: it never fails and never waits.
create function orchestration.record_trigger_failure(
    p_trigger text, p_game_ids uuid[], p_sqlstate text, p_error text
) returns void
    language plpgsql volatile security definer set search_path = '' set lock_timeout = '20ms'
as $$
begin
    perform orchestration.wait_at_most(20);
    insert into orchestration.trigger_failures (trigger_name, game_ids, sqlstate, error)
    values (p_trigger, p_game_ids, p_sqlstate, p_error);
exception when others then
    raise warning 'orchestration: % could not be recorded: % (%)', p_trigger, p_error, p_sqlstate;
end
$$;

revoke all on all functions in schema orchestration from public;
grant execute on function orchestration.is_enrolled(uuid) to public;
grant execute on function orchestration.channels_of(text, text, text) to sketchy_relay, sketchy_gateway;
