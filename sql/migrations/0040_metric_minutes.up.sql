-- What is measured, by the minute: counts and mergeable histograms, so that any window is a sum of rows. Each minute is
-- rolled up once, when it is over; hours older than two days become one row each (fold_minutes).

create table orchestration.metric_minutes (
    minute timestamptz not null,
    metric text not null,
    label text not null default '',
    minutes smallint not null default 1 check (minutes in (1, 60)),
    count bigint not null,
    total double precision not null default 0,
    largest double precision not null default 0,
    buckets jsonb not null default '{}',
    primary key (minute, metric, label)
);
comment on column orchestration.metric_minutes.total is 'Sum of the values: ms where the metric is a time';
comment on column orchestration.metric_minutes.buckets is
    'Bucket to count; bucket b holds values up to 0.1 * 1.1 ^ b ms (domain/lateness.py)';

-- The same since the installation: what a counter must be, which never goes back when minutes leave.
create table orchestration.metric_totals (
    metric text not null,
    label text not null default '',
    count bigint not null,
    total double precision not null default 0,
    buckets jsonb not null default '{}',
    primary key (metric, label)
) with (fillfactor = 50);

create table orchestration.rolled_up (
    one boolean primary key default true check (one),
    until timestamptz not null
);
insert into orchestration.rolled_up (until) values (date_trunc('minute', clock_timestamp()));

-- A shift's report as of the last roll-up: its counts begin anew with every report, so only the difference counts.
create table orchestration.last_reports (
    shift_id uuid primary key,
    report jsonb not null
);

-- What comes from outside our tables: canaries, Dagster, support tickets, players' satisfaction.
create table orchestration.observations (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    name text not null check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    label text not null default '' check (length(label) <= 64),
    value double precision not null,
    note text
);
create index observations_name_idx on orchestration.observations (name, label, id);
create index observations_at_idx on orchestration.observations using brin (at) with (autosummarize = on);

-- Rows come in the order of their moment, so a few pages tell which of them a minute needs.
create index outcomes_at_idx on orchestration.outcomes using brin (at) with (autosummarize = on);
create index attempts_at_idx on orchestration.attempts using brin (at) with (autosummarize = on);

create function orchestration.bucket_of(p_milliseconds double precision) returns integer
    language sql immutable parallel safe strict
    return case when p_milliseconds <= 0.1 then 0 else ceil(ln(p_milliseconds / 0.1) / ln(1.1::double precision))::integer end;

create function orchestration.merge_buckets(p_one jsonb, p_other jsonb) returns jsonb
    language sql immutable parallel safe
    return (
        select coalesce(jsonb_object_agg(b.key, b.count), '{}')
        from (select e.key, sum(e.value::bigint) as count
              from (select * from jsonb_each_text(p_one) union all select * from jsonb_each_text(p_other)) e
              group by e.key) b);

create function orchestration.observe(p_name text, p_label text, p_value double precision, p_note text default null)
    returns void
    language sql volatile security definer set search_path = ''
begin atomic
    insert into orchestration.observations (name, label, value, note) values (p_name, p_label, p_value, p_note);
end;

-- Events that have no outcome, by what the relays saved of each lane: no day's partition is read whole.
create function orchestration.waiting_rows(p_limit integer) returns table (id bigint, occurred_at timestamptz)
    language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select o.id, o.occurred_at
    from orchestration.lane_progress l
    cross join lateral (
        select c.id, c.occurred_at from orchestration.outbox c
        where c.lane = l.lane and l.cursor is not null and c.txid >= pg_snapshot_xmax(l.cursor)
        union
        select c.id, c.occurred_at from orchestration.outbox c
        where c.lane = l.lane and c.txid = any (array(select pg_snapshot_xip(l.cursor)))
        union
        select c.id, c.occurred_at from orchestration.outbox c
        where c.lane = l.lane and c.id >= case when l.cursor is null then 0 else l.waiting_from end
    ) o
    where not exists (select from orchestration.outcomes d
                      where d.outbox_id = o.id and d.occurred_at = o.occurred_at)
    limit p_limit;
end
$$;

