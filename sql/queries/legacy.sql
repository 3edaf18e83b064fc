-- The way games were moved on before: one call per game, by whoever runs the sweep.

-- name: expired
select game_id::text, current_status::text, phase_expires_at
from public.find_expired_games(%(limit)s)

-- name: transition
select public.transition_game_status(%(game_id)s::uuid, %(status)s::public.game_status)

-- name: cleanup
select public.cleanup_expired_games()

-- name: monitor
select public.monitor_game_timers_db()

-- name: has_timer_columns
select count(*) = 2 from pg_attribute
where attrelid = 'public.games'::regclass and not attisdropped
  and attname in ('phase_expires_at', 'current_phase_duration')

-- name: drawings_missing
select exists (
    select from public.game_participants p
    where p.game_id = %(game_id)s::uuid and p.left_at is null and not exists (
        select from public.submissions s where s.game_id = p.game_id and s.user_id = p.user_id
    )
) and not exists (
    select from public.game_metadata where game_id = %(game_id)s::uuid and key = 'drawing_grace_' || %(game_id)s::uuid
)

-- name: begin_grace
with noted as (
    insert into public.game_metadata (game_id, key, value, expires_at)
    values (%(game_id)s::uuid, 'drawing_grace_' || %(game_id)s::uuid, now()::text,
            now() + make_interval(secs => %(seconds)s::double precision))
)
update public.games set phase_expires_at = now() + make_interval(secs => %(seconds)s::double precision)
where id = %(game_id)s::uuid and status = 'drawing'

-- name: results
select u.id::text, u.username, p.placement, coalesce(s.vote_count, 0), s.id::text, g.winner_id::text, g.completed_at
from public.games g
join public.game_participants p on p.game_id = g.id
join public.users u on u.id = p.user_id
left join public.submissions s on s.game_id = g.id and s.user_id = u.id
where g.id = %(game_id)s::uuid
order by p.placement nulls last, p.joined_at

-- name: take_broadcasts
delete from public.legacy_broadcasts
where id in (select id from public.legacy_broadcasts order by id limit 100 for update skip locked)
returning id, body
