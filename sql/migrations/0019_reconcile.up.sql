-- The reconciler: finds and repairs what triggers could not do.

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

-- Those of these games that live_games may have wrong. Looks and locks nothing: a game looked at must not be late for it.
create function orchestration.disagreeing(p_game_ids uuid[]) returns setof uuid
    language sql stable security definer set search_path = ''
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off  -- by index, as in the sweep
as $$
    select i
    from unnest(p_game_ids) i
    left join orchestration.enrolments e on e.game_id = i and e.handler = 'orchestration'
    left join public.games g on g.id = i
    left join orchestration.live_games l on l.game_id = i
    where case when e.game_id is null or g.id is null then l.game_id is not null
               when l.game_id is null then g.status not in ('completed', 'cancelled')
               when l.phase <> g.status::text then true
               else (g.status = 'waiting' or orchestration.has_deadline_column(to_jsonb(g)))
                    and l.deadline is distinct from orchestration.deadline_of(to_jsonb(g), null) end
$$;

-- What players of these games did within the last two hours and no event tells, as far as their rows still show it: who is
-- in the game, who is ready, drawings, votes. One statement, so that rows and events are seen at the same moment.
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
    from players p where p.left_at is null and not p.told_joined and p.joined_at > now() - interval '2 hours'
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
    where s.game_id = any (p_game_ids) and s.submitted_at > now() - interval '2 hours'
      and not exists (select from told t where t.game_id = s.game_id and t.type = 'drawing_submitted'
                      and t.data ->> 'submissionId' = s.id::text)
    union all
    select v.game_id, 'vote_cast', v.voter_id::text, orchestration.vote_cast_data(to_jsonb(v)), v.voted_at
    from public.votes v
    where v.game_id = any (p_game_ids) and v.voted_at > now() - interval '2 hours'
      and not exists (select from told t where t.game_id = v.game_id and t.type = 'vote_cast'
                      and t.user_id = v.voter_id::text)
$$;

-- Repairs what triggers could not do, and says what: live_games against games, and the news that clients missed. Looks
-- at the games of recorded failures, at games in play that live_games lacks, and at live games from a place of its own in
-- each call, at most p_limit of each: all of them in time, none of it twice at once. And at games that ended within the last
-- two hours, twenty times as many: with a full disk not even a failure is recorded, and nothing else leads to them again.
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
        from (select i as id, orchestration.reconcile_game(i, p_dry_run) as said
              from orchestration.disagreeing(v_ids) i) r
        where r.said is not null
    loop
        return next;
    end loop;

    v_ids := array(
        select unnest(v_ids)
        union
        (select e.game_id
         from (select distinct t.game_id from orchestration.transitions t
               where t.at > now() - interval '2 hours' and t.handler = 'orchestration'
                 and t.to_phase in ('completed', 'cancelled')) e
         order by e.game_id < v_start, e.game_id limit 20 * p_limit));
    -- A few at a time: for many the joins would be planned badly.
    for v_batch in 0 .. cardinality(v_ids) / p_limit loop
        for game_id, repair in
            with missed as materialized (
                select m.* from orchestration.missed_events(v_ids[v_batch * p_limit + 1 : (v_batch + 1) * p_limit]) m
                where orchestration.is_enrolled(m.game_id)
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

revoke all on function
    orchestration.reconcile_game(uuid, boolean), orchestration.disagreeing(uuid[]), orchestration.missed_events(uuid[]),
    orchestration.reconcile(boolean, integer), orchestration.why_not_down()
    from public;
grant execute on function orchestration.reconcile(boolean, integer) to sketchy_timer, sketchy_operator;
grant execute on function orchestration.why_not_down() to sketchy_operator;
