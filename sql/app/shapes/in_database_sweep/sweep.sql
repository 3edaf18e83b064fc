-- A sweep called by a cron that selects and updates by itself, knows nobody's find_expired_games(), and
-- lets a game rest in results before it is completed.
create or replace function public.monitor_game_timers_db() returns jsonb
language plpgsql security definer
as $$
declare
    game record;
    next_status public.game_status;
    duration integer;
    processed integer := 0;
    errors integer := 0;
begin
    if not pg_try_advisory_xact_lock(hashtext('monitor_game_timers_db')) then
        return jsonb_build_object('processed', 0, 'errors', 0, 'skipped', true);
    end if;
    for game in
        select g.*
        from public.games g
        where g.status in ('briefing', 'drawing', 'voting', 'results')
          and g.phase_expires_at <= now()
        order by g.phase_expires_at
        limit 50
        for update skip locked
    loop
        begin
            next_status := case game.status
                when 'briefing' then 'drawing'
                when 'drawing' then 'voting'
                when 'voting' then 'results'
                else 'completed'
            end;
            duration := case next_status
                when 'drawing' then game.round_duration
                when 'voting' then game.voting_duration
                when 'results' then 15
            end;
            if next_status = 'results' then
                perform public.calculate_game_results(game.id);
            end if;
            update public.games
            set status = next_status,
                drawing_started_at = case when next_status = 'drawing' then now() else drawing_started_at end,
                voting_started_at = case when next_status = 'voting' then now() else voting_started_at end,
                completed_at = case when next_status = 'completed' then now() else completed_at end,
                current_phase_duration = duration,
                phase_expires_at = now() + make_interval(secs => duration)
            where id = game.id;
            insert into public.game_transition_log (game_id, from_status, to_status, triggered_by)
            values (game.id, game.status, next_status, 'monitor_game_timers_db');
            processed := processed + 1;
        exception when others then
            errors := errors + 1;
        end;
    end loop;
    return jsonb_build_object('processed', processed, 'errors', errors, 'skipped', false);
end
$$;
