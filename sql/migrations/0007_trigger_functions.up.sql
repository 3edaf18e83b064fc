-- What runs inside the application's statements. Each function does its work in one subtransaction: an error of ours
-- is recorded and the statement goes on. The lock time-out bounds what a lock on a table of ours could cost.

-- Row-level and first by name, so that the application's own row triggers already find the decision.
create function orchestration.on_game_created() returns trigger
    language plpgsql security definer set search_path = '' set lock_timeout = '50ms' set plan_cache_mode = force_generic_plan
as $$
declare
    v_handler text;
    v_deadline timestamptz;
begin
    begin
        if current_setting('statement_timeout') <> '0' then
            perform orchestration.wait_at_most(50);
        end if;
        if not orchestration.flag_on('triggers') then
            return null;
        end if;
        v_handler := case when orchestration.flag_includes('enrolment', new.id::text)
                          then 'orchestration' else 'legacy' end;
        insert into orchestration.enrolments (game_id, handler, percentage)
        values (new.id, v_handler, coalesce(orchestration.flag_number('enrolment'), 0))
        on conflict (game_id) do nothing;
        if v_handler = 'orchestration' and new.status not in ('completed', 'cancelled') then
            v_deadline := orchestration.deadline_of(to_jsonb(new), clock_timestamp());
            insert into orchestration.live_games (game_id, phase, deadline)
            values (new.id, new.status::text, v_deadline)
            on conflict (game_id) do nothing;
            perform orchestration.notify_near(v_deadline);
        end if;
    exception when others then
        begin
            perform orchestration.record_trigger_failure(tg_name, array[new.id], sqlstate, sqlerrm);
        exception when others then null;
        end;
    end;
    return null;
end
$$;

create function orchestration.on_games_updated() returns trigger
    language plpgsql security definer set search_path = '' set lock_timeout = '50ms' set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off  -- by index, as in the sweep
as $$
declare
    v_cause text := nullif(current_setting('orchestration.cause', true), '');
    v_now timestamptz := clock_timestamp();
    v_swept_at timestamptz;  -- the moment a sweep decided by
begin
    begin
        if v_cause = 'sweep' then
            -- It has made sure that triggers are on, and has bounds of its own.
            v_swept_at := current_setting('orchestration.swept_at')::timestamptz;
        else
            if current_setting('statement_timeout') <> '0' then
                perform orchestration.wait_at_most(50);
            end if;
            -- Most updates, a player counted for one, concern neither the phase nor its deadline. Both tables hold the
            -- rows in the same order; a join would be planned for one row and kept for 500.
            if not orchestration.flag_on('triggers') or not exists (
                select from (select unnest(array(select row(o.*)::public.games from old_rows o)) as o,
                                    unnest(array(select row(n.*)::public.games from new_rows n)) as n) z
                where (z.o).status <> (z.n).status or (z.o).expires_at <> (z.n).expires_at
                   or to_jsonb(z.o) -> 'phase_expires_at' is distinct from to_jsonb(z.n) -> 'phase_expires_at') then
                return null;
            end if;
        end if;
        -- No variable has a type of ours: that would be looked up before this block begins.
        perform orchestration.record_changes(array_agg(
            row(c.game_id, c.from_phase, c.to_phase, c.deadline, c.next_deadline, v_now, c.cause, c.rebased, c.handler,
                c.game)::orchestration.game_change order by c.deadline, c.game_id))
        from (
            select g.*,
                   case when g.from_phase = g.to_phase and not orchestration.has_deadline_column(g.game)
                             and g.to_phase <> 'waiting'
                        then g.deadline
                        else orchestration.deadline_of(
                            g.game, case when g.deadline <= v_swept_at and not g.rebased then g.deadline
                                         else coalesce(v_swept_at, orchestration.phase_began(g.game), v_now) end)
                   end as next_deadline,
                   case when v_cause is null then 'application'
                        when v_cause <> 'sweep' then v_cause
                        when g.to_phase = 'cancelled' then 'lobby_expired'
                        when g.deadline <= v_swept_at then 'timer'
                        else 'all_submitted' end as cause
            from (
                select (z.n).id as game_id, (z.o).status::text as from_phase, (z.n).status::text as to_phase,
                       l.game_id is not null as live, coalesce(e.handler, 'legacy') as handler,
                       case when l.game_id is not null then l.deadline
                            else orchestration.deadline_of(to_jsonb(z.o), orchestration.phase_began(to_jsonb(z.o)))
                       end as deadline,
                       coalesce(v_swept_at - l.deadline > interval '1 second', false) as rebased,
                       to_jsonb(z.n) as game
                from (select unnest(array(select row(o.*)::public.games from old_rows o)) as o,
                             unnest(array(select row(n.*)::public.games from new_rows n)) as n) z
                left join orchestration.enrolments e on e.game_id = (z.n).id
                left join orchestration.live_games l on l.game_id = (z.n).id
                where (z.n).id = (z.o).id and (l.game_id is not null or (z.o).status <> (z.n).status)
                offset 0  -- keeps each row's jsonb from being built again for every use
            ) g
            offset 0
        ) c
        where c.from_phase <> c.to_phase or (c.live and c.next_deadline is distinct from c.deadline)
        having count(*) > 0;
    exception when others then
        if v_cause = 'sweep' then
            raise;  -- the sweep itself must not move a game silently: it sets the game aside
        end if;
        begin
            perform orchestration.record_trigger_failure(
                tg_name, array(select n.id from new_rows n), sqlstate, sqlerrm);
        exception when others then null;
        end;
    end;
    return null;
