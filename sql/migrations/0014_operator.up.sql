-- What an operator may do to games in play. Each act has a reason and a row, and the cause "operator" in the timeline.
-- Null for p_game_ids means every live game. With p_dry_run nothing changes and the answer says what would.

create type orchestration.game_act as (game_id uuid, phase text, outcome text);

create function orchestration.act_on_games(
    p_action text, p_game_ids uuid[], p_by text, p_reason text, p_seconds integer default null,
    p_dry_run boolean default false
) returns setof orchestration.game_act
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_at timestamptz := clock_timestamp();
    v_row record;
    v_outcome text;
    v_deadline timestamptz;
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'a reason is needed to % games', p_action using errcode = 'invalid_parameter_value';
    end if;
    if p_action not in ('pause', 'resume', 'extend', 'advance') then
        raise exception 'unknown action %', p_action using errcode = 'invalid_parameter_value',
            hint = 'actions: pause, resume, extend, advance';
    end if;
    if p_action = 'extend' and (p_seconds is null or p_seconds not between 1 and 3600) then
        raise exception 'extend takes 1 to 3600 seconds, not %', coalesce(p_seconds::text, 'none')
            using errcode = 'invalid_parameter_value';
    end if;
    perform set_config('orchestration.cause', 'operator', true);
    if not p_dry_run then
        -- The application's order of locks: the game first, then what is ours. Who only asks keeps nobody waiting.
        perform from public.games g join orchestration.live_games l on l.game_id = g.id
        where p_game_ids is null or g.id = any (p_game_ids)
        order by g.id
        for no key update of g;
    end if;
    for v_row in
        select g.id, to_jsonb(g) as game, l.phase, l.deadline, l.paused, l.paused_at
        from public.games g join orchestration.live_games l on l.game_id = g.id
        where p_game_ids is null or g.id = any (p_game_ids)
        order by g.id
    loop
        v_outcome := case
            when p_action = 'pause' and v_row.paused then 'is paused already'
            when p_action = 'resume' and not v_row.paused then 'is not paused'
            when p_action = 'extend' and v_row.deadline is null then 'has no deadline'
            when p_action = 'extend' and v_row.phase <> 'waiting'
                 and not orchestration.has_deadline_column(v_row.game) and v_row.paused then 'is paused: resume it first'
        end;
        v_deadline := case p_action
            when 'resume' then greatest(v_row.deadline, v_row.paused_at) + (v_at - v_row.paused_at)
            when 'extend' then greatest(v_row.deadline, v_at) + make_interval(secs => p_seconds)
        end;
        if v_outcome is null then
            v_outcome := case p_action
                when 'pause' then 'paused with ' || coalesce(round(extract(epoch from v_row.deadline - v_at), 1) || ' s left', 'no deadline')
                when 'advance' then v_row.phase || ' -> ' || orchestration.next_phase(v_row.phase)
                else 'deadline ' || coalesce(orchestration.iso(v_deadline), 'none') end;
            if not p_dry_run then
                perform orchestration.act_on_game(p_action, v_row.id, v_row.phase, v_row.deadline, v_deadline, v_at);
                insert into orchestration.operator_actions (operator, action, game_id, reason, details, request_id)
                values (p_by, p_action, v_row.id, p_reason,
                        jsonb_strip_nulls(jsonb_build_object('outcome', v_outcome, 'seconds', p_seconds)),
                        orchestration.request_id());
            end if;
        end if;
        return next row(v_row.id, v_row.phase, v_outcome)::orchestration.game_act;
    end loop;
    perform set_config('orchestration.cause', '', true);
end
$$;

create function orchestration.act_on_game(
    p_action text, p_game_id uuid, p_phase text, p_deadline timestamptz, p_new_deadline timestamptz, p_at timestamptz
) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_next text := orchestration.next_phase(p_phase);
    v_game jsonb;
