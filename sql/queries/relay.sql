-- The relay's statements. Its sessions keep one plan each, made of index scans and nested loops: few rows are met in
-- large tables, whatever the statistics of a partition that grows from empty every day say.

-- name: enter
select set_config('idle_session_timeout', %(idle_ms)s::text, false),
       set_config('idle_in_transaction_session_timeout', %(idle_ms)s::text, false),
       set_config('plan_cache_mode', 'force_generic_plan', false),
       set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('jit', 'off', false)

-- name: keep_plans
select set_config('plan_cache_mode', 'force_generic_plan', false),
       set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('jit', 'off', false)

-- name: try_lanes
-- Also the ping of the lease session, with no lanes to try. Of those left to others only what one of them has taken: where
-- its lock is free, it is gone without having given the lane back.
select l.lane, pg_try_advisory_lock(orchestration.lock_class(), orchestration.lane_lock(l.lane)) as got
from (
    select t.lane from unnest(%(lanes)s::smallint[]) as t (lane)
    union all
    select h.lane from orchestration.lanes h where h.lane = any (%(left)s::smallint[]) and h.holder is not null
) l

-- name: take_lanes
-- A statement of its own after try_lanes: it must see all that the former holder committed.
update orchestration.lanes l
set epoch = l.epoch + 1, holder = %(shift_id)s, taken_at = clock_timestamp()
from orchestration.lane_progress p
where l.lane = any (%(lanes)s::smallint[]) and p.lane = l.lane
returning l.lane, l.epoch, p.cursor::text as cursor, p.waiting_from

-- name: save_lanes
-- Not again what stands there already: an idle relay writes nothing.
update orchestration.lane_progress p
set cursor = %(cursor)s::pg_snapshot, saved_at = clock_timestamp(), waiting_from = w.waiting_from
from unnest(%(lanes)s::smallint[], %(epochs)s::bigint[], %(waiting_from)s::bigint[]) as w (lane, epoch, waiting_from)
join orchestration.lanes l on l.lane = w.lane and l.epoch = w.epoch
where p.lane = w.lane
  and (p.cursor::text is distinct from %(cursor)s::text or p.waiting_from is distinct from w.waiting_from)

-- name: leave_lanes
with left_now as (
    update orchestration.lanes l
    set holder = null
    from unnest(%(lanes)s::smallint[], %(epochs)s::bigint[]) as h (lane, epoch)
    where l.lane = h.lane and l.epoch = h.epoch
    returning l.lane
)
select count(*) from left_now

-- name: unlock_lanes
select pg_advisory_unlock(orchestration.lock_class(), orchestration.lane_lock(l.lane))
from unnest(%(lanes)s::smallint[]) as l (lane)

-- name: fresh
-- Events that a cursor did not see, in the order of their ids, with the snapshot this look saw. What a snapshot does not
-- see is exactly: transactions from its xmax on, and those it lists as running. Their number does not grow while an old
-- transaction stays open. Small on purpose, since it mostly finds nothing; the bound on occurred_at spares the partitions
-- of days to come, here and below.
select pg_current_snapshot()::text as seen, f.id, f.occurred_at
from (values (1)) as one (row)
left join lateral (
    select o.id, o.occurred_at
    from orchestration.outbox o
    where o.txid >= pg_snapshot_xmax(%(cursor)s::pg_snapshot) and o.lane = any (%(lanes)s::smallint[])
      and o.occurred_at < now() + interval '1 hour'
    union all
    select o.id, o.occurred_at
    from orchestration.outbox o
    where o.txid = any (array(select pg_snapshot_xip(%(cursor)s::pg_snapshot))) and o.lane = any (%(lanes)s::smallint[])
      and o.occurred_at < now() + interval '1 hour'
    order by 1
    limit %(limit)s
) f on true

