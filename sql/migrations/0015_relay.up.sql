-- What the relay needs beside the tables: where a lane's waiting events begin, and what to tell of a running clock.
-- Apart from lanes, which every numbering and acknowledging statement reads: what is saved once a second leaves a dead
-- row each time, and while an old transaction keeps those, each reading of the row passes all of them.
create table orchestration.lane_progress (
    lane smallint primary key references orchestration.lanes,
    cursor pg_snapshot,
    waiting_from bigint,
    saved_at timestamptz
) with (fillfactor = 50);
comment on column orchestration.lane_progress.cursor is
    'Every event of the lane visible in this snapshot has been sequenced; saved at most once a second';
comment on column orchestration.lane_progress.waiting_from is
    'Of the events visible in cursor, those below this outbox id have their outcome; null: all of them have';
insert into orchestration.lane_progress (lane) select lane from orchestration.lanes;
grant select, update on orchestration.lane_progress to sketchy_relay;
grant select on orchestration.lane_progress to sketchy_timer, sketchy_operator, sketchy_gateway;

-- The lane's advisory lock, of class lock_class(): who holds it in an open session holds the lane.
create function orchestration.lane_lock(p_lane smallint) returns integer
    language sql immutable parallel safe strict set search_path = ''
    return 1000 + p_lane;

-- A fresh server_timer_sync for each running game asked for, or of each lane asked for.
create function orchestration.timer_syncs(p_game_ids uuid[], p_lanes smallint[] default '{}')
    returns table (game_id uuid, data jsonb)
    language sql stable security definer set search_path = ''
as $$
    select l.game_id,
           orchestration.timer_sync_data(row(l.game_id, l.phase, l.phase, l.deadline, l.deadline, clock_timestamp(),
                                             'timer', false, 'orchestration', to_jsonb(g))::orchestration.game_change)
    from orchestration.live_games l
    join public.games g on g.id = l.game_id
    where (l.game_id = any (p_game_ids) or orchestration.lane_of(l.game_id) = any (p_lanes))
      and l.phase <> 'waiting' and l.deadline is not null and not l.paused
$$;

revoke all on function orchestration.lane_lock(smallint), orchestration.timer_syncs(uuid[], smallint[]) from public;
grant execute on function orchestration.lane_lock(smallint), orchestration.timer_syncs(uuid[], smallint[])
    to sketchy_relay, sketchy_operator;
