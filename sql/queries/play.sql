-- What the application's clients and its server say to the database.

-- name: act
select set_config('role', %(role)s, true),
       set_config('request.jwt.claims', %(claims)s, true),
       set_config('request.headers', %(headers)s, true)

-- name: clock
select extract(epoch from clock_timestamp())::double precision

-- name: has_timer_columns
select count(*) = 2 from pg_attribute
where attrelid = 'public.games'::regclass and not attisdropped
  and attname in ('phase_expires_at', 'current_phase_duration')

-- name: has_orchestration
select to_regclass('orchestration.enrolments') is not null

-- name: is_enrolled
select orchestration.is_enrolled(%(game_id)s)

-- name: sign_up_auth
insert into auth.users (id, email)
select * from unnest(%(ids)s::uuid[], %(emails)s::text[])
on conflict (id) do nothing

-- name: sign_up
insert into public.users (id, email, username)
select * from unnest(%(ids)s::uuid[], %(emails)s::text[], %(names)s::text[])
on conflict (id) do nothing

-- name: create_game
insert into public.games (id, prompt, max_players, round_duration, voting_duration, created_by)
values (%(game_id)s, %(prompt)s, %(max_players)s, %(round_seconds)s, %(voting_seconds)s, %(user_id)s)
on conflict (id) do nothing

-- name: join
insert into public.game_participants (game_id, user_id)
values (%(game_id)s, %(user_id)s)
on conflict (game_id, user_id) do nothing

-- name: ready
update public.game_participants set is_ready = true
where game_id = %(game_id)s and user_id = %(user_id)s and left_at is null

-- name: leave
update public.game_participants set left_at = now()
where game_id = %(game_id)s and user_id = %(user_id)s and left_at is null

-- name: start
select public.transition_game_status(%(game_id)s, 'briefing')

-- name: cancel
select public.transition_game_status(%(game_id)s, 'cancelled')

-- name: timer_state
select phase::text, extract(epoch from phase_expires_at)::double precision
from public.get_game_timer_state(%(game_id)s)

-- One row when the drawing is in, also when an earlier attempt brought it; none when drawing is over.
-- name: draw
with made as (
    insert into public.submissions
        (id, game_id, user_id, drawing_data, element_count, drawing_time_seconds)
    select %(submission_id)s::uuid, g.id, %(user_id)s::uuid, %(drawing)s::jsonb, %(elements)s::integer, %(seconds)s::integer
    from public.games g
    where g.id = %(game_id)s and g.status = 'drawing'
    on conflict (game_id, user_id) do nothing
    returning id
)
select id from made
union all
select id from public.submissions where id = %(submission_id)s

-- name: vote
with made as (
    insert into public.votes (id, game_id, voter_id, submission_id)
    select %(vote_id)s::uuid, g.id, %(user_id)s::uuid, %(submission_id)s::uuid
    from public.games g
    where g.id = %(game_id)s and g.status = 'voting'
    on conflict (game_id, voter_id) do nothing
    returning id
)
select id from made
union all
select id from public.votes where id = %(vote_id)s

-- name: drawings
select id::text, user_id::text from public.submissions where game_id = %(game_id)s

-- A right of the application, which owns the column: only ever nearer, only in the phase it was meant for.
-- name: move_deadline
update public.games set phase_expires_at = to_timestamp(%(deadline)s)
where id = %(game_id)s and status::text = %(phase)s and phase_expires_at > to_timestamp(%(deadline)s)
returning extract(epoch from phase_expires_at)::double precision

-- name: states
select wanted.id::text, t.phase::text, extract(epoch from t.phase_expires_at)::double precision
from unnest(%(game_ids)s::uuid[]) as wanted (id)
cross join lateral public.get_game_timer_state(wanted.id) as t

-- name: final
select g.status::text, g.winner_id::text,
       coalesce((select jsonb_object_agg(p.user_id, p.placement)
                 from public.game_participants p where p.game_id = g.id), '{}')
from public.games g
where g.id = %(game_id)s
