-- Retention: a day's partitions leave together, detached first and dropped afterwards, never deleted from. Each
-- function is one short transaction that gives up after 20 ms without its lock; the caller tries again.

-- Days whose partitions are older than p_keep, oldest first, and what still waits in each.
create function orchestration.old_partitions(p_keep interval default '24 hours')
    returns table (day date, waiting bigint, bytes bigint)
    language plpgsql stable security definer set search_path = ''
as $$
declare
    v_name text;
begin
    for v_name in
        select c.relname
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'orchestration.outbox'::regclass
          and to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp at time zone 'UTC' + interval '1 day' + p_keep
              < clock_timestamp()
        order by c.relname
    loop
        day := to_date(right(v_name, 8), 'YYYYMMDD');
        execute format(
            'select count(*) from orchestration.%I o '
            'where not exists (select from orchestration.outcomes c where c.outbox_id = o.id)', v_name) into waiting;
        select sum(pg_total_relation_size(to_regclass('orchestration.' || p || right(v_name, 9)))) into bytes
        from unnest(array['outbox', 'sequenced', 'outcomes', 'attempts']) p;
        return next;
    end loop;
end
$$;

-- Takes a day out of the way of readers and writers: closes its hours in the ledger, keeps the last seq of games that
-- may still speak, which finished ones do: a player leaves late, a user is deleted. Raises when something still waits in it.
create function orchestration.detach_day(p_day date) returns void
    language plpgsql volatile security definer set search_path = '' set lock_timeout = '20ms'
as $$
declare
    v_from timestamptz := p_day::timestamp at time zone 'UTC';
    v_suffix text := to_char(p_day, '"_"YYYYMMDD');
    v_waiting bigint;
    v_parent text;
begin
    if v_from + interval '1 day' > clock_timestamp() then
        raise exception 'day % is not over', p_day using errcode = 'invalid_parameter_value';
    end if;
    -- Keeps out who would write into that day, not who reads: what a transaction wrote there commits before the count, or
    -- the lock is not had.
    execute format('lock table orchestration.%I in share mode', 'outbox' || v_suffix);
    execute format('select count(*) from orchestration.%I o '
                   'where not exists (select from orchestration.outcomes c where c.outbox_id = o.id)',
                   'outbox' || v_suffix) into v_waiting;
    if v_waiting > 0 then
        raise exception '% events of % still wait to be delivered', v_waiting, p_day
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform orchestration.refresh_ledger(v_from);
    update orchestration.ledger set closed = true where hour >= v_from and hour < v_from + interval '1 day';
    execute format(
        'insert into orchestration.last_seqs as l (game_id, seq, sent_seq) '
        'select s.game_id, max(s.seq), coalesce(max(s.seq) filter (where c.outcome = ''delivered''), 0) '
        'from orchestration.%I s join orchestration.%I c on c.outbox_id = s.outbox_id '
        'join orchestration.enrolments e on e.game_id = s.game_id group by s.game_id '
        'on conflict (game_id) do update '
        'set seq = greatest(l.seq, excluded.seq), sent_seq = greatest(l.sent_seq, excluded.sent_seq)',
        'sequenced' || v_suffix, 'outcomes' || v_suffix);
    foreach v_parent in array array['outbox', 'sequenced', 'outcomes', 'attempts'] loop
        execute format('alter table orchestration.%I detach partition orchestration.%I', v_parent, v_parent || v_suffix);
        execute format('alter table orchestration.%I rename to %I', v_parent || v_suffix, 'detached_' || v_parent || v_suffix);
    end loop;
end
$$;

create function orchestration.drop_detached() returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_name text;
    v_count integer := 0;
begin
    for v_name in
        select c.relname from pg_class c
        where c.relnamespace = 'orchestration'::regnamespace and c.relkind = 'r' and not c.relispartition
          and c.relname ~ '^detached_(outbox|sequenced|outcomes|attempts)_[0-9]{8}$'
    loop
        execute format('drop table orchestration.%I', v_name);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;

-- Traces of games that ended before p_before: transitions, enrolments, repaired failures. Bounded; returns rows removed.
create function orchestration.forget_games(p_before timestamptz, p_limit integer default 5000, p_dry_run boolean default false)
    returns table (what text, rows bigint)
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    v_games uuid[];
begin
    select array_agg(x.game_id) into v_games
    from (
        select e.game_id from orchestration.enrolments e
        where e.decided_at < p_before
          and not exists (select from orchestration.live_games l where l.game_id = e.game_id)
          and not exists (select from public.games g where g.id = e.game_id
                          and g.status::text not in ('completed', 'cancelled'))
          and not exists (select from orchestration.transitions t where t.game_id = e.game_id and t.at >= p_before)
        order by e.decided_at limit p_limit
    ) x;
    if p_dry_run then
        return query select 'enrolments', coalesce(cardinality(v_games), 0)::bigint;
        return query select 'transitions', count(*) from orchestration.transitions t where t.game_id = any (v_games);
        return;
    end if;
    what := 'transitions';
    delete from orchestration.transitions t where t.game_id = any (v_games);
    get diagnostics rows = row_count;
    return next;
    what := 'last_seqs';
    delete from orchestration.last_seqs s where s.game_id = any (v_games);
    get diagnostics rows = row_count;
    return next;
    what := 'enrolments';
    delete from orchestration.enrolments e where e.game_id = any (v_games);
    get diagnostics rows = row_count;
    return next;
    what := 'trigger_failures';
    delete from orchestration.trigger_failures f where f.resolved_at < p_before;
    get diagnostics rows = row_count;
    return next;
    what := 'shifts';
    delete from orchestration.shifts s where s.ended_at < p_before;
    get diagnostics rows = row_count;
    return next;
end
$$;

revoke all on function
    orchestration.old_partitions(interval), orchestration.detach_day(date), orchestration.drop_detached(),
    orchestration.forget_games(timestamptz, integer, boolean)
    from public;
grant execute on function orchestration.old_partitions(interval), orchestration.detach_day(date),
    orchestration.drop_detached(), orchestration.forget_games(timestamptz, integer, boolean)
    to sketchy_operator;