end
$$;

-- A deleted game ends in silence: its players can hear nothing that would still mean something.
create function orchestration.on_game_deleted() returns trigger
    language plpgsql security definer set search_path = '' set lock_timeout = '50ms' set plan_cache_mode = force_generic_plan
as $$
begin
    begin
        if current_setting('statement_timeout') <> '0' then
            perform orchestration.wait_at_most(50);
        end if;
        if not orchestration.flag_on('triggers') then
            return null;
        end if;
        delete from orchestration.live_games l where l.game_id = old.id;
    exception when others then
        begin
            perform orchestration.record_trigger_failure(tg_name, array[old.id], sqlstate, sqlerrm);
        exception when others then null;
        end;
    end;
    return null;
end
$$;

-- Wakes a sweeper when, as far as this transaction sees, the last drawing of a game is in. Two last players at the same
-- moment may miss each other here; the sweeper's look-ahead finds them. Skipped under SERIALIZABLE: what it reads
-- could make the application's transaction fail.
create function orchestration.notify_all_submitted(p_game_ids uuid[]) returns void
    language sql volatile security definer set search_path = ''
as $$
    select pg_notify('orchestration_all_submitted', l.game_id::text)
    from orchestration.live_games l
    where l.game_id = any (p_game_ids) and l.phase = 'drawing'
      and current_setting('transaction_isolation') <> 'serializable'
      and exists (select from public.game_participants p where p.game_id = l.game_id and p.left_at is null)
      and not exists (select from public.game_participants p
                      where p.game_id = l.game_id and p.left_at is null
                        and not exists (select from public.submissions s
                                        where s.game_id = p.game_id and s.user_id = p.user_id));
$$;

-- What players do: one function for their three tables, a branch each. Events are written by one statement each: a
-- function a row would be planned and called for each.
create function orchestration.on_players_acted() returns trigger
    language plpgsql security definer set search_path = '' set lock_timeout = '50ms' set plan_cache_mode = force_generic_plan
as $$
declare
    v_ids uuid[];
    v_again uuid[];  -- drawings changed by an update; null: all are new
