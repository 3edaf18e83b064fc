-- The first sweep of a session plans some thirty statements, which takes as long as ten sweeps. A shift has that done
-- before its first deadline, on a game that ended a while ago and for whose row nobody waits; nothing of it stays.
create function orchestration.warm_up_sweep() returns boolean
    language plpgsql volatile security definer set search_path = '' set lock_timeout = '20ms'
as $$
declare
    v_at timestamptz := clock_timestamp();
    v_game uuid;
    v_phase text;
begin
    select g.id, case g.status when 'completed' then 'cancelled' else 'completed' end into v_game, v_phase
    from (
        select t.game_id
        from (select * from orchestration.transitions order by id desc limit 2000) t
        where t.at < v_at - interval '1 minute' and t.handler = 'orchestration'
          and t.to_phase in ('completed', 'cancelled')
        limit 1
    ) ended
    join public.games g on g.id = ended.game_id and g.status in ('completed', 'cancelled')
    for no key update of g skip locked;
    if not found then
        return false;
    end if;
    begin
        perform set_config('orchestration.cause', 'sweep', true);
        perform set_config('orchestration.swept_at', v_at::text, true);
        perform orchestration.decide_moves(array[v_game], v_at);
        perform orchestration.make_moves_singling_out(orchestration.without_busy(array[
            row(v_game, 'voting', to_phase, v_at, null, null)::orchestration.move]), v_at)
        from unnest(array[v_phase, case v_phase when 'completed' then 'cancelled' else 'completed' end]) to_phase;
        raise exception 'undone';
    exception when others then
        return true;
    end;
end
$$;
revoke all on function orchestration.warm_up_sweep() from public;
grant execute on function orchestration.warm_up_sweep() to sketchy_timer;
