-- What is so at this moment, as named numbers: what health, metrics and alerts look at. One read of a few milliseconds,
-- bounded however much waits; windows of minutes look at the tail of the tables.
create function orchestration.signals() returns table (name text, label text, value double precision)
    language plpgsql stable security definer set search_path = ''
as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    return query select 'games_live', p.phase, (select count(*) from orchestration.live_games l where l.phase = p.phase)::float8
    from unnest(array['waiting', 'briefing', 'drawing', 'voting', 'results']) p (phase);

    return query
    select s.name, '', s.value
    from (
        select count(*)::float8 as n, coalesce(extract(epoch from v_now - min(l.deadline)), 0)::float8 as oldest
        from orchestration.live_games l
        where l.deadline < v_now - interval '2 seconds' and not l.paused
          and not exists (select from orchestration.set_aside a where a.game_id = l.game_id)
    ) o cross join lateral (values ('games_overdue', o.n), ('games_overdue_seconds', o.oldest)) s (name, value);

    return query select 'games_set_aside', '', count(*)::float8 from orchestration.set_aside;
    return query select 'games_paused', '', count(*)::float8 from orchestration.live_games l where l.paused;
    return query select 'trigger_failures_open', '', count(*)::float8
    from orchestration.trigger_failures f where f.resolved_at is null;

    return query
    select s.name, '', s.value
    from orchestration.waiting_events() w
    cross join lateral (values ('events_waiting', w.waiting::float8),
                               ('events_oldest_waiting_seconds',
                                coalesce(extract(epoch from v_now - w.oldest), 0)::float8)) s (name, value);

    return query select 'dead_letters_open', '', count(*)::float8
    from orchestration.dead_letters d where d.replayed_at is null and d.discarded_at is null;

    return query
    select s.name, '', s.value
    from orchestration.circuit c
    cross join lateral (values
        ('circuit_open', (c.state <> 'closed')::integer::float8),
        ('circuit_open_seconds', case when c.state = 'closed' then 0 else extract(epoch from v_now - c.since) end::float8)
    ) s (name, value)
    where c.keyset = 'default';

    return query select 'circuit_reason', coalesce(c.reason, 'unknown'), 1::float8
    from orchestration.circuit c where c.keyset = 'default' and c.state <> 'closed';

    return query
    select s.name, k.kind, s.value
    from unnest(array['timer', 'fanout']) k (kind)
    cross join lateral (
        select count(*) filter (where h.heartbeat_at > v_now - interval '5 seconds')::float8 as n,
               coalesce(extract(epoch from v_now - max(h.heartbeat_at)), 86400)::float8 as silence
        from orchestration.shifts h where h.kind = k.kind and h.ended_at is null
    ) a
    cross join lateral (values ('shifts_at_work', a.n), ('shifts_silent_seconds', least(a.silence, 86400))) s (name, value);

    return query select 'lanes_unheld', '', count(*)::float8 from orchestration.lanes l where l.holder is null;

    return query
    select 'partitions_ahead_days', '', coalesce(min(p.last) - (v_now at time zone 'UTC')::date, 0)::float8
    from (select i.inhparent, max(to_date(right(c.relname, 8), 'YYYYMMDD')) as last
          from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
          where i.inhparent in ('orchestration.outbox'::regclass, 'orchestration.sequenced'::regclass,
                                'orchestration.outcomes'::regclass, 'orchestration.attempts'::regclass)
          group by 1) p;

    return query
    select s.name, '', s.value
    from (select count(*) filter (where a.reason <> 'throttled' and a.verdict not in ('event', 'accepted'))::float8 as failed,
                 count(*) filter (where a.reason = 'throttled')::float8 as throttled
          from orchestration.attempts a where a.at > v_now - interval '5 minutes') f
    cross join lateral (values ('publish_failures_5m', f.failed), ('publishes_throttled_5m', f.throttled)) s (name, value);

    -- Near the limit: what was published in the last minute beside what the flag publish_rate allows; 0 is no limit.
    return query
    select 'publish_rate_used_ratio', '', case when coalesce(orchestration.flag_number('publish_rate'), 0) > 0
        then (select count(*) from orchestration.outcomes o
              where o.at > v_now - interval '1 minute' and o.outcome = 'delivered')
             / 60.0 / orchestration.flag_number('publish_rate') else 0 end::float8;

    -- Beyond it: the share of the last second in which events waited for the rate alone, of the relay that fared worst.
    return query
    select 'publish_held_back_ratio', '', coalesce(max((h.report ->> 'held_back_share')::float8), 0)::float8
    from orchestration.shifts h
    where h.kind = 'fanout' and h.ended_at is null and h.heartbeat_at > v_now - interval '5 seconds';

    return query
    select s.name, '', s.value
    from (
        select coalesce(sum(m.count) filter (where m.metric in ('failed_attempts', 'trigger_failures', 'set_aside')
                                             or (m.metric = 'outcomes' and m.label = 'dead')), 0)::float8 as bad,
               coalesce(sum(m.count) filter (where m.metric in ('transitions', 'publishes', 'failed_attempts')), 0)::float8
                   as made,
               coalesce(sum(m.count) filter (where m.metric = 'shifts' and m.label = 'timer:slow_sweeps'), 0)::float8 as slow,
               coalesce(sum(m.count) filter (where m.metric = 'canary_lost'), 0)::float8 as lost
        from orchestration.metric_minutes m
        where m.minute >= (select r.until - interval '5 minutes' from orchestration.rolled_up r)
    ) e
    cross join lateral (values ('error_ratio_5m', case when e.bad = 0 then 0 else e.bad / greatest(e.made, e.bad) end),
                               ('slow_sweeps_5m', e.slow), ('canaries_lost_5m', e.lost)) s (name, value);

    -- The longest a sweeper's statement has run, or a shift has reported since its last report.
    return query
    select 'sweep_seconds_max', '', greatest(
        (select max(extract(epoch from v_now - a.query_start)) from pg_catalog.pg_stat_activity a
         where a.application_name = 'sketchy timer shift' and a.state = 'active'
           and a.datname = current_database()),
        (select max((h.report ->> 'sweep_max_ms')::float8) / 1000 from orchestration.shifts h
         where h.kind = 'timer' and h.heartbeat_at > v_now - interval '1 minute'), 0)::float8;

    -- Players who left beside those who came, in the last five minutes: a wave of departures means lost connections.
    return query
    select s.name, '', s.value
    from (
        select count(*) filter (where r.type = 'player_left')::float8 as gone,
               count(*) filter (where r.type = 'player_joined')::float8 as come
        from (select o.type, o.occurred_at from orchestration.outbox o order by o.id desc limit 5000) r
        where r.occurred_at > v_now - interval '5 minutes'
    ) p cross join lateral (values ('players_left_5m', p.gone), ('players_joined_5m', p.come)) s (name, value);

    return query
    select s.name, '', s.value
    from (
        select count(*) filter (where a.application_name like 'sketchy%')::float8 as ours, count(*)::float8 as everybody,
               current_setting('max_connections')::float8 as most,
               coalesce(max(extract(epoch from v_now - a.xact_start)) filter (where a.backend_type = 'client backend'), 0)::float8
                   as oldest
        from pg_catalog.pg_stat_activity a
        where a.backend_type = 'client backend'
    ) c
    cross join lateral (values ('database_connections', c.ours), ('database_connections_used_ratio', c.everybody / c.most),
                               ('database_oldest_transaction_seconds', greatest(c.oldest, 0))) s (name, value);

    return query
    select 'switch_on', f.name, f.enabled::integer::float8
    from orchestration.flags f where f.name in ('triggers', 'timer_monitoring', 'pubnub_broadcasting', 'grace_period');

    return query
    select 'ledger_unaccounted', '',
           coalesce(sum(greatest(0, l.written - l.delivered - l.dead - l.expired - l.waiting)), 0)::float8
    from orchestration.ledger l;

    return query select 'roll_up_age_seconds', '', extract(epoch from v_now - r.until)::float8 from orchestration.rolled_up r;

    return query
    select 'alert_open_seconds', a.rule, extract(epoch from v_now - min(a.since))::float8
    from orchestration.alerts a where a.resolved_at is null group by a.rule;

    -- How much longer ago than its plan asks for an active rollout was looked at last; whoever walks it looks, even while
    -- it is paused.
    return query
    select 'rollout_unwatched_seconds', '', coalesce(max(greatest(0, extract(epoch from
               v_now - greatest(r.looked_at, r.changed_at)) - (r.plan ->> 'every_seconds')::float8)), 0)::float8
    from orchestration.rollouts r where r.state in ('running', 'paused');

    -- The newest of each: what Dagster, canaries and people report.
    return query
    with recursive kinds (name, label) as (
        -- One step of the index for each kind, however often it was observed.
        (select o.name, o.label from orchestration.observations o order by o.name, o.label limit 1)
        union all
        select f.name, f.label
        from kinds k
        cross join lateral (select o.name, o.label from orchestration.observations o
                            where (o.name, o.label) > (k.name, k.label) order by o.name, o.label limit 1) f
    )
    select s.name, n.label, s.value
    from kinds k
    cross join lateral (select o.name, o.label, o.value, o.at from orchestration.observations o
                        where o.name = k.name and o.label = k.label order by o.id desc limit 1) n
    cross join lateral (
        select n.name as name, n.value as value where n.name not in ('canary', 'canary_lost')
        union all
        select n.name || '_age_seconds', extract(epoch from v_now - n.at)::float8
        where n.name in ('canary', 'dagster_daemon_alive')
        union all
        select 'canary_milliseconds', n.value where n.name = 'canary'
    ) s
    where n.at > v_now - interval '1 day';
end
$$;

revoke all on function orchestration.signals() from public;
grant execute on function orchestration.signals() to sketchy_operator, sketchy_gateway;
