-- name: sweep
select s.due, s.moved, s.extended, s.locked, s.set_aside, s.switched_off, s.more, s.lateness_ms,
       extract(epoch from s.next_deadline - clock_timestamp())::double precision as next_in,
       pg_current_snapshot()::text as seen
from orchestration.sweep(
    %(limit)s,
    %(candidates)s::uuid[] || case when %(look)s
        then array(select orchestration.all_submitted_since(%(seen)s::pg_snapshot)) else '{}' end,
    %(lag)s::interval,
    %(window)s::interval,
    %(only)s::uuid[]
) s

-- name: listen
listen orchestration_deadline; listen orchestration_all_submitted; listen orchestration_flags;
set plan_cache_mode = force_generic_plan

-- name: warm_up
select orchestration.warm_up_sweep()

-- name: due
select l.game_id
from orchestration.live_games l
left join orchestration.set_aside a on a.game_id = l.game_id
where l.deadline <= clock_timestamp() - %(lag)s::interval and l.deadline <= now() and not l.paused and a.game_id is null
order by l.deadline limit %(limit)s

-- name: hanging
select a.game_id
from orchestration.set_aside a join orchestration.live_games l on l.game_id = a.game_id
where orchestration.is_time_out(a.sqlstate) and a.retry_at <= clock_timestamp() and not l.paused
order by a.retry_at limit %(limit)s

-- name: set_aside
select orchestration.set_game_aside(%(game)s, clock_timestamp(), '57014', %(error)s)

-- name: statement_timeout
select set_config('statement_timeout', %(milliseconds)s, false)

-- name: overdue
select count(*) from orchestration.live_games l
where l.deadline < now() - %(by)s::interval and not l.paused
  and not exists (select from orchestration.set_aside a
                  where a.game_id = l.game_id and a.retry_at > clock_timestamp())
