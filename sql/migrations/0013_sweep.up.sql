-- The sweep: moves every due game on, once, in one transaction.

-- A game that is leaving its phase, or staying with a later deadline (to_phase = from_phase: the grace period).
create type orchestration.move as (
    game_id uuid, from_phase text, to_phase text, deadline timestamptz, next_deadline timestamptz, seconds integer
);

create function orchestration.next_phase(p_phase text) returns text
    language sql immutable parallel safe strict
    return case p_phase
        when 'waiting' then 'cancelled'
        when 'briefing' then 'drawing'
        when 'drawing' then 'voting'
        when 'voting' then 'completed'
        when 'results' then 'completed'
    end;

-- Locks the games that are really due and says where each goes. Taken in the mode a player's foreign key does not
-- block; what is really locked is skipped and stays due. For a game whose results are to be written, its participants
-- and submissions are locked too, or it waits: the application locks those before the game, and neither side may wait
-- for the other.
create function orchestration.lock_moves(p_game_ids uuid[], p_at timestamptz) returns orchestration.move[]
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_moves orchestration.move[];
    v_ending uuid[];
    v_busy uuid[];
begin
    with grace as (
        select case when orchestration.flag_on('grace_period') then orchestration.flag_number('grace_seconds') else 0 end
               as seconds
    ), locked as (
        select g.id, g.status::text as phase, l.deadline, to_jsonb(g) as game
        from orchestration.live_games l
        join public.games g on g.id = l.game_id
        where l.game_id = any (p_game_ids)
          and g.status::text = l.phase and not l.paused
        for no key update of g skip locked
    ), decided as materialized (
        select k.*,
               case when k.deadline <= p_at then
                        case when k.phase = 'drawing' and d.active > d.submitted and not d.had_grace
                                  and (select seconds from grace) > 0
                             then 'drawing' else orchestration.next_phase(k.phase) end
                    when k.phase = 'drawing' and d.active > 0 and d.active = d.submitted then 'voting'
               end as to_phase,
               -- The schedule goes on from the old deadline, so that a late sweep does not lengthen the game; more than
               -- a second late, or ended early, it starts anew.
               case when p_at - k.deadline between interval '0' and interval '1 second' then k.deadline else p_at end
               as base
        from locked k
        left join lateral (
            select count(*) as active,
                   count(s.id) as submitted,
                   exists (select from public.game_metadata m
                           where m.game_id = k.id and m.key = 'drawing_grace_' || k.id) as had_grace
            from public.game_participants p
            left join public.submissions s on s.game_id = p.game_id and s.user_id = p.user_id
            where p.game_id = k.id and p.left_at is null
        ) d on k.phase = 'drawing'
        -- A deadline the application moved since is its own again; without timer columns only ours exists.
        where k.phase <> 'waiting' and not orchestration.has_deadline_column(k.game)
           or orchestration.deadline_of(k.game, null) is not distinct from k.deadline
    )
    select array_agg(row(c.id, c.phase, c.to_phase, c.deadline,
                         case when c.to_phase in ('completed', 'cancelled') then null
                              else c.base + make_interval(secs => c.seconds) end,
                         c.seconds)::orchestration.move order by c.deadline, c.id)
    into v_moves
    from (
        select d.*, case when d.to_phase = d.phase then (select seconds from grace)::integer
                         else orchestration.phase_seconds(d.to_phase, d.game) end as seconds
        from decided d where d.to_phase is not null
    ) c;

    select array_agg(m.game_id) into v_ending from unnest(v_moves) m where m.to_phase = 'completed';
    if v_ending is null then
        return v_moves;
    end if;
    select array_agg(e.id) into v_busy
    from unnest(v_ending) e (id)
    cross join lateral (
        select count(*) as n from (select p.id from public.game_participants p where p.game_id = e.id
                                   for no key update skip locked) l
    ) p
    cross join lateral (
        select count(*) as n from (select s.id from public.submissions s where s.game_id = e.id
                                   for no key update skip locked) l
    ) s
    where p.n < (select count(*) from public.game_participants x where x.game_id = e.id)
       or s.n < (select count(*) from public.submissions x where x.game_id = e.id);
    if v_busy is not null then
        select array_agg(m) into v_moves from unnest(v_moves) m where m.game_id <> all (v_busy);
    end if;
    return v_moves;
end
$$;