-- name: slice
-- As fresh, for more than one look takes: those above an id that a snapshot taken before sees.
select pg_current_snapshot()::text as seen, f.id, f.occurred_at
from (values (1)) as one (row)
left join lateral (
    select o.id, o.occurred_at
    from orchestration.outbox o
    where o.id > %(after_id)s and o.lane = any (%(lanes)s::smallint[])
      and not coalesce(pg_visible_in_snapshot(o.txid, %(cursor)s::pg_snapshot), false)
      and pg_visible_in_snapshot(o.txid, %(target)s::pg_snapshot)
      and o.occurred_at < now() + interval '1 hour'
    order by o.id
    limit %(limit)s
) f on true

-- name: number
-- Gives those events their places that have none, in lanes held in the given epochs; under an emergency stop to none.
-- A game's last place may have left with a day while an earlier one is kept: commits do not come in the order of days.
with chosen as materialized (
    select o.id, o.event_id, o.game_id, o.lane, o.type, o.user_id, o.data, o.channels, o.request_id, o.occurred_at
    from unnest(%(ids)s::bigint[], %(occurred_ats)s::timestamptz[]) as f (id, occurred_at)
    join orchestration.outbox o on o.id = f.id and o.occurred_at = f.occurred_at
                               and o.occurred_at < now() + interval '1 hour'
    where not exists (select from orchestration.sequenced s
                      where s.outbox_id = f.id and s.occurred_at = f.occurred_at
                        and s.occurred_at < now() + interval '1 hour')
), placed as (
    select c.*, row_number() over (partition by c.game_id order by c.id) as n from chosen c
), begun as (
    select p.*,
           case when p.n = 1 and p.game_id is not null then greatest(
               (select max(s.seq) from orchestration.sequenced s
                where s.game_id = p.game_id and s.occurred_at < now() + interval '1 hour'),
               (select l.seq from orchestration.last_seqs l where l.game_id = p.game_id), 0) end as last_seq,
           case when p.n = 1 and p.game_id is not null then greatest(
               (select max(c.seq) from orchestration.outcomes c
                where c.game_id = p.game_id and c.outcome = 'delivered' and c.occurred_at < now() + interval '1 hour'),
               (select l.sent_seq from orchestration.last_seqs l where l.game_id = p.game_id), 0) end as sent_seq
    from placed p
), numbered as materialized (
    select b.id, b.event_id, b.game_id, b.lane, b.type, b.user_id, b.data, b.channels, b.request_id, b.occurred_at,
           max(b.last_seq) over game + b.n as seq, max(b.sent_seq) over game as sent_seq
    from begun b
    window game as (partition by b.game_id)
), written as (
    insert into orchestration.sequenced (outbox_id, event_id, game_id, lane, seq, epoch, occurred_at)
    select n.id, n.event_id, n.game_id, n.lane, n.seq, l.epoch, n.occurred_at
    from numbered n
    join orchestration.lanes l on l.lane = n.lane and l.epoch = (%(epoch_by_lane)s::bigint[])[n.lane + 1]
    where not (select f.enabled from orchestration.flags f where f.name = 'emergency_stop')
    returning outbox_id
)
select (select count(*) from written) as written,
       (select f.enabled from orchestration.flags f where f.name = 'emergency_stop') as stopped,
       n.id, n.event_id, n.game_id, n.lane, n.seq, n.sent_seq, n.type, n.user_id, n.data, n.channels, n.request_id,
       n.occurred_at
from numbered n
order by n.id