begin
    if p_action = 'pause' then
        update orchestration.live_games set paused = true, paused_at = p_at where game_id = p_game_id;
        return;
    elsif p_action = 'advance' then
        select to_jsonb(g) into v_game from public.games g where g.id = p_game_id;
        perform orchestration.make_moves(array[row(
            p_game_id, p_phase, v_next, p_deadline,
            case when v_next not in ('completed', 'cancelled')
                 then p_at + make_interval(secs => orchestration.phase_seconds(v_next, v_game)) end,
            orchestration.phase_seconds(v_next, v_game))::orchestration.move], p_at);
        delete from orchestration.set_aside a where a.game_id = p_game_id;
    elsif p_new_deadline is not null then
        perform orchestration.write_deadline(p_game_id, p_new_deadline);
        update orchestration.live_games set deadline = p_new_deadline where game_id = p_game_id;
        perform orchestration.notify_near(p_new_deadline);
    end if;
    update orchestration.live_games set paused = false, paused_at = null where game_id = p_game_id and paused;
    -- The last drawing may have come in while no sweep looked at the game.
    perform orchestration.notify_all_submitted(array[p_game_id]);
end
$$;

-- Only a database with timer columns can be told a new deadline of a phase; a lobby's is always a column.
create function orchestration.write_deadline(p_game_id uuid, p_deadline timestamptz) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    if (select status = 'waiting' from public.games where id = p_game_id) then
        update public.games set expires_at = p_deadline where id = p_game_id;
    elsif exists (select from pg_attribute where attrelid = 'public.games'::regclass and attname = 'phase_expires_at'
                  and not attisdropped) then
        execute 'update public.games set phase_expires_at = $2 where id = $1' using p_game_id, p_deadline;
    end if;
end
$$;

-- A game set aside is tried again at the next sweep, or dropped: cancelled, if that can be done, else no longer ours.
create function orchestration.retry_set_aside(p_game_ids uuid[], p_by text, p_reason text) returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_ids uuid[];
begin
    with again as (
        update orchestration.set_aside set retry_at = clock_timestamp()
        where p_game_ids is null or game_id = any (p_game_ids) returning game_id
    )
    select array_agg(game_id) into v_ids from again;
    insert into orchestration.operator_actions (operator, action, game_id, reason, request_id)
    select p_by, 'retry', i, p_reason, orchestration.request_id() from unnest(v_ids) i;
    return coalesce(cardinality(v_ids), 0);
end
$$;

create function orchestration.drop_set_aside(p_game_id uuid, p_by text, p_reason text) returns text
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_outcome text := 'left to the application';
begin
    if coalesce(btrim(p_reason), '') = '' then
        raise exception 'a reason is needed to drop a game' using errcode = 'invalid_parameter_value';
    end if;
    if not exists (select from orchestration.set_aside a where a.game_id = p_game_id) then
        raise exception 'game % is not set aside', p_game_id using errcode = 'no_data_found';
    end if;
    begin
        perform set_config('orchestration.cause', 'operator', true);
        update public.games set status = 'cancelled' where id = p_game_id;
        v_outcome := 'cancelled';
    exception when others then
        update orchestration.enrolments set handler = 'legacy', released_at = clock_timestamp() where game_id = p_game_id;
        delete from orchestration.live_games where game_id = p_game_id;
    end;
    delete from orchestration.set_aside where game_id = p_game_id;
    insert into orchestration.operator_actions (operator, action, game_id, reason, details, request_id)
    values (p_by, 'drop', p_game_id, p_reason, jsonb_build_object('outcome', v_outcome), orchestration.request_id());
    return v_outcome;
end
$$;

revoke all on function
    orchestration.act_on_games(text, uuid[], text, text, integer, boolean),
    orchestration.act_on_game(text, uuid, text, timestamptz, timestamptz, timestamptz),
    orchestration.write_deadline(uuid, timestamptz), orchestration.retry_set_aside(uuid[], text, text),
    orchestration.drop_set_aside(uuid, text, text)
    from public;
grant execute on function
    orchestration.act_on_games(text, uuid[], text, text, integer, boolean),
    orchestration.retry_set_aside(uuid[], text, text), orchestration.drop_set_aside(uuid, text, text)
    to sketchy_operator;
