-- What we know of games: who handles each, which are live, what happened to them.

-- The decision who handles a game, made once when it is created. Games from before the installation have no row: legacy.
create table orchestration.enrolments (
    game_id uuid primary key,
    handler text not null check (handler in ('orchestration', 'legacy')),
    percentage numeric not null,
    decided_at timestamptz not null default clock_timestamp(),
    released_at timestamptz check (released_at is null or handler = 'legacy')
);
comment on column orchestration.enrolments.released_at is 'Handed to the legacy handler in an emergency; never comes back';

-- One narrow row per enrolled game in play. An application statement writes it only while it holds the game's own row.
create table orchestration.live_games (
    game_id uuid primary key,
    phase text not null,
    deadline timestamptz,
    paused boolean not null default false,
    paused_at timestamptz,
    graced boolean not null default false,
    check (paused = (paused_at is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0,
        -- Cutting off empty pages takes a lock that every statement of the application would wait for.
        vacuum_truncate = false);
comment on column orchestration.live_games.graced is
    'Drawing had its grace period, whatever has become of the application''s row drawing_grace_<id>';
create index live_games_deadline_idx on orchestration.live_games (deadline) where not paused;

-- A game that could not be moved: tried again at retry_at, in nobody's way until then.
create table orchestration.set_aside (
    game_id uuid primary key,
    since timestamptz not null default clock_timestamp(),
    attempts integer not null default 1 check (attempts > 0),
    retry_at timestamptz not null,
    sqlstate text not null,
    error text not null
);
create index set_aside_retry_idx on orchestration.set_aside (retry_at);

create table orchestration.transitions (
    id bigint generated always as identity primary key,
    game_id uuid not null,
    from_phase text not null,
    to_phase text not null,
    deadline timestamptz,
    at timestamptz not null default clock_timestamp(),
    next_deadline timestamptz,
    rebased boolean not null default false,
    cause text not null check (cause in
        ('timer', 'all_submitted', 'application', 'lobby_expired', 'operator', 'recovery')),
    handler text not null check (handler in ('orchestration', 'legacy')),
    request_id text not null,
    lateness_ms double precision generated always as (
        case when cause in ('timer', 'lobby_expired') then extract(epoch from at - deadline)::double precision * 1000 end
    ) stored
);
create index transitions_game_idx on orchestration.transitions (game_id, id);
create index transitions_at_idx on orchestration.transitions using brin (at);
comment on column orchestration.transitions.at is 'Close to the commit; an observer outside measures the rest';

-- What a trigger could not do, so that the reconciler can. Plain on purpose: no index but its key, no constraint.
create table orchestration.trigger_failures (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    trigger_name text,
    game_ids uuid[],
    sqlstate text,
    error text,
    resolved_at timestamptz
);

create table orchestration.operator_actions (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    operator text not null,
    action text not null,
    game_id uuid,
    reason text not null,
    details jsonb not null default '{}',
    request_id text not null
);
create index operator_actions_game_idx on orchestration.operator_actions (game_id) where game_id is not null;

-- Does this system handle the game? The one function of ours that anybody may ask: the application's own
-- functions ask it, as whoever calls them.
create function orchestration.is_enrolled(p_game_id uuid) returns boolean
    language plpgsql stable security definer set search_path = '' set lock_timeout = '50ms'
as $$
begin
    -- A sweep has bounds of its own, and asks for every row that it writes.
    if current_setting('orchestration.cause', true) is distinct from 'sweep' then
        perform orchestration.wait_at_most(50);
    end if;
    return exists (select from orchestration.enrolments e
                   where e.game_id = p_game_id and e.handler = 'orchestration');
end
$$;

grant usage on schema orchestration to public;
grant select on orchestration.enrolments, orchestration.live_games, orchestration.set_aside,
    orchestration.transitions, orchestration.trigger_failures, orchestration.operator_actions
    to sketchy_timer, sketchy_operator;
grant select on orchestration.enrolments, orchestration.live_games, orchestration.transitions
    to sketchy_relay, sketchy_gateway;
revoke all on all functions in schema orchestration from public;
grant execute on function orchestration.is_enrolled(uuid) to public;
