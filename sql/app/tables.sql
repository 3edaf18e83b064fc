-- The application's own tables, as its first version had them (the timer columns came later).
create type public.game_status as enum (
    'waiting', 'briefing', 'drawing', 'voting', 'results', 'completed', 'cancelled'
);

create table public.users (
    id uuid primary key references auth.users (id) on delete cascade,
    email text not null unique,
    username text not null unique,
    avatar_url text,
    is_subscriber boolean not null default false,
    subscription_tier text not null default 'free',
    created_at timestamptz not null default now(),
    last_active timestamptz not null default now()
);

create table public.booster_packs (
    id uuid primary key default gen_random_uuid(),
    title text not null unique,
    is_premium boolean not null default false,
    created_at timestamptz not null default now()
);

create table public.games (
    id uuid primary key default gen_random_uuid(),
    status public.game_status not null default 'waiting',
    prompt text not null,
    max_players integer not null default 4,
    current_players integer not null default 0,
    round_duration integer not null default 60,
    voting_duration integer not null default 30,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    drawing_started_at timestamptz,
    voting_started_at timestamptz,
    completed_at timestamptz,
    expires_at timestamptz not null default now() + interval '30 minutes',
    winner_id uuid references public.users (id) on delete set null,
    created_by uuid references public.users (id) on delete set null,
    constraint games_max_players_check check (max_players between 2 and 8),
    constraint games_current_players_check check (current_players >= 0 and current_players <= max_players),
    constraint games_round_duration_check check (round_duration between 30 and 300),
    constraint games_voting_duration_check check (voting_duration between 15 and 120),
    constraint games_valid_timestamps check (
        (started_at is null or started_at >= created_at)
        and (drawing_started_at is null or started_at is null or drawing_started_at >= started_at)
        and (voting_started_at is null or drawing_started_at is null or voting_started_at >= drawing_started_at)
        and (completed_at is null or voting_started_at is null or completed_at >= voting_started_at)
    )
);
create index games_status_idx on public.games (status);
create index games_created_at_idx on public.games (created_at desc);
create index games_expires_at_idx on public.games (expires_at) where status in ('waiting', 'briefing');

create table public.game_participants (
    id uuid primary key default gen_random_uuid(),
    game_id uuid not null references public.games (id) on delete cascade,
    user_id uuid not null references public.users (id) on delete cascade,
    joined_at timestamptz not null default now(),
    left_at timestamptz,
    is_ready boolean not null default false,
    selected_booster_pack uuid references public.booster_packs (id) on delete set null,
    placement integer,
    constraint game_participants_game_id_user_id_key unique (game_id, user_id),
    constraint game_participants_left_after_joined check (left_at is null or left_at >= joined_at)
);
create index game_participants_user_id_idx on public.game_participants (user_id);

create table public.submissions (
    id uuid primary key default gen_random_uuid(),
    game_id uuid not null references public.games (id) on delete cascade,
    user_id uuid not null references public.users (id) on delete cascade,
    drawing_data jsonb not null,
    drawing_url text,
    drawing_thumbnail_url text,
    submitted_at timestamptz not null default now(),
    vote_count integer not null default 0,
    is_winner boolean not null default false,
    canvas_width integer not null default 800,
    canvas_height integer not null default 600,
    element_count integer not null default 0,
    drawing_time_seconds integer,
    constraint submissions_game_id_user_id_key unique (game_id, user_id),
    constraint submissions_drawing_is_object check (jsonb_typeof(drawing_data) = 'object')
);
create index submissions_user_id_idx on public.submissions (user_id);

create table public.votes (
    id uuid primary key default gen_random_uuid(),
    game_id uuid not null references public.games (id) on delete cascade,
    voter_id uuid not null references public.users (id) on delete cascade,
    submission_id uuid not null references public.submissions (id) on delete cascade,
    voted_at timestamptz not null default now(),
    constraint votes_game_id_voter_id_key unique (game_id, voter_id)
);
create index votes_submission_id_idx on public.votes (submission_id);

create table public.game_transition_log (
    id uuid primary key default gen_random_uuid(),
    game_id uuid not null references public.games (id) on delete cascade,
    from_status public.game_status not null,
    to_status public.game_status not null,
    triggered_by text,
    created_at timestamptz not null default now()
);
create index game_transition_log_game_id_idx on public.game_transition_log (game_id, created_at desc);

create table public.game_metadata (
    id uuid primary key default gen_random_uuid(),
    game_id uuid not null references public.games (id) on delete cascade,
    key text not null,
    value text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    expires_at timestamptz,
    constraint game_metadata_game_id_key_key unique (game_id, key)
);

create table public.advisory_lock_metadata (
    lock_id bigint primary key,
    acquired_at timestamptz not null default now(),
    acquired_by text,
    expires_at timestamptz not null
);

create table public.matchmaking_queue (
    user_id uuid primary key references public.users (id) on delete cascade,
    joined_at timestamptz not null default now(),
    preferences jsonb not null default '{}'
);

-- What pg_net would have sent over HTTP.
create table public.legacy_broadcasts (
    id bigint generated always as identity primary key,
    url text not null,
    headers jsonb not null default '{}',
    body jsonb not null,
    created_at timestamptz not null default clock_timestamp()
);