create function orchestration.waiting_events(p_limit integer default 10000)
    returns table (waiting bigint, oldest timestamptz)
    language sql stable security definer set search_path = ''
as $$
    select count(*), min(w.occurred_at) from orchestration.waiting_rows(p_limit) w;
$$;

-- One sample for each fact of [p_from, p_to): value is null where only the count matters.
create function orchestration.metric_samples(p_from timestamptz, p_to timestamptz)
    returns table (at timestamptz, metric text, label text, n bigint, value double precision)
    language plpgsql stable security definer set search_path = ''
as $$
begin
    return query
    select t.at, 'lateness', t.from_phase, 1::bigint, greatest(0, t.lateness_ms)
    from orchestration.transitions t
    where t.at >= p_from and t.at < p_to and t.handler = 'orchestration' and t.cause in ('timer', 'lobby_expired')
    union all
    select t.at, 'transitions', t.cause, 1, null
    from orchestration.transitions t
    where t.at >= p_from and t.at < p_to and t.handler = 'orchestration'
    union all
    select t.at, 'early', '', 1, null
    from orchestration.transitions t
    where t.at >= p_from and t.at < p_to and t.handler = 'orchestration' and t.lateness_ms < 0
    union all
    -- From the trigger's first line to the writing of its event.
    select t.at, 'trigger', '', 1, greatest(0, extract(epoch from o.occurred_at - t.at)::double precision * 1000)
    from orchestration.transitions t
    join orchestration.outbox o on o.game_id = t.game_id and o.request_id = t.request_id and o.type = 'phase_changed'
    where t.at >= p_from and t.at < p_to and t.handler = 'orchestration'
      and o.occurred_at >= p_from and o.occurred_at < p_to + interval '1 minute'
      and o.occurred_at >= t.at and o.occurred_at < t.at + interval '1 minute'
    union all
    select c.at, 'delivery', '', 1, greatest(0, extract(epoch from c.at - c.occurred_at)::double precision * 1000)
    from orchestration.outcomes c where c.at >= p_from and c.at < p_to and c.outcome = 'delivered'
    union all
    select c.at, 'outcomes', c.outcome, 1, null from orchestration.outcomes c where c.at >= p_from and c.at < p_to
    union all
    select c.at, 'publishes', '', greatest(1, (select count(*) from jsonb_object_keys(c.timetokens))), null
    from orchestration.outcomes c where c.at >= p_from and c.at < p_to and c.outcome = 'delivered'
    union all
    select a.at, 'failed_attempts', a.reason, 1, null
    from orchestration.attempts a where a.at >= p_from and a.at < p_to and a.verdict <> 'accepted'
    union all
    select f.at, 'trigger_failures', '', 1, null
    from orchestration.trigger_failures f where f.at >= p_from and f.at < p_to
    union all
    select s.since, 'set_aside', '', 1, null
    from orchestration.set_aside s where s.since >= p_from and s.since < p_to
    union all
    select o.at, o.name, o.label, 1, case when o.name = 'canary' then o.value end
    from orchestration.observations o
    where o.at >= p_from and o.at < p_to and o.name in ('canary', 'canary_lost')
    union all
    -- Players' own measures, of our games beside the others.
    select t.at, 'games_started', t.handler, 1, null
    from orchestration.transitions t
    where t.at >= p_from and t.at < p_to and t.from_phase = 'waiting' and t.to_phase not in ('cancelled', 'waiting')
    union all
    select t.at, 'games_completed', t.handler, 1, null
    from orchestration.transitions t where t.at >= p_from and t.at < p_to and t.to_phase = 'completed'
    union all
    select t.at, 'games_abandoned', t.handler || ':' || t.from_phase, 1, null
    from orchestration.transitions t where t.at >= p_from and t.at < p_to and t.to_phase = 'cancelled'
    union all
    select t.at, 'drawings_lost', t.handler, (
               select count(*) from public.game_participants p
               where p.game_id = t.game_id and p.left_at is null
                 and not exists (select from public.submissions s where s.game_id = p.game_id and s.user_id = p.user_id)),
           null
    from orchestration.transitions t
    where t.at >= p_from and t.at < p_to and t.from_phase = 'drawing' and t.to_phase = 'voting';