-- Votes to placements, for many games at once: most votes first, then the earlier drawing; players without a drawing
-- get no placement. The winner is placement 1 if it has a vote at all.
create function orchestration.write_results(p_game_ids uuid[]) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    with counted as (
        select s.id, s.game_id, s.user_id, s.submitted_at,
               (select count(*) from public.votes v where v.submission_id = s.id)::integer as votes
        from public.submissions s where s.game_id = any (p_game_ids)
    ), placed as (
        select c.*, rank() over (partition by c.game_id order by c.votes desc, c.submitted_at, c.id)::integer as place
        from counted c
    ), submissions as (
        update public.submissions s set vote_count = r.votes, is_winner = (r.place = 1 and r.votes > 0)
        from placed r where s.id = r.id
    )
    update public.game_participants p set placement = r.place
    from placed r where p.game_id = r.game_id and p.user_id = r.user_id;
end
$$;

-- What the sweep writes into the application's tables depends on their columns, which differ between its versions.
create function orchestration.adapt_sweep() returns text
    language plpgsql volatile set search_path = ''
as $adapt$
declare
    v_timer_columns boolean := (
        select count(*) = 2 from pg_attribute
        where attrelid = 'public.games'::regclass and not attisdropped
          and attname in ('phase_expires_at', 'current_phase_duration'));
begin
    execute format($definition$
        create or replace function orchestration.write_moves(p_moves orchestration.move[], p_at timestamptz) returns void
            language plpgsql volatile security definer set search_path = ''
        as $body$
        begin
            update public.games g
            set status = m.to_phase::public.game_status,
                started_at = case when m.to_phase = 'briefing' then p_at else g.started_at end,
                drawing_started_at = case when m.from_phase = 'briefing' then p_at else g.drawing_started_at end,
                voting_started_at = case when m.to_phase = 'voting' then p_at else g.voting_started_at end,
                completed_at = case when m.to_phase = 'completed' then p_at else g.completed_at end,
                winner_id = case when m.to_phase = 'completed'
                                 then (select s.user_id from public.submissions s where s.game_id = g.id and s.is_winner
                                       order by s.submitted_at limit 1)
                                 else g.winner_id end%s
            from unnest(p_moves) m
            where g.id = m.game_id%s;
        end
        $body$
        $definition$,
        case when v_timer_columns then
            ', phase_expires_at = m.next_deadline, current_phase_duration = case when m.to_phase = m.from_phase '
            'then g.current_phase_duration + m.seconds else m.seconds end' else '' end,
        case when v_timer_columns then '' else ' and m.to_phase <> m.from_phase' end);
    revoke all on function orchestration.write_moves(orchestration.move[], timestamptz) from public;
    return case when v_timer_columns then 'games.phase_expires_at keeps the deadline'
                else 'games has no timer columns: live_games alone keeps the deadline' end;
end
$adapt$;

create function orchestration.make_moves(p_moves orchestration.move[], p_at timestamptz) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    perform orchestration.write_results(array_agg(m.game_id)) from unnest(p_moves) m
    where m.to_phase = 'completed' having count(*) > 0;

    perform orchestration.write_moves(p_moves, p_at);

    insert into public.game_transition_log (game_id, from_status, to_status, triggered_by)
    select m.game_id, m.from_phase::public.game_status, m.to_phase::public.game_status,
           'orchestration:' || orchestration.request_id()
    from unnest(p_moves) m where m.to_phase <> m.from_phase;

    insert into public.game_metadata (game_id, key, value, expires_at)
    select m.game_id, 'drawing_grace_' || m.game_id, orchestration.iso(m.next_deadline), m.next_deadline
    from unnest(p_moves) m where m.to_phase = m.from_phase;

    -- Where games keeps no deadline, its trigger saw no change: the grace period is ours alone to record and tell.
    perform orchestration.record_changes(array_agg(
        row(m.game_id, m.from_phase, m.to_phase, m.deadline, m.next_deadline, p_at, 'timer', false, 'orchestration',
            to_jsonb(g))::orchestration.game_change))
    from unnest(p_moves) m join public.games g on g.id = m.game_id
    where m.to_phase = m.from_phase and not orchestration.has_deadline_column(to_jsonb(g))
    having count(*) > 0;

    -- The row stands for a running grace period, so it ends with the phase.
    delete from public.game_metadata d using unnest(p_moves) m
    where d.game_id = m.game_id and d.key = 'drawing_grace_' || m.game_id
      and m.from_phase = 'drawing' and m.to_phase <> 'drawing';

    delete from orchestration.set_aside a using unnest(p_moves) m where a.game_id = m.game_id;
end
$$;