begin
    if tg_op = 'UPDATE' and current_setting('orchestration.cause', true) = 'sweep' then
        return null;  -- placements and counts are told with game_completed
    end if;
    begin
        if current_setting('statement_timeout') <> '0' then
            perform orchestration.wait_at_most(50);
        end if;
        if not orchestration.flag_on('triggers') then
            return null;
        end if;
        if tg_table_name = 'votes' then
            insert into orchestration.outbox (game_id, lane, type, user_id, data, channels, request_id)
            select n.game_id, orchestration.lane_of(n.game_id), 'vote_cast', n.voter_id::text,
                   jsonb_strip_nulls(orchestration.vote_cast_data(to_jsonb(n))),
                   orchestration.channels_of('vote_cast', n.game_id::text, n.voter_id::text), orchestration.request_id()
            from new_rows n
            join orchestration.enrolments h on h.game_id = n.game_id and h.handler = 'orchestration'
            order by n.voted_at, n.id;
        elsif tg_table_name = 'submissions' then
            -- Every vote counts itself here. A drawing may be large, and is not unpacked to see that it is still the same.
            if tg_op = 'UPDATE' then
                select array_agg(n.id) into v_again
                from old_rows o join new_rows n on n.id = o.id
                where case when n.vote_count <> o.vote_count or n.is_winner <> o.is_winner
                           then pg_column_size(n.drawing_data) <> pg_column_size(o.drawing_data)
                           else n.drawing_data is distinct from o.drawing_data end;
                if v_again is null then
                    return null;
                end if;
            end if;
            -- A drawing sent again is told again, under the same submission id.
            insert into orchestration.outbox (game_id, lane, type, user_id, data, channels, request_id)
            select n.game_id, orchestration.lane_of(n.game_id), 'drawing_submitted', n.user_id::text,
                   jsonb_strip_nulls(orchestration.drawing_submitted_data(jsonb_build_object(
                       'id', n.id, 'user_id', n.user_id, 'submitted_at', n.submitted_at, 'element_count', n.element_count,
                       'drawing_time_seconds', n.drawing_time_seconds))),
                   orchestration.channels_of('drawing_submitted', n.game_id::text, n.user_id::text), orchestration.request_id()
            from new_rows n
            join orchestration.enrolments h on h.game_id = n.game_id and h.handler = 'orchestration'
            where v_again is null or n.id = any (v_again)
            order by n.submitted_at, n.id;
            if tg_op = 'INSERT' then
                perform orchestration.notify_all_submitted(array(select n.game_id from new_rows n));
            end if;
        elsif tg_op = 'INSERT' then
            insert into orchestration.outbox (game_id, lane, type, user_id, data, channels, request_id)
            select n.game_id, orchestration.lane_of(n.game_id), 'player_joined', n.user_id::text,
                   jsonb_strip_nulls(orchestration.player_joined_data(to_jsonb(n))),
                   orchestration.channels_of('player_joined', n.game_id::text, n.user_id::text), orchestration.request_id()
            from new_rows n
            join orchestration.enrolments h on h.game_id = n.game_id and h.handler = 'orchestration'
            where n.left_at is null
            order by n.joined_at, n.id;
        elsif tg_op = 'UPDATE' then
            insert into orchestration.outbox (game_id, lane, type, user_id, data, channels, request_id)
            select n.game_id, orchestration.lane_of(n.game_id), e.type, n.user_id::text, jsonb_strip_nulls(e.data),
                   orchestration.channels_of(e.type, n.game_id::text, n.user_id::text), orchestration.request_id()
            from old_rows o
            join new_rows n on n.id = o.id
            join orchestration.enrolments h on h.game_id = n.game_id and h.handler = 'orchestration'
            cross join lateral (
                select 'player_left' as type, orchestration.player_left_data(to_jsonb(n)) as data
                where o.left_at is null and n.left_at is not null
                union all
                select 'player_joined', orchestration.player_joined_data(to_jsonb(n))
                where o.left_at is not null and n.left_at is null
                union all
                select 'player_ready', orchestration.player_ready_data(to_jsonb(n))
                where n.is_ready is distinct from o.is_ready
            ) e
            order by n.joined_at, n.id;
            select array_agg(distinct n.game_id) into v_ids
            from old_rows o join new_rows n on n.id = o.id
            where o.left_at is null and n.left_at is not null;
        else
            -- The players of a deleted game leave in silence.
            insert into orchestration.outbox (game_id, lane, type, user_id, data, channels, request_id)
            select o.game_id, orchestration.lane_of(o.game_id), 'player_left', o.user_id::text,
                   jsonb_strip_nulls(orchestration.player_left_data(to_jsonb(o))),
                   orchestration.channels_of('player_left', o.game_id::text, o.user_id::text), orchestration.request_id()
            from old_rows o
            join orchestration.enrolments h on h.game_id = o.game_id and h.handler = 'orchestration'
            where o.left_at is null and exists (select from public.games g where g.id = o.game_id)
            order by o.joined_at, o.id;
            select array_agg(distinct o.game_id) into v_ids from old_rows o;
        end if;
        if v_ids is not null then
            perform orchestration.notify_all_submitted(v_ids);
        end if;
    exception when others then
        begin
            if tg_op = 'DELETE' then
                v_ids := array(select distinct o.game_id from old_rows o);
            else
                v_ids := array(select distinct n.game_id from new_rows n);
            end if;
            perform orchestration.record_trigger_failure(tg_name, v_ids, sqlstate, sqlerrm);
        exception when others then null;
        end;
    end;
    return null;
