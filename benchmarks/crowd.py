"""Many games at once, put there past all triggers: a crowd that rests, and games that are due soon."""

from __future__ import annotations

from typing import Any

import psycopg

GAMES = 1_000_000
LIVE = 100_000
PHASES = ("waiting", "briefing", "drawing", "voting")

# In play: a quarter in each phase, deadlines over the next hour; players, and drawings of those who vote.
_STEPS = (
    "set maintenance_work_mem = '256MB'",
    """insert into auth.users (id) select gen_random_uuid() from generate_series(1, 1000)""",
    """insert into public.users (id, email, username)
       select id, id || '@test.invalid', left(id::text, 20) from auth.users""",
    """create temporary table crowd as
       select gen_random_uuid() as id, i, i <= %(live)s as live,
              case when i <= %(live)s then (%(phases)s::text[])[i %% 4 + 1] else 'completed' end as phase,
              now() + interval '10 min' + interval '1 hour' * (i / %(games)s::float8) as deadline
       from generate_series(1, %(games)s) i""",
    """insert into public.games
           (id, prompt, status, created_at, started_at, drawing_started_at, voting_started_at, completed_at,
            phase_expires_at, current_phase_duration, expires_at, current_players)
       select id, 'a cat', phase::public.game_status, now() - interval '2 h',
              case when phase <> 'waiting' then now() - interval '90 min' end,
              case when phase in ('drawing', 'voting', 'completed') then now() - interval '89 min' end,
              case when phase in ('voting', 'completed') then now() - interval '88 min' end,
              case when phase = 'completed' then now() - interval '87 min' end,
              case when live and phase <> 'waiting' then deadline end, 60, deadline,
              case when live then 2 else 0 end
       from crowd""",
    """insert into orchestration.enrolments (game_id, handler, percentage)
       select id, 'orchestration', 100 from crowd where i <= 3 * %(live)s""",
    """insert into orchestration.live_games (game_id, phase, deadline)
       select id, phase, deadline from crowd where live""",
    """insert into public.game_participants (game_id, user_id)
       select c.id, u.id from crowd c
       join (select id, row_number() over () as n from public.users) u
         on u.n in (c.i %% 1000 + 1, (c.i + 1) %% 1000 + 1)
       where c.live""",
    """insert into public.submissions (game_id, user_id, drawing_data)
       select p.game_id, p.user_id, '{}' from public.game_participants p
       join crowd c on c.id = p.game_id where c.phase = 'voting'""",
    """insert into public.votes (game_id, voter_id, submission_id)
       select s.game_id, o.user_id, s.id from public.submissions s
       join public.game_participants o on o.game_id = s.game_id and o.user_id <> s.user_id""",
    """insert into orchestration.transitions
           (game_id, from_phase, to_phase, deadline, at, cause, handler, request_id)
       select id, 'voting', 'completed', now(), now(), 'timer', 'orchestration', 'crowd'
       from crowd where not live and i <= 3 * %(live)s""",
    """insert into orchestration.outbox (game_id, lane, type, data, channels, request_id)
       select id, orchestration.lane_of(id), 'phase_changed', '{}', array['game-' || id], 'crowd'
       from crowd where i <= 2 * %(live)s""",
    "analyze",
)


# Half leave briefing, half leave voting with two drawings and two votes to count.
_DEAL = (
    """create temporary table dealt as
       select gen_random_uuid() as id, i, case when i %% 2 = 0 then 'briefing' else 'voting' end as phase,
              clock.at + make_interval(secs => %(first)s + %(spread)s * i::float8 / %(count)s) as deadline
       from (select clock_timestamp() as at) clock, generate_series(1, %(count)s) i""",
    """insert into public.games
           (id, prompt, status, round_duration, created_at, started_at, drawing_started_at, voting_started_at,
            phase_expires_at, current_phase_duration, current_players)
       select id, 'a cat', phase::public.game_status, 300, now() - interval '2 min', now() - interval '2 min',
              case when phase = 'voting' then now() - interval '1 min' end,
              case when phase = 'voting' then now() - interval '30 s' end, deadline, 20, 2
       from dealt""",
    """insert into orchestration.enrolments (game_id, handler, percentage)
       select id, 'orchestration', 100 from dealt""",
    "insert into orchestration.live_games (game_id, phase, deadline) select id, phase, deadline from dealt",
    """insert into public.game_participants (game_id, user_id)
       select d.id, u.id from dealt d
       join (select id, row_number() over () as n from public.users) u
         on u.n in (d.i %% 1000 + 1, (d.i + 1) %% 1000 + 1)""",
    """insert into public.submissions (game_id, user_id, drawing_data)
       select p.game_id, p.user_id, '{}' from public.game_participants p
       join dealt d on d.id = p.game_id where d.phase = 'voting'""",
    """insert into public.votes (game_id, voter_id, submission_id)
       select s.game_id, o.user_id, s.id from public.submissions s join dealt d on d.id = s.game_id
       join public.game_participants o on o.game_id = s.game_id and o.user_id <> s.user_id""",
    "drop table dealt",
    "analyze orchestration.live_games",
)
_CLEAR = (
    "update public.games set status = 'cancelled', phase_expires_at = null where round_duration = 300"
    " and status <> 'cancelled'",
    """delete from orchestration.live_games l using public.games g
       where g.id = l.game_id and g.status = 'cancelled'""",
)


def _past_triggers(superuser_url: str, steps: tuple[str, ...], values: dict[str, Any]) -> None:
    with psycopg.connect(superuser_url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("set synchronous_commit = off")
        for step in steps:
            connection.execute(step.encode(), values)


def gather(superuser_url: str, games: int = GAMES, live: int = LIVE) -> None:
    """A crowd whose deadlines are ten minutes away and more; a million games take half a minute."""
    _past_triggers(superuser_url, _STEPS, {"games": games, "live": live, "phases": list(PHASES)})


def deal(superuser_url: str, count: int, *, first: float, spread: float) -> None:
    """Games due from `first` to `first + spread` seconds from now, evenly; there must be a crowd already."""
    _past_triggers(superuser_url, _DEAL, {"count": count, "first": first, "spread": spread})


def clear(superuser_url: str) -> None:
    """Take what was dealt out of play."""
    _past_triggers(superuser_url, _CLEAR, {})
