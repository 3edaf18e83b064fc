"""Games in whatever state a test wants them, and the sweep as the timer shift calls it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from sketchy_orchestration.database import timer

Connection = psycopg.Connection[tuple[Any, ...]]

BEGAN = {
    "briefing": ("started_at",),
    "drawing": ("started_at", "drawing_started_at"),
    "voting": ("started_at", "drawing_started_at", "voting_started_at"),
    "results": ("started_at", "drawing_started_at", "voting_started_at"),
}


@dataclass(frozen=True)
class Played:
    """A game with its players and the drawing of each who made one."""

    id: str
    users: list[str]
    drawings: dict[str, str]


class Scene:
    """A database with the application and our migrations, and a connection that plays the application."""

    def __init__(self, url: str, conn: Connection) -> None:
        self.url = url
        self.conn = conn
        self.timer_columns = bool(
            self.one(
                "select count(*) = 2 from pg_attribute where attrelid = 'public.games'::regclass"
                " and attname in ('phase_expires_at', 'current_phase_duration')"
            )
        )

    def one(self, text: str, *values: object) -> Any:
        """The first column of the first row; None without a row."""
        row = self.conn.execute(text, values).fetchone()
        return row[0] if row else None

    def rows(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        return self.conn.execute(text, values).fetchall()

    def do(self, text: str, *values: object) -> None:
        self.conn.execute(text, values)

    @contextmanager
    def another(self, role: str = "service_role", *, autocommit: bool = False) -> Iterator[Connection]:
        """A session of its own, in a transaction unless told otherwise."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(f"set role {role}")
            conn.autocommit = autocommit
            yield conn

    def sweep(self, conn: Connection | None = None, **arguments: Any) -> timer.Swept:
        """One sweep as role sketchy_timer, in a session of its own unless one is given."""
        if conn is not None:
            return timer.sweep(conn, **{"limit": 500, **arguments})
        with self.another("sketchy_timer", autocommit=True) as own:
            return timer.sweep(own, **{"limit": 500, **arguments})

    def flag(self, name: str, *, enabled: bool | None = None, value: float | None = None) -> None:
        self.do("select orchestration.set_flag(%s, 'test', 'a test', %s, %s::numeric)", name, enabled, value)

    def users(self, count: int) -> list[str]:
        made = [str(uuid.uuid4()) for _ in range(count)]
        self.do("insert into auth.users (id) select unnest(%s::uuid[])", made)
        self.do(
            "insert into public.users (id, email, username)"
            " select u, u || '@x', 'player ' || u from unnest(%s::uuid[]) u",
            made,
        )
        return made

    def game(
        self,
        phase: str = "waiting",
        *,
        due_in: float | None = -0.1,
        players: int = 2,
        drawings: int = 0,
        enrolled: bool = True,
        round_duration: int = 60,
        voting_duration: int = 30,
    ) -> Played:
        """A game in `phase`; `due_in`: seconds to its deadline (a lobby's expiry), None for no deadline."""
        self.flag("enrolment", value=100 if enrolled else 0)
        game = str(uuid.uuid4())
        self.do(
            "insert into public.games"
            " (id, prompt, max_players, round_duration, voting_duration, created_at, expires_at)"
            " values (%s, 'a cat', 8, %s, %s, now() - interval '1 hour',"
            "  case when %s then clock_timestamp() + make_interval(secs => %s)"
            "       else now() + interval '30 minutes' end)",
            game,
            round_duration,
            voting_duration,
            phase == "waiting",
            due_in,
        )
        users = self.users(players)
        for user in users:
            self.join(game, user)
        if phase != "waiting":
            self.put(game, phase, due_in)
        made = {user: self.draw(game, user) for user in users[:drawings]}
        return Played(game, users, made)

    def put(self, game: str, phase: str, due_in: float | None) -> None:
        """The application moves the game, with a deadline of the test's choice."""
        # Nothing began before what a sweep has written in between.
        past = "greatest(now() - interval '50 minutes', started_at, drawing_started_at, voting_started_at)"
        began = ", ".join(f"{name} = coalesce({name}, {past})" for name in BEGAN.get(phase, ()))
        deadline = (
            ", phase_expires_at = clock_timestamp() + make_interval(secs => %(due_in)s)"
            if self.timer_columns
            else ""
        )
        self.conn.execute(
            f"update public.games set status = %(phase)s{', ' if began else ''}{began}{deadline}"
            " where id = %(game)s",
            {"phase": phase, "game": game, "due_in": due_in},
        )
        if not self.timer_columns:
            self.do(
                "update orchestration.live_games set deadline = clock_timestamp() + make_interval(secs => %s)"
                " where game_id = %s",
                due_in,
                game,
            )

    def join(self, game: str, user: str) -> None:
        self.do("insert into public.game_participants (game_id, user_id) values (%s, %s)", game, user)

    def leave(self, game: str, user: str) -> None:
        self.do(
            "update public.game_participants set left_at = now() where game_id = %s and user_id = %s",
            game,
            user,
        )

    def draw(self, game: str, user: str) -> str:
        return str(
            self.one(
                "insert into public.submissions (game_id, user_id, drawing_data) values (%s, %s, '{}')"
                " returning id",
                game,
                user,
            )
        )

    def vote(self, game: str, voter: str, drawing: str) -> None:
        self.do(
            "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)",
            game,
            voter,
            drawing,
        )

    def phase(self, game: str) -> str:
        return str(self.one("select status from public.games where id = %s", game))

    def live(self, game: str) -> tuple[Any, ...] | None:
        """(phase, deadline) as live_games has it."""
        rows = self.rows("select phase, deadline from orchestration.live_games where game_id = %s", game)
        return rows[0] if rows else None

    def transitions(self, game: str) -> list[tuple[Any, ...]]:
        """(from, to, cause, rebased) in their order."""
        return self.rows(
            "select from_phase, to_phase, cause, rebased from orchestration.transitions"
            " where game_id = %s order by id",
            game,
        )

    def events(self, game: str) -> list[str]:
        """Types of the game's events in the order they were written."""
        return [
            kind
            for (kind,) in self.rows(
                "select type from orchestration.outbox where game_id = %s order by id", game
            )
        ]

    def set_aside(self, game: str) -> tuple[Any, ...] | None:
        """(sqlstate, error, attempts) of a game that was set aside."""
        rows = self.rows(
            "select sqlstate, error, attempts from orchestration.set_aside where game_id = %s", game
        )
        return rows[0] if rows else None

    def failures(self) -> list[tuple[Any, ...]]:
        """(trigger, sqlstate, game ids as text) of what triggers could not do."""
        return self.rows(
            "select trigger_name, sqlstate, game_ids::text[] from orchestration.trigger_failures order by id"
        )
