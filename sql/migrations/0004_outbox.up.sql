-- The way of an event: outbox (written by triggers) -> sequenced (by the holder of the lane) -> outcomes (delivered,
-- dead or expired). All insert only, all partitioned by the day (UTC) the event occurred, dropped together.
create sequence orchestration.outbox_ids;

-- 32 lanes: the last five bits of a game's id.
create function orchestration.lane_of(p_game_id uuid) returns smallint
    language sql immutable parallel safe strict
    return (get_byte(uuid_send(p_game_id), 15) & 31)::smallint;

create table orchestration.outbox (
    id bigint not null default nextval('orchestration.outbox_ids'),
    event_id uuid not null default gen_random_uuid(),
    game_id uuid,
    lane smallint not null,
    type text not null,
    user_id text not null default 'system',
    data jsonb not null,
    channels text[] not null check (cardinality(channels) > 0),
    request_id text not null,
    occurred_at timestamptz not null default clock_timestamp(),
    txid xid8 not null default pg_current_xact_id()
) partition by range (occurred_at);
comment on column orchestration.outbox.game_id is 'Null: an event of type test, which belongs to no game and carries no seq';
comment on column orchestration.outbox.txid is 'The writing transaction: a reader compares it with its last snapshot';
create index outbox_txid_idx on orchestration.outbox (txid);
create index outbox_id_idx on orchestration.outbox (id);
create index outbox_game_idx on orchestration.outbox (game_id, id);

create table orchestration.sequenced (
    outbox_id bigint not null,
    event_id uuid not null,
    game_id uuid,
    lane smallint not null,
    seq bigint,
    epoch bigint not null,
    sequenced_at timestamptz not null default clock_timestamp(),
    occurred_at timestamptz not null,
    check ((game_id is null) = (seq is null))
) partition by range (occurred_at);
create index sequenced_outbox_idx on orchestration.sequenced (outbox_id);
create index sequenced_game_idx on orchestration.sequenced (game_id, seq);

create table orchestration.outcomes (
    outbox_id bigint not null,
    event_id uuid not null,
    game_id uuid,
    lane smallint not null,
    seq bigint,
    outcome text not null check (outcome in ('delivered', 'dead', 'expired')),
    attempts smallint not null,
    after_seq bigint,
    timetokens jsonb not null default '{}',
    at timestamptz not null default clock_timestamp(),
    shift_id uuid,
    occurred_at timestamptz not null
) partition by range (occurred_at);
comment on column orchestration.outcomes.timetokens is 'Channel to timetoken of each accepted publish';
create index outcomes_outbox_idx on orchestration.outcomes (outbox_id);
create index outcomes_game_idx on orchestration.outcomes (game_id, seq);

-- Attempts that failed; the accepted ones are the outcome. What some channels of an event took while others did not is noted
-- here, too (verdict accepted): whoever sends it next sends it only where it is missing.
create table orchestration.attempts (
    outbox_id bigint not null,
    event_id uuid not null,
    game_id uuid,
    channel text not null,
    attempt smallint not null,
    verdict text not null check (verdict in ('event', 'keyset', 'moment', 'unknown', 'accepted')),
    reason text not null,
    duration_ms real,
    at timestamptz not null default clock_timestamp(),
    shift_id uuid,
    occurred_at timestamptz not null,
    timetoken bigint,
    check ((verdict = 'accepted') = (timetoken is not null))
) partition by range (occurred_at);
create index attempts_outbox_idx on orchestration.attempts (outbox_id);

-- Events given up, waiting for a person; they outlive the partitions they came from.
create table orchestration.dead_letters (
    event_id uuid primary key,
    outbox_id bigint not null,
    game_id uuid,
    seq bigint,
    type text not null,
    user_id text not null,
    data jsonb not null,
    channels text[] not null,
    request_id text not null,
    occurred_at timestamptz not null,
    dead_at timestamptz not null default clock_timestamp(),
    reason text not null,
    last_answer text,
    attempts smallint not null,
    replayed_at timestamptz,
    discarded_at timestamptz,
    timetokens jsonb not null default '{}',
    check (replayed_at is null or discarded_at is null)
);
create index dead_letters_open_idx on orchestration.dead_letters (dead_at)
    where replayed_at is null and discarded_at is null;

-- What "nothing lost" is checked against once the partitions are gone.
create table orchestration.ledger (
    hour timestamptz primary key,
    written bigint not null,
    delivered bigint not null,
    dead bigint not null,
    expired bigint not null,
    closed boolean not null default false,
    waiting bigint not null default 0
);
comment on column orchestration.ledger.closed is 'Its partition is gone: the counts are final';
comment on column orchestration.ledger.waiting is
    'Of the rest, those a relay knows of; what is neither settled nor waiting has been lost';

-- The last seq of games whose events have left with their partition, and the last of those delivered.
create table orchestration.last_seqs (
    game_id uuid primary key,
    seq bigint not null,
    sent_seq bigint not null default 0 check (sent_seq <= seq)
);