create type orchestration.sweep_result as (
    due integer, moved integer, extended integer, locked integer, set_aside integer, switched_off boolean,
    lateness_ms double precision[], next_deadline timestamptz
);

-- One pass. At most one phase per game and pass: what is due again after an outage is due in the next pass, rebased.
--   p_candidates  games somebody said may end drawing early
--   p_lag         take only what is overdue by this much: what another sweeper has left
--   p_window      look no further back than this; null looks at everything. Entries of the index that an old
--                 transaction keeps from being cleaned up lie further back and would all be read
create function orchestration.sweep(
    p_limit integer default 500, p_candidates uuid[] default '{}', p_lag interval default '0',
    p_window interval default null
) returns orchestration.sweep_result
    language plpgsql volatile security definer set search_path = ''
    set plan_cache_mode = force_generic_plan  -- planning anew for every batch would cost more than the batch
as $$
declare
    v_at timestamptz;
    v_cut timestamptz;
    v_due uuid[];
    v_moves orchestration.move[];
    v_move orchestration.move;
    v_made orchestration.move[] := '{}';
    v_failed integer := 0;
    v_result orchestration.sweep_result;
begin
    -- Shared with other sweeps, exclusive to who switches a flag: nothing commits after the switch-off has.
    perform pg_advisory_xact_lock_shared(orchestration.lock_class(), 1);
    if not coalesce(orchestration.flag_on('timer_monitoring'), false) then
        return row(0, 0, 0, 0, 0, true, '{}', null)::orchestration.sweep_result;
    end if;
    perform set_config('orchestration.cause', 'sweep', true);
    v_at := clock_timestamp();
    v_cut := v_at - p_lag;

    select array_agg(d.game_id) into v_due
    from (
        select l.game_id
        from orchestration.live_games l
        where l.deadline <= v_cut and l.deadline > coalesce(v_cut - p_window, '-infinity') and not l.paused
          and not exists (select from orchestration.set_aside a where a.game_id = l.game_id and a.retry_at > v_at)
        order by l.deadline
        limit least(p_limit, coalesce(orchestration.flag_number('max_games_per_sweep')::integer, p_limit))
    ) d;
    v_moves := orchestration.lock_moves(coalesce(v_due, '{}') || p_candidates, v_at);

    begin
        if v_moves is not null then
            perform orchestration.make_moves(v_moves, v_at);
            v_made := v_moves;
        end if;
    exception when others then
        -- One of them cannot be moved: each by itself, so that the others go on. Few, because every one is a savepoint.
        foreach v_move in array v_moves[1:60] loop
            begin
                perform orchestration.make_moves(array[v_move], v_at);
                v_made := v_made || v_move;
            exception when others then
                v_failed := v_failed + 1;
                insert into orchestration.set_aside as a (game_id, retry_at, sqlstate, error)
                values (v_move.game_id, v_at + interval '1 second', sqlstate, sqlerrm)
                on conflict (game_id) do update
                set attempts = a.attempts + 1, sqlstate = excluded.sqlstate, error = excluded.error,
                    retry_at = v_at + least(interval '1 hour', interval '1 second' * power(2, least(a.attempts, 12)));
            end;
        end loop;
    end;

    v_result.due := coalesce(cardinality(v_due), 0);
    v_result.switched_off := false;
    v_result.set_aside := v_failed;
    select count(*) filter (where m.to_phase <> m.from_phase), count(*) filter (where m.to_phase = m.from_phase),
           coalesce(array_agg(extract(epoch from clock_timestamp() - m.deadline)::double precision * 1000)
                    filter (where m.deadline <= v_at), '{}')
    into v_result.moved, v_result.extended, v_result.lateness_ms
    from unnest(v_made) m;
    v_result.locked := greatest(0, v_result.due - (select count(*) from unnest(v_made) m where m.deadline <= v_at) - v_failed);
    select min(l.deadline) into v_result.next_deadline
    from orchestration.live_games l where l.deadline > v_cut and not l.paused;
    perform set_config('orchestration.cause', '', true);
    return v_result;
end
$$;

-- Games in drawing whose last drawing came in, or whose last missing player left, in transactions a sweeper's last
-- snapshot did not see: what a notification may have missed. Null: all games in drawing are looked at.
create function orchestration.all_submitted_since(p_seen pg_snapshot) returns setof uuid
    language sql stable security definer set search_path = ''