end
$$;

-- Minutes of [p_from, p_to) in which games stood still: at least a twentieth of those due were more than 5 s late, or an
-- event had waited for more than 30 s. Found out afterwards from what was late, so an outage of ours counts itself.
create function orchestration.minutes_down(p_from timestamptz, p_to timestamptz)
    returns table (minute timestamptz, down boolean)
    language plpgsql stable security definer set search_path = ''
as $$
declare
    v_oldest timestamptz := (select w.oldest from orchestration.waiting_events(1000) w);
begin
    return query
    with moves as (
        select t.deadline, t.at from orchestration.transitions t
        where t.at >= p_from and t.deadline < p_to and t.handler = 'orchestration' and t.cause in ('timer', 'lobby_expired')
        union all
        select l.deadline, null from orchestration.live_games l where l.deadline < p_to and not l.paused
    )
    select m.m, coalesce(count(v.deadline) filter (where v.deadline + interval '5 seconds' < least(v.at, m.m + interval '1 minute'))
                         * 20 >= greatest(count(v.deadline), 1), false)
                or coalesce(v_oldest + interval '30 seconds' < m.m + interval '1 minute', false)
    from generate_series(p_from, p_to - interval '1 minute', interval '1 minute') m (m)
    left join moves v on v.deadline < m.m + interval '1 minute' and (v.at is null or v.at >= m.m)
    group by m.m;
end
$$;

-- Rolls up the minutes that are over, at most p_most of them; returns how many. One at a time: a second caller gets 0.
create function orchestration.roll_up_minutes(
    p_until timestamptz default clock_timestamp() - interval '10 seconds', p_most interval default interval '1 hour'
) returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_from timestamptz;
    v_to timestamptz;
begin
    select r.until into v_from from orchestration.rolled_up r for update skip locked;
    v_to := least(date_trunc('minute', p_until), v_from + p_most);
    if v_from is null or v_to <= v_from then
        return 0;
    end if;
    with counted as (
        select date_trunc('minute', s.at) as minute, s.metric, s.label, orchestration.bucket_of(s.value) as bucket,
               sum(s.n) as n, coalesce(sum(s.value), 0) as total, coalesce(max(s.value), 0) as largest
        from orchestration.metric_samples(v_from, v_to) s
        where s.n > 0
        group by 1, 2, 3, 4
        union all
        select d.minute, 'minutes', case when d.down then 'down' else 'up' end, null, 1, 0, 0
        from orchestration.minutes_down(v_from, v_to) d
        union all
        select v_to - interval '1 minute', 'shifts', r.label, null, r.n, 0, 0 from orchestration.shift_counts() r where r.n > 0
    ), merged as (
        select c.minute, c.metric, c.label, sum(c.n)::bigint as count, sum(c.total) as total, max(c.largest) as largest,
               coalesce(jsonb_object_agg(c.bucket, c.n) filter (where c.bucket is not null), '{}') as buckets
        from counted c group by 1, 2, 3
    ), written as (
        insert into orchestration.metric_minutes (minute, metric, label, count, total, largest, buckets)
        select m.minute, m.metric, m.label, m.count, m.total, m.largest, m.buckets from merged m
        on conflict do nothing
    )
    insert into orchestration.metric_totals as t (metric, label, count, total, buckets)
    select m.metric, m.label, sum(m.count), sum(m.total), coalesce((
               select jsonb_object_agg(b.key, b.n)
               from (select e.key, sum(e.value::bigint) as n
                     from merged o cross join lateral jsonb_each_text(o.buckets) e
                     where o.metric = m.metric and o.label = m.label group by e.key) b), '{}')
    from merged m group by m.metric, m.label
    on conflict (metric, label) do update
    set count = t.count + excluded.count, total = t.total + excluded.total,
        buckets = orchestration.merge_buckets(t.buckets, excluded.buckets);
    update orchestration.rolled_up set until = v_to;
    return extract(epoch from v_to - v_from)::integer / 60;
end
$$;

-- What shifts have counted since the last call.
create function orchestration.shift_counts() returns table (label text, n bigint)
    language plpgsql volatile security definer set search_path = ''