-- name: number_slice
-- As slice and number in one, where nobody needs the events yet: how many were looked at and numbered, and up to which id.
with slice as materialized (
    select o.id, o.event_id, o.game_id, o.lane, o.occurred_at
    from orchestration.outbox o
    where o.id > %(after_id)s and o.lane = any (%(lanes)s::smallint[])
      and not coalesce(pg_visible_in_snapshot(o.txid, %(cursor)s::pg_snapshot), false)
      and pg_visible_in_snapshot(o.txid, %(target)s::pg_snapshot)
      and o.occurred_at < now() + interval '1 hour'
      and not coalesce((select f.enabled from orchestration.flags f where f.name = 'emergency_stop'), false)
    order by o.id
    limit %(limit)s
), placed as (
    select c.*, row_number() over (partition by c.game_id order by c.id) as n
    from slice c
    where not exists (select from orchestration.sequenced s
                      where s.outbox_id = c.id and s.occurred_at = c.occurred_at
                        and s.occurred_at < now() + interval '1 hour')
), begun as (
    select p.*,
           case when p.n = 1 and p.game_id is not null then greatest(
               (select max(s.seq) from orchestration.sequenced s
                where s.game_id = p.game_id and s.occurred_at < now() + interval '1 hour'),
               (select l.seq from orchestration.last_seqs l where l.game_id = p.game_id), 0) end as last_seq
    from placed p
), numbered as materialized (
    select b.*, max(b.last_seq) over (partition by b.game_id) + b.n as seq from begun b
), written as (
    insert into orchestration.sequenced (outbox_id, event_id, game_id, lane, seq, epoch, occurred_at)
    select n.id, n.event_id, n.game_id, n.lane, n.seq, l.epoch, n.occurred_at
    from numbered n
    join orchestration.lanes l on l.lane = n.lane and l.epoch = (%(epoch_by_lane)s::bigint[])[n.lane + 1]
    order by n.id
    returning outbox_id
)
select (select count(*) from slice) as found, (select max(id) from slice) as last_id,
       (select count(*) from numbered) as numbered, (select count(*) from written) as written,
       (select f.enabled from orchestration.flags f where f.name = 'emergency_stop') as stopped

-- name: candidates
-- Games (an event of no game by itself) that may have something waiting in lanes just taken, each with an id that none of
-- it lies below: of a page of the events that the cursor did not see (by transaction, each whole) and of a page of those
-- from waiting_from on (by id); and how far the pages reach. A game may be on both, and on the next pages too.
with unseen as materialized (
    select o.id, o.game_id, o.lane, o.occurred_at, o.txid
    from orchestration.outbox o
    where %(after_txid)s::xid8 is not null and o.txid > %(after_txid)s::xid8 and o.lane = any (%(lanes)s::smallint[])
      and o.occurred_at < now() + interval '1 hour'
    order by o.txid
    fetch first %(limit)s rows with ties
), running as (
    select o.id, o.game_id, o.lane, o.occurred_at
    from orchestration.outbox o
    where o.txid = any (%(txids)s::xid8[]) and o.lane = any (%(lanes)s::smallint[])
), seen as materialized (
    select o.id, o.game_id, o.lane, o.occurred_at
    from orchestration.outbox o
    where %(after_id)s::bigint is not null and o.id > %(after_id)s::bigint and o.lane = any (%(lanes)s::smallint[])
      and o.occurred_at < now() + interval '1 hour'
    order by o.id
    limit %(limit)s
), candidates as (
    select k.game_id, k.lane, min(k.id) as oldest_id
    from (select u.id, u.game_id, u.lane, u.occurred_at from unseen u
          union all select r.id, r.game_id, r.lane, r.occurred_at from running r
          union all select e.id, e.game_id, e.lane, e.occurred_at from seen e) k
    where k.game_id is not null
       or not exists (select from orchestration.outcomes c
                      where c.outbox_id = k.id and c.occurred_at = k.occurred_at
                        and c.occurred_at < now() + interval '1 hour')
    group by k.game_id, k.lane, case when k.game_id is null then k.id end
), reached as (
    select (select max(u.txid)::text from unseen u) as last_txid, (select count(*) from unseen) as unseen,
           (select max(e.id) from seen e) as last_id, (select count(*) from seen) as seen
)
select r.last_txid, r.unseen, r.last_id, r.seen, c.game_id, c.lane, c.oldest_id
from reached r
left join candidates c on true