as $$
    select l.game_id
    from (
        select distinct o.game_id
        from orchestration.outbox o
        where o.txid >= pg_snapshot_xmin(p_seen) and not pg_visible_in_snapshot(o.txid, p_seen)
          and o.type in ('drawing_submitted', 'player_left')
          and o.occurred_at > now() - interval '1 day'
        union all
        select d.game_id from orchestration.live_games d where p_seen is null and d.phase = 'drawing'
    ) recent
    join orchestration.live_games l on l.game_id = recent.game_id and l.phase = 'drawing'
    where exists (select from public.game_participants p where p.game_id = l.game_id and p.left_at is null)
      and not exists (select from public.game_participants p
                      where p.game_id = l.game_id and p.left_at is null
                        and not exists (select from public.submissions s
                                        where s.game_id = p.game_id and s.user_id = p.user_id))
$$;

-- Repairs what triggers could not do: live_games against games, and the news clients missed. Returns what it repaired.
create function orchestration.reconcile(p_dry_run boolean default false, p_limit integer default 500)
    returns table (game_id uuid, repair text)
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_row record;
    v_deadline timestamptz;
    v_change orchestration.game_change;
begin
    perform set_config('orchestration.cause', 'recovery', true);
    for v_row in
        select e.game_id as id, g.status::text as phase, to_jsonb(g) as game, l.phase as live_phase, l.deadline as live_deadline,
               (select t.to_phase from orchestration.transitions t where t.game_id = e.game_id order by t.id desc limit 1)
               as told_phase
        from orchestration.enrolments e
        join public.games g on g.id = e.game_id
        left join orchestration.live_games l on l.game_id = e.game_id
        where e.handler = 'orchestration'
          and ((l.game_id is null) <> (g.status::text in ('completed', 'cancelled'))
               or l.phase <> g.status::text
               or (l.game_id is not null and orchestration.has_deadline_column(to_jsonb(g))
                   and l.deadline is distinct from orchestration.deadline_of(to_jsonb(g), null)))
        limit p_limit
        for no key update of g skip locked
    loop
        game_id := v_row.id;
        v_deadline := orchestration.deadline_of(v_row.game, clock_timestamp());
        repair := format('live_games: %s %s -> %s %s', coalesce(v_row.live_phase, 'missing'),
                         orchestration.iso(v_row.live_deadline), v_row.phase, orchestration.iso(v_deadline));
        if not p_dry_run then
            if v_row.phase in ('completed', 'cancelled') then
                delete from orchestration.live_games l where l.game_id = v_row.id;
            else
                insert into orchestration.live_games as l (game_id, phase, deadline)
                values (v_row.id, v_row.phase, v_deadline)
                on conflict on constraint live_games_pkey do update
                set phase = excluded.phase, deadline = excluded.deadline;
            end if;
            if v_row.phase <> coalesce(v_row.told_phase, v_row.live_phase, v_row.phase) then
                v_change := row(v_row.id, coalesce(v_row.told_phase, v_row.live_phase), v_row.phase, v_row.live_deadline,
                                v_deadline, clock_timestamp(), 'recovery', false, 'orchestration',
                                v_row.game)::orchestration.game_change;
                perform orchestration.record_changes(array[v_change]);
                repair := repair || ', told again';
            end if;
        end if;
        return next;
    end loop;
    if not p_dry_run then
        update orchestration.trigger_failures f set resolved_at = clock_timestamp() where f.resolved_at is null;
    end if;
    perform set_config('orchestration.cause', '', true);
end
$$;

-- Reasons not to uninstall now; empty when there is none.
create function orchestration.why_not_down() returns setof text
    language sql stable set search_path = ''
as $$
    select format('%s enrolled games are in play', count(*)) from orchestration.live_games having count(*) > 0
    union all
    select format('%s events wait to be delivered', count(*))
    from orchestration.outbox o
    where not exists (select from orchestration.outcomes c where c.outbox_id = o.id)
    having count(*) > 0
$$;

select orchestration.adapt_sweep();
revoke all on all functions in schema orchestration from public;
grant execute on function orchestration.is_enrolled(uuid) to public;
-- The application's own list goes by the application's grants; the first line took everybody's from it.
select orchestration.copy_execute_grants(theirs, kept)
from to_regprocedure('public.find_expired_games(integer)') theirs,
     to_regprocedure('orchestration.legacy_find_expired_games(integer)') kept
where kept is not null;
grant execute on function orchestration.sweep(integer, uuid[], interval, interval), orchestration.all_submitted_since(pg_snapshot)
    to sketchy_timer, sketchy_operator;
grant execute on function orchestration.reconcile(boolean, integer) to sketchy_timer, sketchy_operator;
grant execute on function orchestration.why_not_down() to sketchy_operator;
