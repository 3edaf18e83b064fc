-- The first version: no deadline is stored; it follows from when a phase began and how long it lasts.
create function public.game_phase_deadline(game public.games) returns timestamptz
language sql stable
as $$
    select case game.status
        when 'briefing' then game.started_at + interval '20 seconds'
        when 'drawing' then game.drawing_started_at + make_interval(secs => game.round_duration)
        when 'voting' then game.voting_started_at + make_interval(secs => game.voting_duration)
        when 'results' then game.voting_started_at + make_interval(secs => game.voting_duration + 15)
    end
$$;

create function public.game_phase_duration(game public.games) returns integer
language sql stable
as $$
    select case game.status
        when 'briefing' then 20
        when 'drawing' then game.round_duration
        when 'voting' then game.voting_duration
        when 'results' then 15
    end
$$;

create function public.transition_game_status(game_uuid uuid, new_status public.game_status) returns boolean
language plpgsql security definer
as $$
declare
    current_status public.game_status;
begin
    select status into current_status from public.games where id = game_uuid for update;
    if not found then
        raise exception 'Game not found: %', game_uuid;
    end if;
    if current_status = new_status then
        return true;
    end if;
    if not (
        (current_status = 'waiting' and new_status in ('briefing', 'cancelled'))
        or (current_status = 'briefing' and new_status in ('drawing', 'cancelled'))
        or (current_status = 'drawing' and new_status in ('voting', 'cancelled'))
        or (current_status = 'voting' and new_status in ('results', 'completed', 'cancelled'))
        or (current_status = 'results' and new_status in ('completed', 'cancelled'))
    ) then
        raise exception 'Invalid status transition from % to %', current_status, new_status;
    end if;
    if exists (
        select from public.game_transition_log
        where game_id = game_uuid and created_at > now() - interval '500 milliseconds'
    ) then
        raise exception 'Rapid status transitions are not allowed';
    end if;
    if new_status in ('results', 'completed') and current_status = 'voting' then
        perform public.calculate_game_results(game_uuid);
    end if;
    update public.games
    set status = new_status,
        started_at = case when new_status = 'briefing' then now() else started_at end,
        drawing_started_at = case when new_status = 'drawing' then now() else drawing_started_at end,
        voting_started_at = case when new_status = 'voting' then now() else voting_started_at end,
        completed_at = case when new_status = 'completed' then now() else completed_at end
    where id = game_uuid;
    insert into public.game_transition_log (game_id, from_status, to_status, triggered_by)
    values (game_uuid, current_status, new_status, 'transition_game_status');
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
    select greatest(0, ceil(extract(epoch from public.game_phase_deadline(g) - now())))::integer,
           public.game_phase_duration(g), public.game_phase_deadline(g), now(), g.status
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
language plpgsql security definer
as $$
begin
    return query
        select g.id, g.status, public.game_phase_deadline(g), public.game_phase_duration(g)
        from public.games g
        where g.status in ('briefing', 'drawing', 'voting', 'results')
          and public.game_phase_deadline(g) <= now()
        order by public.game_phase_deadline(g)
        limit limit_count;
end
$$;

create function public.monitor_game_timers_db() returns integer
language plpgsql security definer
as $$
declare
    expired record;
    processed integer := 0;
begin
    for expired in select * from public.find_expired_games(50) loop
        begin
            perform public.transition_game_status(
                expired.game_id,
                (case expired.current_status
                    when 'briefing' then 'drawing'
                    when 'drawing' then 'voting'
                    else 'completed'
                end)::public.game_status
            );
            processed := processed + 1;
        exception when others then
            null;
        end;
    end loop;
    return processed;
end
$$;

-- Three games in various states, for smoke tests; safe to call again.
create function public.setup_test_data() returns void
language sql
as $$
    insert into public.games
        (id, status, prompt, max_players, created_at, started_at, drawing_started_at, voting_started_at)
    values
        ('7e570000-0000-4000-8000-000000000001', 'drawing', 'Test prompt 1', 4, now() - interval '3 minutes',
         now() - interval '140 seconds', now() - interval '2 minutes', null),
        ('7e570000-0000-4000-8000-000000000002', 'voting', 'Test prompt 2', 6, now() - interval '3 minutes',
         now() - interval '140 seconds', now() - interval '2 minutes', now() - interval '1 minute'),
        ('7e570000-0000-4000-8000-000000000003', 'briefing', 'Test prompt 3', 4, now(), now(), null, null)
    on conflict (id) do nothing
$$;
