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

-- Locks live games: those named, else those due from p_from (exclusive) to p_to, the longest due first. In the mode that
-- a player's foreign key does not block; what is really locked is skipped, takes up no place, and stays due. What was
-- set aside is locked by name only.
create function orchestration.lock_games(
    p_game_ids uuid[], p_from timestamptz default null, p_to timestamptz default null, p_limit integer default null
) returns uuid[]
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_locked uuid[];
begin
    if p_game_ids is not null then
        select array_agg(k.id) into v_locked
        from (
            select g.id
            from orchestration.live_games l join public.games g on g.id = l.game_id
            where l.game_id = any (p_game_ids) and not l.paused
            for no key update of g skip locked
        ) k;
    else
        select array_agg(k.id) into v_locked
        from (
            select g.id
            from orchestration.live_games l join public.games g on g.id = l.game_id
            where l.deadline <= p_to and l.deadline > p_from and not l.paused
              and g.status::text = l.phase
              and not exists (select from orchestration.set_aside a where a.game_id = l.game_id)
            order by l.deadline
            limit p_limit
            for no key update of g skip locked
        ) k;
    end if;
    return v_locked;
end
$$;

-- Where each of these locked games goes, if it goes anywhere: the rules of domain/phases.py. A game that is not as
-- live_games has it, because the application moved or touched it at the same moment, stays.
create function orchestration.decide_moves(p_game_ids uuid[], p_at timestamptz) returns orchestration.move[]
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_moves orchestration.move[];
begin
    with grace as (
        select case when orchestration.flag_on('grace_period') then orchestration.flag_number('grace_seconds') else 0 end
               as seconds
    ), matching as materialized (
        select g.id, l.phase, l.deadline, l.graced, to_jsonb(g) as game
        from orchestration.live_games l
        join public.games g on g.id = l.game_id
        where l.game_id = any (p_game_ids) and g.status::text = l.phase and not l.paused
    ), decided as materialized (
        select m.*,
               case when m.deadline <= p_at then
                        case when d.missing > 0 and not d.had_grace and (select seconds from grace) > 0
                             then 'drawing' else orchestration.next_phase(m.phase) end
                    when d.active > 0 and d.missing = 0 then 'voting'
               end as to_phase,
               -- The schedule goes on from the old deadline, so that a late sweep does not lengthen the game; more than
               -- a second late, or ended early, it starts anew.
               case when p_at - m.deadline between interval '0' and interval '1 second' then m.deadline else p_at end
               as base
        from matching m
        -- Game by game, by index: a join would be planned once, for however many games came first.
        left join lateral (
            select count(*) as active,
                   count(*) filter (where not exists (
                       select from public.submissions s where s.game_id = m.id and s.user_id = p.user_id)) as missing,
                   m.graced or exists (select from public.game_metadata d
                                       where d.game_id = m.id and d.key = 'drawing_grace_' || m.id) as had_grace
            from public.game_participants p
            where p.game_id = m.id and p.left_at is null
        ) d on m.phase = 'drawing'
        where not orchestration.has_deadline_column(m.game) and m.phase <> 'waiting'
           or orchestration.deadline_of(m.game, null) is not distinct from m.deadline
    )
    select array_agg(row(c.id, c.phase, c.to_phase, c.deadline,
                         case when c.to_phase not in ('completed', 'cancelled')
                              then c.base + make_interval(secs => c.seconds) end,
                         c.seconds)::orchestration.move order by c.deadline, c.id)
    into v_moves
    from (
        select d.*, case when d.to_phase = d.phase then (select seconds from grace)::integer
                         else orchestration.phase_seconds(d.to_phase, d.game) end as seconds
        from decided d where d.to_phase is not null
    ) c;
    return v_moves;
end
$$;

-- Those of the moves whose results can be written now. The application locks participants and submissions before the
-- game and we the other way round, so neither side may wait for the other: a game with one of them locked waits.
create function orchestration.without_busy(p_moves orchestration.move[]) returns orchestration.move[]
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_ending uuid[];
    v_busy uuid[];
    v_free orchestration.move[];
begin
    select array_agg(m.game_id) into v_ending from unnest(p_moves) m where m.to_phase = 'completed';
    if v_ending is null then
        return p_moves;
    end if;
    select array_agg(e.id) into v_busy
    from unnest(v_ending) e (id)
    cross join lateral (
        select count(*) as n from (select from public.game_participants p where p.game_id = e.id
                                   for no key update skip locked) l
    ) p
    cross join lateral (
        select count(*) as n from (select from public.submissions s where s.game_id = e.id
                                   for no key update skip locked) l
    ) s
    where p.n < (select count(*) from public.game_participants x where x.game_id = e.id)
       or s.n < (select count(*) from public.submissions x where x.game_id = e.id);
    if v_busy is null then
        return p_moves;
    end if;
    select array_agg(m order by m.deadline, m.game_id) into v_free
    from unnest(p_moves) m where m.game_id <> all (v_busy);
    return v_free;
