-- What a sweep is made of: which games are really due, where each goes, and how it gets there.

-- A game that is leaving its phase, or staying with a later deadline (to_phase = from_phase: the grace period).
create type orchestration.move as (
    game_id uuid, from_phase text, to_phase text, deadline timestamptz, next_deadline timestamptz, seconds integer
);

create function orchestration.next_phase(p_phase text) returns text
    language sql immutable parallel safe
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
        select coalesce((select f.value from orchestration.flags f where f.name = 'grace_seconds'), 0) as seconds
        from orchestration.flags s where s.name = 'grace_period' and s.enabled
    ), matching as materialized (
        select g.id, l.phase, l.deadline, l.graced, to_jsonb(g) as game
        from orchestration.live_games l
        join public.games g on g.id = l.game_id
        where l.game_id = any (p_game_ids) and g.status::text = l.phase and not l.paused
    ), decided as materialized (
        select m.*,
               case when m.deadline <= p_at then
                        case when d.missing > 0 and not d.had_grace and (select g.seconds from grace g) > 0
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
        select d.*, case when d.to_phase = d.phase then (select g.seconds from grace g)::integer
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
        -- Every vote has counted itself; a row that is right already is left alone.
        update public.submissions s set vote_count = r.votes, is_winner = (r.place = 1)
        from placed r
        where s.id = r.id and (s.vote_count is distinct from r.votes or s.is_winner is distinct from (r.place = 1))
    )
    update public.game_participants p set placement = r.place
    from placed r where p.game_id = r.game_id and p.user_id = r.user_id and p.placement is distinct from r.place;
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

create function orchestration.refuse_endless(p_game_id uuid, p_phase text) returns void
    language plpgsql volatile set search_path = ''
as $$
begin
    raise exception 'game % has no length for its phase %: it would never end', p_game_id, p_phase
        using errcode = 'null_value_not_allowed';
end
$$;

create function orchestration.make_moves(p_moves orchestration.move[], p_at timestamptz) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_completed uuid[];
    v_endless boolean;
    v_extended boolean;
    v_drawn boolean;  -- some game leaves drawing
begin
    -- A statement without anything to do costs as much as one more game. Without any move all are begun: to be planned.
    select array_agg(m.game_id) filter (where m.to_phase = 'completed'),
           coalesce(bool_or(m.seconds is null and m.to_phase not in ('completed', 'cancelled')), true),
           coalesce(bool_or(m.to_phase = m.from_phase), true),
           coalesce(bool_or(m.from_phase = 'drawing' and m.to_phase <> 'drawing'), true)
    into v_completed, v_endless, v_extended, v_drawn
    from unnest(p_moves) m;

    if v_endless then
        perform orchestration.refuse_endless(m.game_id, m.to_phase) from unnest(p_moves) m
        where m.seconds is null and m.to_phase not in ('completed', 'cancelled');
    end if;
    if v_completed is not null then
        perform orchestration.write_results(v_completed);
    end if;

    perform orchestration.write_moves(p_moves, p_at);

    insert into public.game_transition_log (game_id, from_status, to_status, triggered_by)
    select m.game_id, m.from_phase::public.game_status, m.to_phase::public.game_status,
           'orchestration:' || orchestration.request_id()
    from unnest(p_moves) m where m.to_phase <> m.from_phase;

    if v_extended then
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
    end if;
    if v_drawn then
        -- The row stands for a running grace period, so it ends with the phase.
        delete from public.game_metadata d using unnest(p_moves) m
        where d.game_id = m.game_id and d.key = 'drawing_grace_' || m.game_id
          and m.from_phase = 'drawing' and m.to_phase <> 'drawing';
    end if;
end
$$;

-- Was the move cut off by a time-out rather than refused?
create function orchestration.is_time_out(p_sqlstate text) returns boolean
    language sql immutable parallel safe strict
    return p_sqlstate = '57014';

-- By seconds, growing twofold to an hour; when somebody's lock was the reason, by 20 ms and up.
create function orchestration.set_game_aside(p_game_id uuid, p_at timestamptz, p_sqlstate text, p_error text) returns void
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_pause interval := case when p_sqlstate in ('55P03', '40P01') then '20 ms' else '1 second' end;
begin
    insert into orchestration.set_aside as a (game_id, retry_at, sqlstate, error)
    values (p_game_id, p_at + v_pause, p_sqlstate, p_error)
    on conflict (game_id) do update
    set attempts = a.attempts + 1, sqlstate = excluded.sqlstate, error = excluded.error,
        retry_at = p_at + least(interval '1 hour', v_pause * power(2, least(a.attempts, 18)));
end
$$;

-- As decide_moves, game by game: data that cannot even be read sets aside the one game.
create function orchestration.decide_each(p_game_ids uuid[], p_at timestamptz) returns orchestration.move[]
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_id uuid;
    v_moves orchestration.move[] := '{}';
begin
    foreach v_id in array coalesce(p_game_ids, '{}') loop
        begin
            v_moves := v_moves || orchestration.decide_moves(array[v_id], p_at);
        exception when others then
            perform orchestration.set_game_aside(v_id, p_at, sqlstate, sqlerrm);
        end;
    end loop;
    return v_moves;
end
$$;

-- Makes the moves it can, and returns those made. When one of them fails they are halved and tried again, so that the
-- others go on and the one is set aside. What exceeds the savepoints of one transaction is left for the next sweep.
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
                perform orchestration.set_game_aside(p_moves[v_from].game_id, p_at, sqlstate, sqlerrm);
            end if;
        end;
    end loop;
    return v_made;
end
$$;

select orchestration.adapt_sweep();
revoke all on function
    orchestration.next_phase(text),
    orchestration.lock_games(uuid[], timestamptz, timestamptz, integer),
    orchestration.decide_moves(uuid[], timestamptz),
    orchestration.without_busy(orchestration.move[]),
    orchestration.write_results(uuid[]),
    orchestration.adapt_sweep(),
    orchestration.refuse_endless(uuid, text),
    orchestration.is_time_out(text),
    orchestration.set_game_aside(uuid, timestamptz, text, text),
    orchestration.decide_each(uuid[], timestamptz),
    orchestration.make_moves(orchestration.move[], timestamptz),
    orchestration.make_moves_singling_out(orchestration.move[], timestamptz)
    from public;
-- Who hangs is found from outside, by a time-out of its own, and set aside from there.
grant execute on function orchestration.set_game_aside(uuid, timestamptz, text, text), orchestration.is_time_out(text)
    to sketchy_timer;