as $$
begin
    return query
    with seen as (
        select s.shift_id, s.kind, s.report from orchestration.shifts s
        where s.heartbeat_at > clock_timestamp() - interval '1 day'
    ), counted as (
        select s.kind || ':' || e.key as label,
               case when (e.value)::numeric >= coalesce((l.report ->> e.key)::numeric, 0)
                    then (e.value)::numeric - coalesce((l.report ->> e.key)::numeric, 0) else (e.value)::numeric end as n
        from seen s
        left join orchestration.last_reports l on l.shift_id = s.shift_id
        cross join lateral jsonb_each(s.report) e
        where jsonb_typeof(e.value) = 'number'
          and e.key in ('sweeps', 'slow_sweeps', 'errors', 'set_aside', 'leases_lost', 'time_syncs', 'failed_attempts')
    ), kept as (
        insert into orchestration.last_reports as l (shift_id, report)
        select s.shift_id, s.report from seen s
        on conflict (shift_id) do update set report = excluded.report
        where l.report is distinct from excluded.report
    ), gone as (
        delete from orchestration.last_reports l
        where not exists (select from orchestration.shifts s where s.shift_id = l.shift_id)
    )
    select c.label, sum(c.n)::bigint from counted c group by c.label;
end
$$;

-- Each hour of minutes before p_before becomes one row; returns how many rows it saved.
create function orchestration.fold_minutes(p_before timestamptz, p_dry_run boolean default false) returns bigint
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_before timestamptz := date_trunc('hour', p_before);
    v_saved bigint;
begin
    if p_dry_run then
        return (select coalesce(sum(h.n - 1), 0)::bigint
                from (select count(*) as n from orchestration.metric_minutes m
                      where m.minute < v_before and m.minutes = 1
                      group by date_trunc('hour', m.minute), m.metric, m.label) h);
    end if;
    with taken as (
        delete from orchestration.metric_minutes m where m.minute < v_before and m.minutes = 1 returning m.*
    ), buckets as (
        select h.hour, h.metric, h.label, jsonb_object_agg(h.key, h.n) as buckets
        from (select date_trunc('hour', t.minute) as hour, t.metric, t.label, e.key, sum(e.value::bigint) as n
              from taken t cross join lateral jsonb_each_text(t.buckets) e group by 1, 2, 3, 4) h
        group by 1, 2, 3
    ), hours as (
        select date_trunc('hour', t.minute) as hour, t.metric, t.label, sum(t.count)::bigint as count,
               sum(t.total) as total, max(t.largest) as largest, count(*) as n
        from taken t group by 1, 2, 3
    ), written as (
        insert into orchestration.metric_minutes (minute, metric, label, minutes, count, total, largest, buckets)
        select h.hour, h.metric, h.label, 60, h.count, h.total, h.largest, coalesce(b.buckets, '{}')
        from hours h left join buckets b using (hour, metric, label)
        on conflict (minute, metric, label) do nothing
    )
    select coalesce(sum(n - 1), 0) into v_saved from hours;
    return v_saved;
end
$$;

revoke all on function
    orchestration.bucket_of(double precision), orchestration.merge_buckets(jsonb, jsonb),
    orchestration.observe(text, text, double precision, text), orchestration.waiting_events(integer),
    orchestration.waiting_rows(integer), orchestration.metric_samples(timestamptz, timestamptz), orchestration.minutes_down(timestamptz, timestamptz),
    orchestration.roll_up_minutes(timestamptz, interval), orchestration.shift_counts(),
    orchestration.fold_minutes(timestamptz, boolean)
    from public;
grant select on orchestration.metric_minutes, orchestration.metric_totals, orchestration.rolled_up,
    orchestration.observations to sketchy_operator, sketchy_gateway;
grant delete on orchestration.metric_minutes, orchestration.observations to sketchy_operator;
grant execute on function orchestration.waiting_events(integer) to sketchy_operator, sketchy_gateway;
grant execute on function
    orchestration.observe(text, text, double precision, text), orchestration.roll_up_minutes(timestamptz, interval),
    orchestration.fold_minutes(timestamptz, boolean)
    to sketchy_operator;
select orchestration.secure_tables();
