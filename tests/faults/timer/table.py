"""Games that end a phase soon, and what became of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from sketchy_orchestration.local import processes

Connection = psycopg.Connection[tuple[Any, ...]]

# Half leave briefing, half voting with two drawings and two votes to count; none has a second deadline soon.
_GAMES = """
    with made as (
        insert into public.games
            (prompt, status, round_duration, created_at, started_at, drawing_started_at, voting_started_at,
             current_phase_duration, phase_expires_at)
        select 'a cat', (case when i %% 2 = 0 then 'briefing' else 'voting' end)::public.game_status, 300,
               now() - interval '2 min', now() - interval '2 min',
               case when i %% 2 = 1 then now() - interval '1 min' end,
               case when i %% 2 = 1 then now() - interval '30 s' end, 20,
               clock_timestamp() + make_interval(secs => %(first)s + %(spread)s * random())
        from generate_series(1, %(count)s) i
        returning id, status
    ), players as (
        select m.id as game_id, m.status, u.id as user_id
        from made m cross join (select id from public.users order by id limit 2) u
    ), joined as (
        insert into public.game_participants (game_id, user_id) select game_id, user_id from players
    ), drawn as (
        insert into public.submissions (game_id, user_id, drawing_data)
        select game_id, user_id, '{}' from players where status = 'voting'
        returning id, game_id, user_id
    )
    select (select array_agg(id) from made)
"""
_VOTES = """
    insert into public.votes (game_id, voter_id, submission_id)
    select a.game_id, a.user_id, b.id
    from public.submissions a join public.submissions b on b.game_id = a.game_id and b.user_id <> a.user_id
    where a.game_id = any (%s)
"""
_PEOPLE = """
    with people as (
        insert into auth.users (id) select gen_random_uuid() from generate_series(1, 2) returning id
    )
    insert into public.users (id, email, username)
    select id, id || '@test.invalid', left(id::text, 20) from people
"""
_ENDED = """
    select count(*) from orchestration.transitions where game_id = any (%s) and cause = 'timer'
"""
# Everything about a phase's end that must never be: early, twice, another cause, an inexact next deadline.
_WRONG = """
    select g.id::text, coalesce(t.count, 0), t.first_late, t.from_phase, l.deadline - t.next_deadline
    from public.games g
    left join (
        select game_id, count(*), min(at - deadline) as first_late, min(from_phase) as from_phase,
               bool_and(cause = 'timer' and handler = 'orchestration') as ours,
               bool_and(next_deadline is null or rebased
                        or next_deadline = deadline + interval '300 s') as exact,
               min(next_deadline) as next_deadline
        from orchestration.transitions group by game_id
    ) t on t.game_id = g.id
    left join orchestration.live_games l on l.game_id = g.id
    where g.id = any (%s) and (
        t.count is distinct from 1 or t.first_late < interval '0' or not t.ours or not t.exact
        or g.status::text <> case t.from_phase when 'briefing' then 'drawing' else 'completed' end
        or l.deadline is distinct from t.next_deadline or l.deadline is distinct from
            case when g.status = 'drawing' then g.phase_expires_at end)
"""


class Table:
    """The games of one test."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.games: list[UUID] = []
        connection.execute("select orchestration.set_flag('enrolment', 'test', 'test', null, 100)")
        connection.execute(_PEOPLE)

    def by(self, connection: Connection) -> Table:
        """The same games over another connection."""
        other = Table.__new__(Table)
        other._connection, other.games = connection, self.games
        return other

    def deal(self, count: int, *, first: float = 1.2, spread: float = 2.0) -> list[UUID]:
        """Games whose phases end at random moments, `first` to `first + spread` seconds from now.

        No nearer than a second: as in the application, whose deadlines no shift needs to be woken for.
        """
        values = {"count": count, "first": first, "spread": spread}
        row = self._connection.execute(_GAMES, values).fetchone()
        assert row is not None
        games: list[UUID] = row[0]
        self._connection.execute(_VOTES, [games])
        self.games += games
        return games

    def ended(self, games: list[UUID]) -> int:
        """How many of these games have left their phase."""
        row = self._connection.execute(_ENDED, [games]).fetchone()
        return int(row[0]) if row else 0

    def overdue_by(self, seconds: float) -> bool:
        """Wait until some game is this much overdue."""
        found = "select exists (select from orchestration.live_games where deadline < clock_timestamp() - %s)"
        return processes.wait_until(
            lambda: self._connection.execute(found, [timedelta(seconds=seconds)]).fetchone() == (True,),
            seconds=seconds + 10,
        )

    def wait_for(self, games: list[UUID], count: int | None = None, *, seconds: float = 15) -> None:
        """Wait until `count` of these games, or all, have left their phase."""
        wanted = len(games) if count is None else count
        assert processes.wait_until(lambda: self.ended(games) >= wanted, seconds=seconds), (
            f"{self.ended(games)} of {wanted} phases ended"
        )

    def wrong(self) -> list[tuple[Any, ...]]:
        """Games that did not end their phase exactly once, on or after its deadline; what failed inside."""
        found = self._connection.execute(_WRONG, [self.games]).fetchall()
        for what in ("trigger_failures", "set_aside"):
            found += self._connection.execute(
                psycopg.sql.SQL("select {}, t::text from {} t").format(
                    psycopg.sql.Literal(what), psycopg.sql.Identifier("orchestration", what)
                )
            ).fetchall()
        return found