end
$$;

create function orchestration.player_joined_data(p_row jsonb) returns jsonb
    language sql stable set search_path = ''
as $$
    select jsonb_build_object(
        'userId', p_row ->> 'user_id', 'isReady', (p_row ->> 'is_ready')::boolean,
        'joinedAt', orchestration.iso((p_row ->> 'joined_at')::timestamptz),
        'selectedBoosterPack', p_row ->> 'selected_booster_pack')
        || (select jsonb_build_object('username', u.username, 'avatar_url', u.avatar_url)
            from (values (1)) one left join public.users u on u.id = (p_row ->> 'user_id')::uuid);
$$;

create function orchestration.username_of(p_user_id text) returns text
    language sql stable set search_path = ''
as $$
    select (select u.username from public.users u where u.id = p_user_id::uuid);
$$;

create function orchestration.player_left_data(p_row jsonb) returns jsonb
    language sql stable
    return jsonb_build_object(
        'userId', p_row ->> 'user_id', 'username', orchestration.username_of(p_row ->> 'user_id'),
        'leftAt', orchestration.iso(coalesce((p_row ->> 'left_at')::timestamptz, clock_timestamp())));

create function orchestration.player_ready_data(p_row jsonb) returns jsonb
    language sql stable
    return jsonb_build_object(
        'userId', p_row ->> 'user_id', 'username', orchestration.username_of(p_row ->> 'user_id'),
        'isReady', (p_row ->> 'is_ready')::boolean, 'selectedBoosterPack', p_row ->> 'selected_booster_pack');

create function orchestration.drawing_submitted_data(p_row jsonb) returns jsonb
    language sql stable
    return jsonb_build_object(
        'userId', p_row ->> 'user_id', 'username', orchestration.username_of(p_row ->> 'user_id'),
        'submissionId', p_row ->> 'id', 'submittedAt', orchestration.iso((p_row ->> 'submitted_at')::timestamptz),
        'elementCount', (p_row ->> 'element_count')::integer,
        'drawingTimeSeconds', (p_row ->> 'drawing_time_seconds')::numeric);

create function orchestration.vote_cast_data(p_row jsonb) returns jsonb
    language sql stable set search_path = ''
as $$
    select jsonb_build_object(
        'userId', p_row ->> 'voter_id', 'voterUsername', orchestration.username_of(p_row ->> 'voter_id'),
        'submissionId', p_row ->> 'submission_id', 'votedAt', orchestration.iso((p_row ->> 'voted_at')::timestamptz),
        -- Counting reads rows that others write: under SERIALIZABLE that could make the vote itself fail.
        'totalVotes', case when current_setting('transaction_isolation') <> 'serializable' then
            (select count(*) from public.votes v where v.game_id = (p_row ->> 'game_id')::uuid) end);
$$;

-- An in-database sweep of the application runs under the application_name orchestration.legacy_sweep (see 0012): what
-- it would write about an enrolled game does not happen.
create function orchestration.keep_from_legacy() returns trigger
    language plpgsql security definer set search_path = '' set lock_timeout = '50ms'
as $$
declare
    v_row jsonb := to_jsonb(case when tg_op = 'DELETE' then old else new end);
begin
    if orchestration.is_enrolled((v_row ->> case when tg_table_name = 'games' then 'id' else 'game_id' end)::uuid) then
        return null;
    end if;
    return case when tg_op = 'DELETE' then old else new end;
exception
    when undefined_function or undefined_table or undefined_column or invalid_schema_name or insufficient_privilege then
        return case when tg_op = 'DELETE' then old else new end;  -- nothing of ours is left to keep
    when others then
        return null;  -- not known now: the legacy sweep comes again, a game moved by two hands does not come back
end
$$;

revoke all on all functions in schema orchestration from public;
grant execute on function orchestration.is_enrolled(uuid) to public;
