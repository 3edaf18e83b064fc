-- The sweep: moves every due game on, once, in one transaction.

create type orchestration.sweep_result as (
    due integer, moved integer, extended integer, locked integer, set_aside integer, switched_off boolean, more boolean,
    lateness_ms double precision[], next_deadline timestamptz
);

-- One pass. At most one phase per game and pass: what is due again after an outage is due in the next pass, rebased.
--   p_candidates  games somebody said may end drawing early
--   p_lag         take only what is overdue by this much: what another sweeper has left
--   p_window      look no further back than this; null looks at everything and repairs what it cannot move because
--                 live_games and games disagree. Entries of the index that an old transaction keeps from being
--                 cleaned up lie further back and would all be read
--   p_only        these games and no others, whether set aside or not: after a time-out, to find who hangs
create function orchestration.sweep(
    p_limit integer default 500, p_candidates uuid[] default '{}', p_lag interval default '0',
    p_window interval default null, p_only uuid[] default null
) returns orchestration.sweep_result
    language plpgsql volatile security definer set search_path = ''
    -- One plan each, by index: planning anew for every batch costs more than the batch, and a plan made for what an
    -- empty table's statistics say would read a full one.
    set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_at timestamptz;
    v_cut timestamptz;
    v_from timestamptz;
    v_limit integer;
    v_on boolean;
    v_aside boolean;  -- some game is set aside: most of the time there is none, and nothing to ask about it
    v_due uuid[];
    v_again uuid[];
    v_moves orchestration.move[];
    v_made orchestration.move[] := '{}';
    v_tried uuid[] := '{}';
    v_left uuid[];
    v_result orchestration.sweep_result;
begin
    -- Shared with other sweeps, exclusive to who switches a flag: nothing commits after the switch-off has.
    if not pg_try_advisory_xact_lock_shared(orchestration.lock_class(), 1) then
        perform pg_advisory_xact_lock_shared(orchestration.lock_class(), 1);
    end if;
    select count(*) filter (where f.enabled and f.name in ('timer_monitoring', 'triggers')) = 2,
           least(p_limit, min(f.value)::integer),
           exists (select from orchestration.set_aside)
    into v_on, v_limit, v_aside
    from orchestration.flags f where f.name in ('timer_monitoring', 'triggers', 'max_games_per_sweep');
    -- A sweep that no trigger records and tells of must not be.
    if not v_on then
        return row(0, 0, 0, 0, 0, true, false, '{}', null)::orchestration.sweep_result;
    end if;
    v_at := clock_timestamp();
    v_cut := v_at - p_lag;
    v_from := coalesce(v_cut - p_window, '-infinity');

    if p_only is not null then
        v_due := orchestration.lock_games(p_only);
    else
        v_due := orchestration.lock_games(null, v_from, v_cut, v_limit);
        if cardinality(p_candidates) > 0 then
            v_due := coalesce(v_due, '{}') || orchestration.lock_games(array(
                select c from unnest(p_candidates) c
                where not exists (select from orchestration.set_aside a where a.game_id = c)));
        end if;
        if v_aside then
            -- Once more what was set aside, a few and each by itself. Not what hangs: that would take the others along.
            select array_agg(r.game_id) into v_again
            from (
                select a.game_id
                from orchestration.set_aside a join orchestration.live_games l on l.game_id = a.game_id
                where a.retry_at <= v_cut and l.deadline <= v_cut and not l.paused
                  and not orchestration.is_time_out(a.sqlstate)
                order by a.retry_at limit 10
            ) r;
        end if;
    end if;
    if v_due is not null or v_again is not null then
        -- Nothing but the games' own rows should be locked by others: what is, is set aside rather than waited for.
        perform set_config('orchestration.cause', 'sweep', true),
                set_config('orchestration.swept_at', v_at::text, true),
                set_config('lock_timeout', '20ms', true);
        -- An error of somebody's deferred constraint would come at the commit, where no single game could be set aside.
        set constraints all immediate;
    end if;
    if v_due is not null then
        begin
            v_moves := orchestration.decide_moves(v_due, v_at);
        exception when others then
            v_moves := orchestration.decide_each(v_due, v_at);
            v_aside := true;
        end;
        v_moves := orchestration.without_busy(v_moves);
    end if;
    if v_moves is not null then
        v_made := orchestration.make_moves_singling_out(v_moves, v_at);
        if v_aside or cardinality(v_made) < cardinality(v_moves) then
            v_aside := true;
            v_tried := array(select m.game_id from unnest(v_moves) m);
        end if;
    end if;
    if v_again is not null then
        perform set_config('lock_timeout', '2ms', true);
        v_again := orchestration.lock_games(v_again);
        for v_moves in
            select array[m] from unnest(orchestration.without_busy(orchestration.decide_each(v_again, v_at))) m
        loop
            v_made := v_made || orchestration.make_moves_singling_out(v_moves, v_at);
            v_tried := v_tried || (v_moves[1]).game_id;
        end loop;
    end if;

    v_result.more := coalesce(cardinality(v_due) >= v_limit, false);
    v_result.set_aside := 0;
    if v_aside then
        delete from orchestration.set_aside a
        where a.game_id in (select m.game_id from unnest(v_made) m)
           -- What the application has since moved, extended or deleted need not be tried again.
           or p_window is null and not exists (
               select from orchestration.live_games l where l.game_id = a.game_id and l.deadline <= v_at);
        select count(*), v_result.more or cardinality(v_tried) > cardinality(v_made)
                         + count(*) filter (where a.game_id = any (v_tried))
        into v_result.set_aside, v_result.more
        from orchestration.set_aside a
        where a.game_id = any (v_due || v_again || v_tried) and a.retry_at > v_at;
    end if;
    if p_only is null then
        select array(
                   select l.game_id from orchestration.live_games l
                   where l.deadline <= v_cut and l.deadline > v_from and not l.paused
                     and (not v_aside or not exists (
                         select from orchestration.set_aside a
                         where a.game_id = l.game_id
                           and (a.retry_at > v_at + interval '100 ms' or orchestration.is_time_out(a.sqlstate))))
                   limit p_limit),
               (select min(l.deadline) from orchestration.live_games l where l.deadline > v_cut and not l.paused)
        into v_left, v_result.next_deadline;
    else
        v_left := array(select i from unnest(p_only) i where i <> all (coalesce(v_due, '{}')));
    end if;
    if p_window is null and p_only is null and cardinality(v_left) > 0 and not v_result.more then
        begin
            perform orchestration.reconcile_game(i, false) from unnest(v_left[1:50]) i;
        exception when others then
            raise warning 'orchestration: games that cannot be moved could not be repaired: % (%)', sqlerrm, sqlstate;
        end;
    end if;

    v_result.switched_off := false;
    v_result.moved := 0;
    v_result.extended := 0;
    v_result.lateness_ms := '{}';
    if cardinality(v_made) > 0 then
        select count(*) filter (where m.to_phase <> m.from_phase), count(*) filter (where m.to_phase = m.from_phase),
               coalesce(array_agg(extract(epoch from clock_timestamp() - m.deadline)::double precision * 1000)
                        filter (where m.deadline <= v_at), '{}')
        into v_result.moved, v_result.extended, v_result.lateness_ms
        from unnest(v_made) m;
    end if;
    v_result.locked := cardinality(v_left);
    v_result.due := cardinality(v_result.lateness_ms) + v_result.locked + v_result.set_aside;
    if v_due is not null or v_again is not null then
        perform set_config('orchestration.cause', '', true);
    end if;
    return v_result;
