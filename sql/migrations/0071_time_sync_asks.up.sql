-- A time sync on demand: an act like any other, which the relays see within a second. Without a game: all running games.
create function orchestration.ask_time_sync(p_game_ids uuid[], p_by text, p_reason text) returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_running uuid[];
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'a reason is needed to sync games' using errcode = 'invalid_parameter_value';
    end if;
    select array_agg(l.game_id) into v_running
    from orchestration.live_games l
    where (p_game_ids is null or l.game_id = any (p_game_ids))
      and l.phase <> 'waiting' and l.deadline is not null and not l.paused;
    insert into orchestration.operator_actions (operator, action, game_id, reason, details, request_id)
    select p_by, 'sync', a.game_id, p_reason, jsonb_build_object('running', cardinality(v_running)), orchestration.request_id()
    from unnest(case when p_game_ids is null then array[null::uuid] else v_running end) as a (game_id)
    where v_running is not null;
    return coalesce(cardinality(v_running), 0);
end
$$;

revoke all on function orchestration.ask_time_sync(uuid[], text, text) from public;
grant execute on function orchestration.ask_time_sync(uuid[], text, text) to sketchy_operator;
grant select on orchestration.operator_actions to sketchy_relay;
select orchestration.secure_tables();
