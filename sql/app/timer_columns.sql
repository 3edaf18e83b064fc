-- The later migration that gave games a deadline of their own.
alter table public.games
    add column current_phase_duration integer,
    add column phase_expires_at timestamptz;
create index games_phase_expires_at_idx on public.games (phase_expires_at)
    where status in ('briefing', 'drawing', 'voting', 'results') and phase_expires_at is not null;
