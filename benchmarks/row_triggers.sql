-- The same work in row triggers with WHEN clauses, in place of the statement triggers: for benchmarks.triggers only.
drop trigger orchestration_updated on public.games;
drop trigger orchestration_inserted on public.game_participants;
drop trigger orchestration_updated on public.game_participants;
drop trigger orchestration_inserted on public.submissions;
drop trigger orchestration_updated on public.submissions;
drop trigger orchestration_inserted on public.votes;

create function orchestration.row_games_updated() returns trigger
    language plpgsql security definer set search_path = '' set lock_timeout = '50ms'
as $$
declare
    v_cause text := nullif(current_setting('orchestration.cause', true), '');
    v_now timestamptz := clock_timestamp();
    v_swept_at timestamptz;
begin
    begin
        perform orchestration.wait_at_most(50);
        if not orchestration.flag_on('triggers') then
            return null;
        end if;
        if v_cause = 'sweep' then
            v_swept_at := current_setting('orchestration.swept_at')::timestamptz;
        end if;
        perform orchestration.record_changes(array[
            row(new.id, old.status::text, new.status::text, c.deadline, c.next_deadline, v_now,
                case when v_cause is null then 'application'
                     when v_cause <> 'sweep' then v_cause
                     when new.status = 'cancelled' then 'lobby_expired'
                     when c.deadline <= v_swept_at then 'timer'
                     else 'all_submitted' end,
                c.rebased, c.handler, c.game)::orchestration.game_change])
        from (
            select g.*, orchestration.deadline_of(
                       g.game, case when g.deadline <= v_swept_at and not g.rebased then g.deadline
                                    else coalesce(v_swept_at, orchestration.phase_began(g.game), v_now) end)
                   as next_deadline
            from (
                select l.deadline, l.game_id is not null as live, coalesce(e.handler, 'legacy') as handler,
                       coalesce(v_swept_at - l.deadline > interval '1 second', false) as rebased, to_jsonb(new) as game
                from (values (1)) one
                left join orchestration.enrolments e on e.game_id = new.id
                left join orchestration.live_games l on l.game_id = new.id
            ) g
        ) c
        where old.status <> new.status or (c.live and c.next_deadline is distinct from c.deadline);
    exception when others then
        if v_cause = 'sweep' then
            raise;
        end if;
        perform orchestration.record_trigger_failure(tg_name, array[new.id], sqlstate, sqlerrm);
    end;
    return null;
end
$$;

create function orchestration.row_told() returns trigger
    language plpgsql security definer set search_path = '' set lock_timeout = '50ms'
as $$
begin
    begin
        perform orchestration.wait_at_most(50);
        if not orchestration.flag_on('triggers') or not orchestration.is_enrolled(new.game_id) then
            return null;
        end if;
        if tg_table_name = 'votes' then
            perform orchestration.write_event(new.game_id, 'vote_cast', orchestration.vote_cast_data(to_jsonb(new)),
                                              new.voter_id::text);
        elsif tg_table_name = 'submissions' then
            perform orchestration.write_event(new.game_id, 'drawing_submitted',
                                              orchestration.drawing_submitted_data(jsonb_build_object(
                                                  'id', new.id, 'user_id', new.user_id, 'submitted_at', new.submitted_at,
                                                  'element_count', new.element_count,
                                                  'drawing_time_seconds', new.drawing_time_seconds)), new.user_id::text);
            if tg_op = 'INSERT' then
                perform orchestration.notify_all_submitted(array[new.game_id]);
            end if;
        elsif tg_op = 'INSERT' then
            perform orchestration.write_event(new.game_id, 'player_joined',
                                              orchestration.player_joined_data(to_jsonb(new)), new.user_id::text);
        elsif new.left_at is not null then
            perform orchestration.write_event(new.game_id, 'player_left',
                                              orchestration.player_left_data(to_jsonb(new)), new.user_id::text);
            perform orchestration.notify_all_submitted(array[new.game_id]);
        else
            perform orchestration.write_event(new.game_id, 'player_ready',
                                              orchestration.player_ready_data(to_jsonb(new)), new.user_id::text);
        end if;
    exception when others then
        perform orchestration.record_trigger_failure(tg_name, array[new.game_id], sqlstate, sqlerrm);
    end;
    return null;
end
$$;

create trigger orchestration_updated after update on public.games
    for each row when (old.status is distinct from new.status or old.expires_at is distinct from new.expires_at
                       or old.phase_expires_at is distinct from new.phase_expires_at)
    execute function orchestration.row_games_updated();
create trigger orchestration_inserted after insert on public.game_participants
    for each row when (new.left_at is null) execute function orchestration.row_told();
create trigger orchestration_updated after update on public.game_participants
    for each row when (old.left_at is distinct from new.left_at or old.is_ready is distinct from new.is_ready)
    execute function orchestration.row_told();
create trigger orchestration_inserted after insert on public.submissions
    for each row execute function orchestration.row_told();
create trigger orchestration_updated after update of drawing_data on public.submissions
    for each row when (old.drawing_data is distinct from new.drawing_data) execute function orchestration.row_told();
create trigger orchestration_inserted after insert on public.votes
    for each row execute function orchestration.row_told();