-- Makes the partitions from yesterday to p_days ahead. The new table is filled in first and attached last, because
-- attaching takes a lock that lets readers and writers of the parent go on.
create function orchestration.ensure_partitions(p_days integer default 7) returns integer
    language plpgsql volatile security definer set search_path = '' set lock_timeout = '100ms'
as $$
declare
    v_parent text;
    v_day date;
    v_name text;
    v_from timestamptz;
    v_made integer := 0;
begin
    foreach v_parent in array array['outbox', 'sequenced', 'outcomes', 'attempts'] loop
        for v_day in
            select d::date from generate_series((clock_timestamp() at time zone 'UTC')::date - 1,
                                                (clock_timestamp() at time zone 'UTC')::date + p_days, '1 day') d
        loop
            v_name := v_parent || to_char(v_day, '"_"YYYYMMDD');
            continue when to_regclass('orchestration.' || v_name) is not null;
            v_from := v_day::timestamp at time zone 'UTC';
            execute format('create table orchestration.%I (like orchestration.%I including defaults including constraints)',
                           v_name, v_parent);
            execute format('alter table orchestration.%I attach partition orchestration.%I for values from (%L) to (%L)',
                           v_parent, v_name, v_from, v_from + interval '1 day');
            v_made := v_made + 1;
        end loop;
    end loop;
    return v_made;
end
$$;
select orchestration.ensure_partitions();

-- Brings the ledger's open hours up to date: those since p_since, or the last two and all that did not balance yet.
-- Counted in one snapshot, so that an event is in one of the counts whatever happens meanwhile. What was counted as
-- written once stays so: an event that is gone afterwards has been lost.
create function orchestration.refresh_ledger(p_since timestamptz default null) returns integer
    language plpgsql volatile security definer set search_path = ''
as $$
declare
    -- Beyond so many nobody looks which of them wait: that is an outage, and everything does.
    v_most constant integer := 100000;
    v_since timestamptz := date_trunc('hour', coalesce(p_since, least(now() - interval '2 hours', (
        select min(l.hour) from orchestration.ledger l
        where not l.closed and l.written <> l.delivered + l.dead + l.expired))));
    v_rows integer;
begin
    with waits as materialized (
        select date_trunc('hour', w.occurred_at) as hour, count(*) as n from orchestration.waiting_rows(v_most) w group by 1
    ), counts as (
        select hour, sum(written) as written, sum(delivered) as delivered, sum(dead) as dead, sum(expired) as expired
        from (
            select date_trunc('hour', occurred_at) as hour, count(*) as written, 0 as delivered, 0 as dead, 0 as expired
            from orchestration.outbox where occurred_at >= v_since group by 1
            union all
            select date_trunc('hour', occurred_at), 0, count(*) filter (where outcome = 'delivered'),
                   count(*) filter (where outcome = 'dead'), count(*) filter (where outcome = 'expired')
            from orchestration.outcomes where occurred_at >= v_since group by 1
        ) c group by hour
    )
    insert into orchestration.ledger as l (hour, written, delivered, dead, expired, waiting)
    select c.hour, c.written, c.delivered, c.dead, c.expired,
           case when (select sum(w.n) from waits w) >= v_most then greatest(0, c.written - c.delivered - c.dead - c.expired)
                else coalesce((select w.n from waits w where w.hour = c.hour), 0) end
    from counts c
    on conflict (hour) do update
    set written = greatest(l.written, excluded.written), delivered = excluded.delivered, dead = excluded.dead,
        expired = excluded.expired, waiting = excluded.waiting
    where not l.closed
      and (l.written, l.delivered, l.dead, l.expired, l.waiting) is distinct from
          (greatest(l.written, excluded.written), excluded.delivered, excluded.dead, excluded.expired, excluded.waiting);
    get diagnostics v_rows = row_count;
    return v_rows;
end
$$;

grant select on orchestration.outbox, orchestration.sequenced, orchestration.outcomes, orchestration.attempts,
    orchestration.dead_letters, orchestration.ledger, orchestration.last_seqs
    to sketchy_relay, sketchy_operator, sketchy_gateway;
grant select on orchestration.outbox to sketchy_timer;
grant insert on orchestration.sequenced, orchestration.outcomes, orchestration.attempts, orchestration.dead_letters
    to sketchy_relay;
grant update (replayed_at, timetokens) on orchestration.dead_letters to sketchy_relay;
revoke all on all functions in schema orchestration from public;
grant execute on function orchestration.is_enrolled(uuid) to public;
grant execute on function orchestration.lane_of(uuid)
    to sketchy_timer, sketchy_relay, sketchy_gateway, sketchy_operator;
grant execute on function orchestration.ensure_partitions(integer), orchestration.refresh_ledger(timestamptz)
    to sketchy_timer, sketchy_relay, sketchy_operator;
