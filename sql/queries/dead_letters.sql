-- Dead letters as an operator sees them. Null is no filter.

-- name: listed
select d.event_id, d.game_id, d.seq, d.type, d.reason, d.last_answer, d.attempts, d.dead_at, d.occurred_at,
       case when d.discarded_at is not null then 'discarded'
            when d.replayed_at is not null then 'replayed'
            when d.replay_asked_at is not null then 'to be replayed'
            else 'open' end as state,
       l.game_id is not null as game_lives
from orchestration.dead_letters d
left join orchestration.live_games l on l.game_id = d.game_id
where (%(settled)s or (d.replayed_at is null and d.discarded_at is null))
  and (%(event_ids)s::uuid[] is null or d.event_id = any (%(event_ids)s::uuid[]))
  and (%(game_id)s::uuid is null or d.game_id = %(game_id)s::uuid)
  and (%(type)s::text is null or d.type = %(type)s::text)
  and (%(dead_reason)s::text is null or d.reason = %(dead_reason)s::text)
  and (%(after)s::timestamptz is null or d.dead_at >= %(after)s::timestamptz)
  and (%(before)s::timestamptz is null or d.dead_at < %(before)s::timestamptz)
  and (not %(over)s or l.game_id is null)
order by d.dead_at, d.event_id
limit %(limit)s

-- name: whole
select d.*,
       coalesce((select jsonb_agg(jsonb_build_object('at', a.at, 'by', a.operator, 'action', a.action, 'reason', a.reason,
                                                     'request_id', a.request_id) order by a.id)
                 from orchestration.operator_actions a
                 where a.action in ('replay', 'discard') and a.game_id is not distinct from d.game_id
                   and a.details ->> 'eventId' = d.event_id::text), '[]') as acts
from orchestration.dead_letters d
where d.event_id = %(event_id)s

-- name: act
select event_id, game_id, seq, type, reason, dead_at, outcome
from orchestration.act_on_dead_letters(
    %(action)s, %(event_ids)s::uuid[], %(game_id)s, %(type)s, %(dead_reason)s, %(after)s, %(before)s, %(over)s, %(by)s, %(reason)s,
    %(limit)s::integer, %(dry_run)s)

-- name: progress
select count(*) filter (where d.replayed_at is not null) as accepted,
       count(*) filter (where d.replayed_at is null and d.replay_asked_at is null
                        and d.discarded_at is null) as refused,
       count(*) filter (where d.replay_asked_at is not null) as waiting
from orchestration.dead_letters d
where d.event_id = any (%(event_ids)s::uuid[])