-- name: standing
-- Where games stand of which something waits: a game's outcomes are written in the order of its events.
select g.game_id, w.first_seq, w.last_seq,
       greatest((select max(c.seq) from orchestration.outcomes c
                 where c.game_id = g.game_id and c.outcome = 'delivered' and c.occurred_at < now() + interval '1 hour'),
                (select l.sent_seq from orchestration.last_seqs l where l.game_id = g.game_id), 0) as sent_seq
from unnest(%(game_ids)s::uuid[]) as g (game_id)
cross join lateral (
    select coalesce(max(c.seq), 0) as seq from orchestration.outcomes c
    where c.game_id = g.game_id and c.occurred_at < now() + interval '1 hour'
) d
cross join lateral (
    select min(s.seq) as first_seq, max(s.seq) as last_seq
    from orchestration.sequenced s
    where s.game_id = g.game_id and s.seq > d.seq and s.occurred_at < now() + interval '1 hour'
) w
where w.first_seq is not null

-- name: load
-- The next events of games, by their place; and events of no game by their id. Each with what channels have taken of it, which
-- is looked up only where there are several.
with found as (
    select o.id, o.event_id, o.game_id, o.lane, s.seq, 0::bigint as sent_seq, o.type, o.user_id, o.data, o.channels,
           o.request_id, o.occurred_at
    from unnest(%(game_ids)s::uuid[], %(from_seqs)s::bigint[]) as g (game_id, from_seq)
    cross join lateral (
        select n.seq, n.outbox_id, n.occurred_at
        from orchestration.sequenced n
        where n.game_id = g.game_id and n.seq >= g.from_seq
        order by n.seq
        limit %(each)s
    ) s
    join orchestration.outbox o on o.id = s.outbox_id and o.occurred_at = s.occurred_at
    union all
    select o.id, o.event_id, o.game_id, o.lane, null, 0, o.type, o.user_id, o.data, o.channels, o.request_id, o.occurred_at
    from orchestration.outbox o
    where o.id = any (%(outbox_ids)s::bigint[])
)
select f.*, coalesce(case when cardinality(f.channels) > 1 then (
           select jsonb_object_agg(a.channel, a.timetoken) from orchestration.attempts a
           where a.outbox_id = f.id and a.occurred_at = f.occurred_at and a.verdict = 'accepted') end, '{}') as accepted
from found f

-- name: acknowledge
-- What became of events, with what was tried in vain; for lanes still held in the epoch they were sent in.
with done as materialized (
    select d.*
    from json_to_recordset(%(rows)s::json)
         as d (outbox_id bigint, event_id uuid, game_id uuid, lane smallint, epoch bigint, seq bigint, outcome text,
               attempts smallint, after_seq bigint, timetokens jsonb, occurred_at timestamptz, reason text,
               last_answer text)
    join orchestration.lanes l on l.lane = d.lane and l.epoch = d.epoch
), written as (
    insert into orchestration.outcomes
        (outbox_id, event_id, game_id, lane, seq, outcome, attempts, after_seq, timetokens, shift_id, occurred_at)
    select d.outbox_id, d.event_id, d.game_id, d.lane, d.seq, d.outcome, d.attempts, d.after_seq, d.timetokens,
           %(shift_id)s, d.occurred_at
    from done d
    returning outbox_id
), buried as (
    insert into orchestration.dead_letters
        (event_id, outbox_id, game_id, seq, after_seq, type, user_id, data, channels, request_id, occurred_at, reason,
         last_answer, attempts, timetokens)
    select o.event_id, o.id, o.game_id, d.seq, d.after_seq, o.type, o.user_id, o.data, o.channels, o.request_id,
           o.occurred_at, d.reason, d.last_answer, d.attempts, d.timetokens
    from done d
    join orchestration.outbox o on o.id = d.outbox_id and o.occurred_at = d.occurred_at
    where d.outcome = 'dead'
    on conflict (event_id) do nothing
    returning event_id
)
select (select count(*) from written), (select count(*) from buried)

