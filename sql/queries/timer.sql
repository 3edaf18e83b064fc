-- name: sweep
select s.due, s.moved, s.extended, s.locked, s.set_aside, s.switched_off, s.more, s.lateness_ms,
       extract(epoch from s.next_deadline - clock_timestamp())::double precision as next_in,
       pg_current_snapshot()::text as seen
from orchestration.sweep(
    %(limit)s,
    %(candidates)s::uuid[] || case when %(look)s
        then array(select orchestration.all_submitted_since(%(seen)s::pg_snapshot)) else '{}' end,
    %(lag)s::interval,
    %(window)s::interval
) s

-- name: listen
listen orchestration_deadline; listen orchestration_all_submitted; listen orchestration_flags;
set plan_cache_mode = force_generic_plan

-- name: warm_up
select orchestration.warm_up_sweep()

-- name: overdue
select count(*) from orchestration.live_games l
where l.deadline < now() - %(by)s::interval and not l.paused
  and not exists (select from orchestration.set_aside a
                  where a.game_id = l.game_id and a.retry_at > clock_timestamp())
