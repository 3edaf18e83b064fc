-- Moving a game on and reading its clock, with deadlines of their own (phase_expires_at).
create function public.transition_game_status(game_uuid uuid, new_status public.game_status) returns boolean
language plpgsql security definer
as $$
declare
    game record;
    duration integer;
begin
    select * into game from public.games where id = game_uuid for update;
    if not found then
        raise exception 'Game not found: %', game_uuid using errcode = 'no_data_found';
    end if;
    if game.status = new_status then
        return true;
    end if;
    if not (
        (game.status = 'waiting' and new_status in ('briefing', 'cancelled'))
        or (game.status = 'briefing' and new_status in ('drawing', 'cancelled'))
        or (game.status = 'drawing' and new_status in ('voting', 'cancelled'))
        or (game.status = 'voting' and new_status in ('results', 'completed', 'cancelled'))
        or (game.status = 'results' and new_status in ('completed', 'cancelled'))
    ) then
        raise exception 'Invalid status transition from % to %', game.status, new_status
            using errcode = 'check_violation';
    end if;

    duration := case new_status
        when 'briefing' then 20
        when 'drawing' then game.round_duration
        when 'voting' then game.voting_duration
        when 'results' then 15
    end;
    if game.status = 'voting' and new_status in ('results', 'completed') then
        perform public.calculate_game_results(game_uuid);
    end if;
    -- now(): every delay of a sweep is handed on to the next phase.
    update public.games
    set status = new_status,
        started_at = case when new_status = 'briefing' then now() else started_at end,
        drawing_started_at = case when new_status = 'drawing' then now() else drawing_started_at end,
        voting_started_at = case when new_status = 'voting' then now() else voting_started_at end,
        completed_at = case when new_status = 'completed' then now() else completed_at end,
        current_phase_duration = duration,
        phase_expires_at = now() + make_interval(secs => duration)
    where id = game_uuid;
    insert into public.game_transition_log (game_id, from_status, to_status, triggered_by)
    values (game_uuid, game.status, new_status, coalesce(auth.uid()::text, 'system'));
    delete from public.game_metadata where game_id = game_uuid and key = 'drawing_grace_' || game_uuid;
    return true;
end
$$;

create function public.get_game_timer_state(game_uuid uuid)
returns table (
    time_remaining integer,
    phase_duration integer,
    phase_expires_at timestamptz,
    server_time timestamptz,
    phase public.game_status
)
language sql stable security definer
as $$
    select greatest(0, ceil(extract(epoch from g.phase_expires_at - now())))::integer,
           g.current_phase_duration, g.phase_expires_at, now(), g.status
    from public.games g
    where g.id = game_uuid
$$;

create function public.find_expired_games(limit_count integer default 50)
returns table (
    game_id uuid,
    current_status public.game_status,
    phase_expires_at timestamptz,
    phase_duration integer
)
language sql security definer
as $$
    select g.id, g.status, g.phase_expires_at, g.current_phase_duration
    from public.games g
    where g.status in ('briefing', 'drawing', 'voting', 'results')
      and g.phase_expires_at is not null
      and g.phase_expires_at <= now()
    order by g.phase_expires_at
    limit limit_count
$$;

-- Extends drawing once while drawings are missing; false when there is nothing (more) to wait for.
create function public.begin_drawing_grace(game_uuid uuid) returns boolean
language plpgsql security definer
as $$
declare
    grace constant interval := '10 seconds';
begin
    if exists (
        select from public.game_metadata where game_id = game_uuid and key = 'drawing_grace_' || game_uuid
    ) or not exists (
        select from public.game_participants p
        where p.game_id = game_uuid and p.left_at is null and not exists (
            select from public.submissions s where s.game_id = p.game_id and s.user_id = p.user_id
        )
    ) then
        return false;
    end if;
    insert into public.game_metadata (game_id, key, value, expires_at)
    values (game_uuid, 'drawing_grace_' || game_uuid, (now() + grace)::text, now() + grace);
    update public.games set phase_expires_at = now() + grace where id = game_uuid;
    return true;
end
$$;

create function public.monitor_game_timers_db() returns jsonb
language plpgsql security definer
as $$
declare
    expired record;
    processed integer := 0;
    errors integer := 0;
begin
    for expired in select * from public.find_expired_games(50) loop
        begin
            if expired.current_status <> 'drawing' or not public.begin_drawing_grace(expired.game_id) then
                perform public.transition_game_status(
                    expired.game_id,
                    (case expired.current_status
                        when 'briefing' then 'drawing'
                        when 'drawing' then 'voting'
                        else 'completed'
                    end)::public.game_status
                );
            end if;
            processed := processed + 1;
        exception when others then
            errors := errors + 1;
        end;
    end loop;
    -- Always 0 ms: now() is the transaction's start.
    return jsonb_build_object(
        'processed', processed, 'errors', errors, 'execution_time', extract(epoch from now() - now()) * 1000
    );
end
$$;

-- Three games in various states, for smoke tests; safe to call again.
create function public.setup_test_data() returns void
language sql
as $$
    insert into public.games
        (id, status, prompt, max_players, created_at, started_at, drawing_started_at, voting_started_at,
         current_phase_duration, phase_expires_at)
    values
        ('7e570000-0000-4000-8000-000000000001', 'drawing', 'Test prompt 1', 4, now() - interval '3 minutes',
         now() - interval '140 seconds', now() - interval '2 minutes', null, 60, now() - interval '1 minute'),
        ('7e570000-0000-4000-8000-000000000002', 'voting', 'Test prompt 2', 6, now() - interval '3 minutes',
         now() - interval '140 seconds', now() - interval '2 minutes', now() - interval '1 minute', 30,
         now() - interval '30 seconds'),
        ('7e570000-0000-4000-8000-000000000003', 'briefing', 'Test prompt 3', 4, now(), now(), null, null, 300,
         now() + interval '5 minutes')
    on conflict (id) do nothing
$$;