end
$$;

-- Votes become placements and a winner as the application's calculate_game_results() makes them, for many games at once:
-- most votes first, the earlier drawing wins a tie, also a tie of none.
create function orchestration.write_results(p_game_ids uuid[]) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    with counted as materialized (
        select s.id, s.game_id, s.user_id, s.submitted_at,
               (select count(*) from public.votes v where v.submission_id = s.id)::integer as votes
        from unnest(p_game_ids) g (id) join public.submissions s on s.game_id = g.id
    ), placed as materialized (
        select c.*, row_number() over (partition by c.game_id order by c.votes desc, c.submitted_at, c.id)::integer as place
        from counted c
    ), submissions as (
        update public.submissions s set vote_count = r.votes, is_winner = (r.place = 1)
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

    update orchestration.live_games l set graced = true
    from unnest(p_moves) m where l.game_id = m.game_id and m.to_phase = m.from_phase;

    -- The row stands for a running grace period, so it ends with the phase.
    delete from public.game_metadata d using unnest(p_moves) m
    where d.game_id = m.game_id and d.key = 'drawing_grace_' || m.game_id
      and m.from_phase = 'drawing' and m.to_phase <> 'drawing';

    delete from orchestration.set_aside a using unnest(p_moves) m where a.game_id = m.game_id;
end
$$;

create type orchestration.sweep_result as (
    due integer, moved integer, extended integer, locked integer, set_aside integer, switched_off boolean, more boolean,
    lateness_ms double precision[], next_deadline timestamptz
);

-- Makes the moves it can, and returns those made. When one of them fails they are halved and tried again, so that the
-- others go on and the one is set aside: by seconds, growing twofold to an hour; when somebody's lock was the reason, by
-- 20 ms and up. What exceeds the savepoints of one transaction is left for the next sweep.
create function orchestration.make_moves_singling_out(p_moves orchestration.move[], p_at timestamptz)
    returns orchestration.move[]
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_made orchestration.move[] := '{}';
    v_first integer[] := array[1];
    v_last integer[] := array[cardinality(p_moves)];
    v_from integer;
    v_to integer;
    v_middle integer;
    v_savepoints integer := 0;
begin
    while cardinality(v_first) > 0 and v_savepoints < 48 loop
        v_from := v_first[1];
        v_to := v_last[1];
        v_first := v_first[2:];
        v_last := v_last[2:];
        continue when v_from > v_to;
        begin
            perform orchestration.make_moves(p_moves[v_from:v_to], p_at);
            v_made := v_made || p_moves[v_from:v_to];
            v_savepoints := v_savepoints + 1;
        exception when others then
            if sqlstate in ('53100', '58030', '25006') then
                raise;  -- a full or failing disk, a read-only server: no game's fault
            elsif v_from < v_to then
                v_middle := (v_from + v_to) / 2;
                v_first := array[v_from, v_middle + 1] || v_first;
                v_last := array[v_middle, v_to] || v_last;
                -- The lock of somebody else is not waited for again and again.
                perform set_config('lock_timeout', '2ms', true);
            else
                v_savepoints := v_savepoints + 1;
                insert into orchestration.set_aside as a (game_id, retry_at, sqlstate, error)
                values (p_moves[v_from].game_id,
                        p_at + case when sqlstate in ('55P03', '40P01') then interval '20 ms' else interval '1 second' end,
                        sqlstate, sqlerrm)
                on conflict (game_id) do update
                set attempts = a.attempts + 1, sqlstate = excluded.sqlstate, error = excluded.error,
                    retry_at = p_at + least(interval '1 hour', (excluded.retry_at - p_at) * power(2, least(a.attempts, 18)));
            end if;
        end;
    end loop;
    return v_made;
end
$$;

-- One pass. At most one phase per game and pass: what is due again after an outage is due in the next pass, rebased.
--   p_candidates  games somebody said may end drawing early
--   p_lag         take only what is overdue by this much: what another sweeper has left
--   p_window      look no further back than this; null looks at everything and repairs what it cannot move because
--                 live_games and games disagree. Entries of the index that an old transaction keeps from being
--                 cleaned up lie further back and would all be read
create function orchestration.sweep(
    p_limit integer default 500, p_candidates uuid[] default '{}', p_lag interval default '0',
    p_window interval default null
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
    v_due uuid[];
    v_again uuid[];
    v_moves orchestration.move[];
    v_made orchestration.move[] := '{}';
    v_tried uuid[];
    v_left uuid[];
    v_result orchestration.sweep_result;
begin
    -- Shared with other sweeps, exclusive to who switches a flag: nothing commits after the switch-off has.
    perform pg_advisory_xact_lock_shared(orchestration.lock_class(), 1);
    -- A sweep that no trigger records and tells of must not be.
    if not coalesce(orchestration.flag_on('timer_monitoring') and orchestration.flag_on('triggers'), false) then
        return row(0, 0, 0, 0, 0, true, false, '{}', null)::orchestration.sweep_result;
    end if;
    v_at := clock_timestamp();
    v_cut := v_at - p_lag;
    v_from := coalesce(v_cut - p_window, '-infinity');
    v_limit := least(p_limit, coalesce(orchestration.flag_number('max_games_per_sweep')::integer, p_limit));
    perform set_config('orchestration.cause', 'sweep', true);
    perform set_config('orchestration.swept_at', v_at::text, true);
    -- Nothing but the games' own rows should be locked by others: what is, is set aside rather than waited for.
    perform set_config('lock_timeout', '20ms', true);
    -- An error of somebody's deferred constraint would come at the commit, where no single game could be set aside.
    set constraints all immediate;

    v_due := orchestration.lock_games(null, v_from, v_cut, v_limit);
    if cardinality(p_candidates) > 0 then
        v_due := coalesce(v_due, '{}') || orchestration.lock_games(array(
            select c from unnest(p_candidates) c
            where not exists (select from orchestration.set_aside a where a.game_id = c)));
    end if;
    if v_due is not null then
        v_moves := orchestration.without_busy(orchestration.decide_moves(v_due, v_at));
    end if;
    if v_moves is not null then
        v_made := orchestration.make_moves_singling_out(v_moves, v_at);
        v_tried := array(select m.game_id from unnest(v_moves) m);
    end if;

    -- Once more what was set aside, a few and each by itself.
    select array_agg(r.game_id) into v_again
    from (select a.game_id from orchestration.set_aside a where a.retry_at <= v_cut order by a.retry_at limit 10) r;
    if v_again is not null then
        perform set_config('lock_timeout', '2ms', true);
        v_again := orchestration.lock_games(v_again);
        for v_moves in
            select array[m] from unnest(orchestration.without_busy(orchestration.decide_moves(v_again, v_at))) m
        loop
            v_made := v_made || orchestration.make_moves_singling_out(v_moves, v_at);
            v_tried := v_tried || (v_moves[1]).game_id;
        end loop;
    end if;

    select array_agg(l.game_id) into v_left
    from (
        select l.game_id from orchestration.live_games l
        where l.deadline <= v_cut and l.deadline > v_from and not l.paused
          and not exists (select from orchestration.set_aside a
                          where a.game_id = l.game_id and a.retry_at > v_at + interval '100 ms')
        limit p_limit
    ) l;
    if v_left is not null and p_window is null then
        begin
            perform orchestration.reconcile_game(i, false) from unnest(v_left[1:50]) i;
        exception when others then
            raise warning 'orchestration: games that cannot be moved could not be repaired: % (%)', sqlerrm, sqlstate;
        end;
        perform set_config('orchestration.cause', 'sweep', true);
    end if;

    v_result.switched_off := false;
    select count(*) filter (where m.to_phase <> m.from_phase), count(*) filter (where m.to_phase = m.from_phase),
           coalesce(array_agg(extract(epoch from clock_timestamp() - m.deadline)::double precision * 1000)
                    filter (where m.deadline <= v_at), '{}')
    into v_result.moved, v_result.extended, v_result.lateness_ms
    from unnest(v_made) m;
    v_result.set_aside := (select count(*) from orchestration.set_aside a
                           where a.game_id = any (v_tried) and a.retry_at > v_at);
    v_result.locked := coalesce(cardinality(v_left), 0);
    v_result.due := cardinality(v_result.lateness_ms) + v_result.locked + v_result.set_aside;
    v_result.more := coalesce(cardinality(v_due) >= v_limit
                              or cardinality(v_tried) > cardinality(v_made) + v_result.set_aside, false);
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
        -- Begun after that snapshot, or at work when it was taken. Not "since its xmin": one old transaction would make that
        -- everything since it began.
        select o.game_id
        from orchestration.outbox o
        where o.txid >= pg_snapshot_xmax(p_seen)
          and o.type in ('drawing_submitted', 'player_left')
          and o.occurred_at > now() - interval '1 day'
        union
        select o.game_id
        from pg_snapshot_xip(p_seen) x (txid) join orchestration.outbox o on o.txid = x.txid
        where o.type in ('drawing_submitted', 'player_left')
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

-- Repairs live_games for one game, and tells clients what they missed of its phases; null: nothing was wrong, or somebody
-- has the game locked. The game is locked first and only then looked at: what others did until then is seen.
create function orchestration.reconcile_game(p_game_id uuid, p_dry_run boolean) returns text
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_game jsonb;
    v_live orchestration.live_games;
    v_handler text;
    v_told text;
    v_phase text;
    v_deadline timestamptz;
    v_was text;
begin
    perform from public.games g where g.id = p_game_id for no key update skip locked;
    if not found and exists (select from public.games g where g.id = p_game_id) then
        return null;
    end if;
    select to_jsonb(g) into v_game from public.games g where g.id = p_game_id;
    select l.* into v_live from orchestration.live_games l where l.game_id = p_game_id;
    select e.handler into v_handler from orchestration.enrolments e where e.game_id = p_game_id;

    if v_game is null or v_handler is distinct from 'orchestration' then
        if v_live.game_id is null then
            return null;
        end if;
        if not p_dry_run then
            delete from orchestration.live_games l where l.game_id = p_game_id;
            delete from orchestration.set_aside a where a.game_id = p_game_id;
        end if;
        return format('live_games: %s -> none, because the game is %s', v_live.phase,
                      case when v_game is null then 'gone' else 'not ours' end);
    end if;

    v_phase := v_game ->> 'status';
    v_deadline := case
        when v_phase = v_live.phase and v_phase <> 'waiting' and not orchestration.has_deadline_column(v_game)
        then v_live.deadline
        else orchestration.deadline_of(v_game, coalesce(orchestration.phase_began(v_game), clock_timestamp())) end;
    if (v_live.game_id is null and v_phase in ('completed', 'cancelled'))
       or (v_live.phase = v_phase and v_live.deadline is not distinct from v_deadline) then
        return null;
    end if;

    v_was := coalesce((select t.to_phase from orchestration.transitions t
                       where t.game_id = p_game_id order by t.id desc limit 1), v_live.phase, v_phase);
    if not p_dry_run then
        perform set_config('orchestration.cause', 'recovery', true);
        if v_live.game_id is null then
            insert into orchestration.live_games (game_id, phase, deadline) values (p_game_id, v_phase, v_deadline);
        end if;
        -- A changed phase is told as such, a changed deadline as a time sync.
        perform orchestration.record_changes(array[row(
            p_game_id, v_was, v_phase, v_live.deadline, v_deadline, clock_timestamp(), 'recovery', false,
            'orchestration', v_game)::orchestration.game_change]);
        perform set_config('orchestration.cause', '', true);
    end if;
    return format('live_games: %s %s -> %s %s%s', coalesce(v_live.phase, 'missing'), orchestration.iso(v_live.deadline),
                  v_phase, orchestration.iso(v_deadline), case when v_was <> v_phase then ', phase told again' else '' end);
end
$$;

-- What players of these games did within the last hour and no event tells, as far as their rows still show it: who is in
-- the game, who is ready, drawings, votes. One statement, so that rows and events are seen at the same moment.
create function orchestration.missed_events(p_game_ids uuid[])
    returns table (game_id uuid, type text, user_id text, data jsonb, moment timestamptz)
    language sql stable security definer set search_path = ''
as $$
    with told as (
        select o.id, o.game_id, o.type, o.user_id, o.data
        from orchestration.outbox o
        where o.game_id = any (p_game_ids) and o.occurred_at > now() - interval '1 day'
          and o.type in ('player_joined', 'player_left', 'player_ready', 'drawing_submitted', 'vote_cast')
    ), presence as (
        select distinct on (t.game_id, t.user_id) t.game_id, t.user_id, t.type = 'player_joined' as joined
        from told t where t.type in ('player_joined', 'player_left')
        order by t.game_id, t.user_id, t.id desc
    ), readiness as (
        select distinct on (t.game_id, t.user_id) t.game_id, t.user_id, (t.data ->> 'isReady')::boolean as ready
        from told t where t.type in ('player_joined', 'player_ready')
        order by t.game_id, t.user_id, t.id desc
    ), players as (
        select p.game_id, p.user_id::text as user_id, p.joined_at, p.left_at, p.is_ready, to_jsonb(p) as row,
               coalesce(e.joined, false) as told_joined, r.ready as told_ready
        from public.game_participants p
        left join presence e on e.game_id = p.game_id and e.user_id = p.user_id::text
        left join readiness r on r.game_id = p.game_id and r.user_id = p.user_id::text
        where p.game_id = any (p_game_ids)
    )
    select p.game_id, 'player_joined', p.user_id, orchestration.player_joined_data(p.row), p.joined_at
    from players p where p.left_at is null and not p.told_joined and p.joined_at > now() - interval '1 hour'
    union all
    select p.game_id, 'player_ready', p.user_id, orchestration.player_ready_data(p.row), p.joined_at
    from players p where p.left_at is null and p.told_joined and p.is_ready <> p.told_ready
    union all
    select p.game_id, 'player_left', p.user_id, orchestration.player_left_data(p.row), p.left_at
    from players p where p.left_at is not null and p.told_joined
    union all
    select e.game_id, 'player_left', e.user_id,
           orchestration.player_left_data(jsonb_build_object('user_id', e.user_id)), clock_timestamp()
    from presence e
    where e.joined and exists (select from public.games g where g.id = e.game_id)
      and not exists (select from players p where p.game_id = e.game_id and p.user_id = e.user_id)
    union all
    select s.game_id, 'drawing_submitted', s.user_id::text, orchestration.drawing_submitted_data(to_jsonb(s)), s.submitted_at
    from public.submissions s
    where s.game_id = any (p_game_ids) and s.submitted_at > now() - interval '1 hour'
      and not exists (select from told t where t.game_id = s.game_id and t.type = 'drawing_submitted'
                      and t.data ->> 'submissionId' = s.id::text)
    union all
    select v.game_id, 'vote_cast', v.voter_id::text, orchestration.vote_cast_data(to_jsonb(v)), v.voted_at
    from public.votes v
    where v.game_id = any (p_game_ids) and v.voted_at > now() - interval '1 hour'
      and not exists (select from told t where t.game_id = v.game_id and t.type = 'vote_cast'
                      and t.user_id = v.voter_id::text)
$$;

-- Repairs what triggers could not do, and says what: live_games against games, and the news that clients missed. Looks
-- at the games of recorded failures, at games in play that live_games lacks, and at live games from a place of its own in
-- each call, at most p_limit of each: all of them in time, none of it twice at once.
create function orchestration.reconcile(p_dry_run boolean default false, p_limit integer default 500)
    returns table (game_id uuid, repair text)
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_start uuid := gen_random_uuid();
    v_failures bigint[];
    v_ids uuid[];
begin
    if not pg_try_advisory_xact_lock(orchestration.lock_class(), 2) then
        return;
    end if;
    select array_agg(f.id) into v_failures
    from (select f.id from orchestration.trigger_failures f where f.resolved_at is null order by f.id limit p_limit) f;
    v_ids := array(
        select unnest(f.game_ids) from orchestration.trigger_failures f where f.id = any (v_failures)
        union
        (select e.game_id
         from public.games g join orchestration.enrolments e on e.game_id = g.id
         where g.status in ('waiting', 'briefing', 'drawing', 'voting', 'results') and e.handler = 'orchestration'
           and not exists (select from orchestration.live_games l where l.game_id = g.id)
         limit p_limit)
        union
        (select l.game_id from orchestration.live_games l where l.game_id >= v_start order by l.game_id limit p_limit)
        union
        (select l.game_id from orchestration.live_games l where l.game_id < v_start order by l.game_id
         limit greatest(0, p_limit - (select count(*) from (
             select from orchestration.live_games l where l.game_id >= v_start limit p_limit) n))));

    for game_id, repair in
        select r.id, r.said
        from (select i as id, orchestration.reconcile_game(i, p_dry_run) as said from unnest(v_ids) i) r
        where r.said is not null
    loop
        return next;
    end loop;

    for game_id, repair in
        with missed as materialized (
            select m.* from orchestration.missed_events(v_ids) m where orchestration.is_enrolled(m.game_id)
        ), told as (
            insert into orchestration.outbox (game_id, lane, type, user_id, data, channels, request_id)
            select m.game_id, orchestration.lane_of(m.game_id), m.type, m.user_id, jsonb_strip_nulls(m.data),
                   orchestration.channels_of(m.type, m.game_id::text, m.user_id), orchestration.request_id()
            from missed m where not p_dry_run
            order by m.moment
        )
        select m.game_id, m.type || ' of ' || m.user_id from missed m order by m.moment
    loop
        return next;
    end loop;

    if not p_dry_run then
        update orchestration.trigger_failures f set resolved_at = clock_timestamp() where f.id = any (v_failures);
    end if;
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