-- name: record_attempts
insert into orchestration.attempts
    (outbox_id, event_id, game_id, channel, attempt, verdict, reason, duration_ms, timetoken, shift_id, occurred_at)
select a.outbox_id, a.event_id, a.game_id, a.channel, a.attempt, a.verdict, a.reason, a.duration_ms, a.timetoken,
       %(shift_id)s, a.occurred_at
from unnest(%(outbox_ids)s::bigint[], %(event_ids)s::uuid[], %(game_ids)s::uuid[], %(channels)s::text[],
            %(attempts)s::smallint[], %(verdicts)s::text[], %(reasons)s::text[], %(durations)s::real[],
            %(timetokens)s::bigint[], %(occurred_ats)s::timestamptz[])
     as a (outbox_id, event_id, game_id, channel, attempt, verdict, reason, duration_ms, timetoken, occurred_at)

-- name: look
-- All that a relay must know of the world, in one row: flags, circuit, the other relays, the time.
select extract(epoch from clock_timestamp())::double precision as now,
       (select jsonb_object_agg(f.name, jsonb_build_array(f.enabled, f.value)) from orchestration.flags f
        where f.name in ('pubnub_broadcasting', 'fanout_concurrency', 'publish_rate', 'publish_attempts',
                         'timer_sync_seconds', 'emergency_stop')) as flags,
       c.state, c.since, c.epoch, c.reason, c.probe_holder, c.probe_at,
       coalesce((select jsonb_agg(s.report) from orchestration.shifts s
                 where s.kind = 'fanout' and s.ended_at is null and s.relieved_by is null
                   and s.shift_id <> %(shift_id)s
                   and s.heartbeat_at > clock_timestamp() - %(fresh)s::interval), '[]') as others
from orchestration.circuit c
where c.keyset = 'default'

-- name: change_circuit
-- Only if nobody was faster.
update orchestration.circuit c
set state = %(state)s, reason = %(reason)s, since = %(since)s, epoch = %(epoch)s, probe_holder = %(probe_holder)s,
    probe_at = %(probe_at)s
where c.keyset = 'default' and c.epoch = %(epoch)s - 1
returning c.epoch

-- name: timer_syncs
select s.game_id, s.data from orchestration.timer_syncs(%(game_ids)s::uuid[], %(lanes)s::smallint[]) s

-- name: replays_asked
-- Dead letters of these lanes that somebody wants sent again, each game's in its order.
select d.event_id, d.game_id, coalesce(orchestration.lane_of(d.game_id), 0) as lane, d.seq, d.after_seq, d.type, d.user_id,
       d.data, d.channels, d.request_id, d.occurred_at, d.timetokens
from orchestration.dead_letters d
where d.replay_asked_at is not null and coalesce(orchestration.lane_of(d.game_id), 0) = any (%(lanes)s::smallint[])
order by d.game_id, d.seq, d.outbox_id
limit %(limit)s

-- name: end_replay
-- What became of it, for a lane still held in the epoch it was sent in; nothing if the letter was discarded meanwhile.
update orchestration.dead_letters d
set replay_asked_at = null, timetokens = %(timetokens)s,
    replayed_at = case when %(refused)s::text is null then clock_timestamp() end,
    last_answer = coalesce(%(refused)s, d.last_answer)
from orchestration.lanes l
where d.event_id = %(event_id)s and d.replay_asked_at is not null and l.lane = %(lane)s and l.epoch = %(epoch)s
returning d.event_id

-- name: newest_act
select coalesce(max(a.id), 0) from orchestration.operator_actions a

-- name: syncs_asked
-- Time syncs asked for lately; without a game: all that run. An act may become visible after a later one, so some are told
-- of again.
select a.id, a.game_id
from orchestration.operator_actions a
where a.id > %(after)s::bigint - 50 and a.action = 'sync' and a.at > clock_timestamp() - interval '10 seconds'
