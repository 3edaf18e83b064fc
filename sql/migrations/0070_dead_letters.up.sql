-- What a person may do about a dead letter: have it sent again by the relay that holds its lane, or discard it. Each act
-- has a reason and a row. A letter is open until it is sent again or discarded.
alter table orchestration.dead_letters
    add column after_seq bigint,
    add column replay_asked_at timestamptz,
    add constraint dead_letters_settled_check
        check (replay_asked_at is null or (replayed_at is null and discarded_at is null));
comment on column orchestration.dead_letters.after_seq is 'What its message said, and a replay says, was sent before it';
comment on column orchestration.dead_letters.replay_asked_at is
    'Somebody wants it sent again and it is not yet; null again once it was accepted, or refused for good';
create index dead_letters_asked_idx on orchestration.dead_letters (replay_asked_at) where replay_asked_at is not null;

create type orchestration.dead_letter_act as (
    event_id uuid, game_id uuid, seq bigint, type text, reason text, dead_at timestamptz, outcome text
);

-- Does p_action (replay, discard) to the open letters that all filters fit, oldest first; null is no filter, p_over asks
-- for those of games that are over. With p_dry_run nothing changes and the answer says what would. A letter named by its
-- id is told of even if it is settled.
create function orchestration.act_on_dead_letters(
    p_action text, p_event_ids uuid[], p_game_id uuid, p_type text, p_dead_reason text, p_after timestamptz,
    p_before timestamptz, p_over boolean, p_by text, p_reason text, p_limit integer default 1000,
    p_dry_run boolean default false
) returns setof orchestration.dead_letter_act
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_row record;
    v_settled text;
begin
    if coalesce(btrim(p_reason), '') = '' or coalesce(btrim(p_by), '') = '' then
        raise exception 'to % dead letters somebody must give a name and a reason', p_action
            using errcode = 'invalid_parameter_value';
    end if;
    if p_action not in ('replay', 'discard') then
        raise exception 'unknown action %', p_action using errcode = 'invalid_parameter_value', hint = 'actions: replay, discard';
    end if;
    for v_row in
        select d.*
        from orchestration.dead_letters d
        where (p_event_ids is null or d.event_id = any (p_event_ids))
          and (p_event_ids is not null or (d.replayed_at is null and d.discarded_at is null
                                           and (p_action = 'discard' or d.replay_asked_at is null)))
          and (p_game_id is null or d.game_id = p_game_id)
          and (p_type is null or d.type = p_type)
          and (p_dead_reason is null or d.reason = p_dead_reason)
          and (p_after is null or d.dead_at >= p_after)
          and (p_before is null or d.dead_at < p_before)
          and (not p_over or not exists (select from orchestration.live_games l where l.game_id = d.game_id))
        order by d.dead_at, d.event_id
        limit p_limit
        for update of d
    loop
        v_settled := case
            when v_row.replayed_at is not null then 'was sent again at ' || orchestration.iso(v_row.replayed_at)
            when v_row.discarded_at is not null then 'was discarded at ' || orchestration.iso(v_row.discarded_at)
            when p_action = 'replay' and v_row.replay_asked_at is not null then 'is to be sent again already'
        end;
        if v_settled is null and not p_dry_run then
            if p_action = 'replay' then
                update orchestration.dead_letters set replay_asked_at = clock_timestamp() where event_id = v_row.event_id;
            else
                update orchestration.dead_letters set discarded_at = clock_timestamp(), replay_asked_at = null
                where event_id = v_row.event_id;
            end if;
            insert into orchestration.operator_actions (operator, action, game_id, reason, details, request_id)
            values (p_by, p_action, v_row.game_id, p_reason,
                    jsonb_strip_nulls(jsonb_build_object('eventId', v_row.event_id, 'seq', v_row.seq,
                                                         'outcome', v_row.type || ', dead of ' || v_row.reason)),
                    orchestration.request_id());
        end if;
        return next row(v_row.event_id, v_row.game_id, v_row.seq, v_row.type, v_row.reason, v_row.dead_at,
                        coalesce(v_settled, case p_action when 'replay' then 'to be sent again' else 'discarded' end)
                       )::orchestration.dead_letter_act;
    end loop;
end
$$;

revoke all on function orchestration.act_on_dead_letters(
    text, uuid[], uuid, text, text, timestamptz, timestamptz, boolean, text, text, integer, boolean) from public;
grant execute on function orchestration.act_on_dead_letters(
    text, uuid[], uuid, text, text, timestamptz, timestamptz, boolean, text, text, integer, boolean) to sketchy_operator;

-- A relay notes what became of a replay.
grant update (replay_asked_at, last_answer) on orchestration.dead_letters to sketchy_relay;
