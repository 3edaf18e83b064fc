-- What a rollout is judged by, over any window: rolled-up minutes inside it, the tables themselves at its edges.

-- Counts and histograms of [p_since, p_until), to the second. Hours already folded count where they begin.
create function orchestration.metric_window(p_since timestamptz, p_until timestamptz)
    returns table (metric text, label text, count bigint, total double precision, largest double precision, buckets jsonb)
    language plpgsql stable security definer set search_path = ''
as $$
declare
    v_rolled timestamptz := (select r.until from orchestration.rolled_up r);
    v_from timestamptz := date_trunc('minute', p_since + interval '59.999999 seconds');
    v_to timestamptz := least(date_trunc('minute', p_until), v_rolled);
begin
    if v_to <= v_from then  -- not one whole minute of it is rolled up
        v_from := p_until;
        v_to := p_until;
    end if;
    return query
    with edges as (
        select x.* from (select * from orchestration.metric_samples(p_since, v_from)
                         union all select * from orchestration.metric_samples(v_to, p_until)) x
        where x.n > 0
    ), counted as (
        select m.metric, m.label, e.key::integer as bucket, e.value::bigint as n, 0::float8 as total, m.largest
        from orchestration.metric_minutes m cross join lateral jsonb_each_text(m.buckets) e
        where m.minute >= v_from and m.minute < v_to
        union all
        select m.metric, m.label, null, m.count, m.total, m.largest
        from orchestration.metric_minutes m where m.minute >= v_from and m.minute < v_to
        union all
        select s.metric, s.label, null, s.n, coalesce(s.value, 0), coalesce(s.value, 0) from edges s
        union all
        select s.metric, s.label, orchestration.bucket_of(s.value), s.n, 0, 0 from edges s where s.value is not null
    ), merged as (
        select c.metric, c.label, c.bucket, sum(c.n)::bigint as n, sum(c.total) as total, max(c.largest) as largest
        from counted c group by 1, 2, 3
    )
    select m.metric, m.label, coalesce(sum(m.n) filter (where m.bucket is null), 0)::bigint, sum(m.total), max(m.largest),
           coalesce(jsonb_object_agg(m.bucket, m.n) filter (where m.bucket is not null), '{}')
    from merged m group by m.metric, m.label;
end
$$;

-- Games that ended in [p_since, p_until) after they had begun, the newest p_limit of each handler: ours, and those of the
-- legacy handler as the control group. overrun_ms: the furthest a phase went beyond its deadline. Games that went from one
-- hand to the other belong to neither.
create function orchestration.ended_games(p_since timestamptz, p_until timestamptz, p_limit integer default 2000)
    returns table (handler text, game_id uuid, ended_at timestamptz, completed boolean, overrun_ms double precision)
    language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select e.handler, e.game_id, e.at, e.to_phase = 'completed', o.overrun
    from unnest(array['orchestration', 'legacy']) h (handler)
    cross join lateral (
        select t.handler, t.game_id, t.at, t.to_phase from orchestration.transitions t
        where t.at >= p_since and t.at < p_until and t.handler = h.handler
          and t.to_phase in ('completed', 'cancelled') and t.from_phase <> 'waiting'
          and not exists (select from orchestration.enrolments x
                          where x.game_id = t.game_id and x.released_at is not null)
        order by t.at desc limit p_limit
    ) e
    cross join lateral (
        select max(extract(epoch from p.at - p.deadline) * 1000)::float8 as overrun
        from orchestration.transitions p
        where p.game_id = e.game_id and p.from_phase <> 'waiting' and p.at >= p.deadline
    ) o;
end
$$;

revoke all on function
    orchestration.metric_window(timestamptz, timestamptz), orchestration.ended_games(timestamptz, timestamptz, integer)
    from public;
grant execute on function
    orchestration.metric_window(timestamptz, timestamptz), orchestration.ended_games(timestamptz, timestamptz, integer)
    to sketchy_operator;
create index transitions_ended_idx on orchestration.transitions (handler, at)
    where to_phase in ('completed', 'cancelled') and from_phase <> 'waiting';