end
$$;

-- Games in drawing whose last drawing came in, or whose last missing player left, in transactions a sweeper's last
-- snapshot did not see: what a notification may have missed. Null: all games in drawing are looked at.
create function orchestration.all_submitted_since(p_seen pg_snapshot) returns setof uuid
    language sql stable security definer set search_path = ''
    -- However much the planner thinks was written since: it guesses a third of everything.
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    -- Materialized, and made distinct outside: an order wanted of its rows could be had from an index of all games' events,
    -- read from end to end, which looks as cheap as any other while a new day's partition is empty.
    with recent as materialized (
        -- Begun after that snapshot, or at work when it was taken. Not "since its xmin": one old transaction would make that
        -- everything since it began.
        select o.game_id
        from orchestration.outbox o
        where o.txid >= pg_snapshot_xmax(p_seen)
          and o.type in ('drawing_submitted', 'player_left')
          and o.occurred_at > now() - interval '1 day'
        union all
        select o.game_id
        from orchestration.outbox o
        where o.txid = any (array(select pg_snapshot_xip(p_seen)))
          and o.type in ('drawing_submitted', 'player_left')
          and o.occurred_at > now() - interval '1 day'
        union all
        select d.game_id from orchestration.live_games d where p_seen is null and d.phase = 'drawing'
    )
    select l.game_id
    from (select distinct r.game_id from recent r) recent
    -- Offset 0: game by game through the indexes, however many the planner expects; few are recent.
    cross join lateral (
        select d.game_id from orchestration.live_games d
        where d.game_id = recent.game_id and d.phase = 'drawing' offset 0
    ) l
    cross join lateral (
        select count(*) as players,
               count(*) filter (where not exists (select from public.submissions s
                                                  where s.game_id = p.game_id and s.user_id = p.user_id)) as missing
        from public.game_participants p
        where p.game_id = l.game_id and p.left_at is null offset 0
    ) seated
    where seated.players > 0 and seated.missing = 0
$$;

revoke all on function
    orchestration.sweep(integer, uuid[], interval, interval, uuid[]), orchestration.all_submitted_since(pg_snapshot)
    from public;
grant execute on function orchestration.sweep(integer, uuid[], interval, interval, uuid[]), orchestration.all_submitted_since(pg_snapshot)
    to sketchy_timer, sketchy_operator;
