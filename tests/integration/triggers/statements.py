"""One of every statement that the application makes on tables with triggers of ours, each timed."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from psycopg import Error

from tests.integration.sweep.scene import Connection


@dataclass
class Battery:
    """A game played from its creation to its deletion; statements and their seconds, by name."""

    conn: Connection
    users: list[str]
    game: str = field(default_factory=lambda: str(uuid.uuid4()))
    took: dict[str, float] = field(default_factory=dict)

    def do(self, name: str, text: str, *values: object) -> Any:
        began = time.perf_counter()
        try:
            cursor = self.conn.execute(text, values)
        except Error as error:
            raise AssertionError(f"{name}: {type(error).__name__} {error}") from error
        finally:
            self.took[name] = time.perf_counter() - began
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def begin(self) -> None:
        self.do(
            "create",
            "insert into public.games (id, prompt, created_by, created_at)"
            " values (%s, 'a cat', %s, now() - interval '1 hour')",
            self.game,
            self.users[0],
        )
        for place, user in enumerate(self.users):
            self.do(
                f"join {place}",
                "insert into public.game_participants (game_id, user_id) values (%s, %s)",
                self.game,
                user,
            )

    def play(self) -> None:
        first, second, third = self.users
        of_one = "where game_id = %s and user_id = %s"
        self.do("ready", f"update public.game_participants set is_ready = true {of_one}", self.game, first)
        self.do("leave", f"update public.game_participants set left_at = now() {of_one}", self.game, third)
        self.do("rejoin", f"update public.game_participants set left_at = null {of_one}", self.game, third)
        self.do("start", "select public.transition_game_status(%s, 'briefing')", self.game)
        self.do(
            "to drawing",
            "update public.games set status = 'drawing', drawing_started_at = now() where id = %s",
            self.game,
        )
        drawings = {
            user: self.do(
                f"draw {place}",
                "insert into public.submissions (game_id, user_id, drawing_data) values (%s, %s, '{}')"
                " returning id",
                self.game,
                user,
            )
            for place, user in enumerate((first, second))
        }
        self.do(
            "draw again", f"update public.submissions set drawing_data = '{{}}' {of_one}", self.game, first
        )
        self.do("prompt", "update public.games set prompt = 'a dog' where id = %s", self.game)
        self.do(
            "to voting",
            "update public.games set status = 'voting', voting_started_at = now() where id = %s",
            self.game,
        )
        for place, (voter, drawing) in enumerate(((first, second), (second, first))):
            self.do(
                f"vote {place}",
                "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)",
                self.game,
                voter,
                drawings[drawing],
            )
        self.do("remove", f"delete from public.game_participants {of_one}", self.game, third)
        self.do("results", "select public.calculate_game_results(%s)", self.game)

    def end(self) -> None:
        self.do(
            "to completed",
            "update public.games set status = 'completed', completed_at = clock_timestamp() where id = %s",
            self.game,
        )

    def whole(self) -> None:
        """Everything, and the functions a client or a cron calls."""
        self.begin()
        self.play()
        self.end()
        self.do("timer state", "select * from public.get_game_timer_state(%s)", self.game)
        self.do("list", "select count(*) from public.find_expired_games(50)")
        self.do("cron", "select public.monitor_game_timers_db()")
        self.do("cleanup", "select public.cleanup_expired_games()")
        self.do("delete", "delete from public.games where id = %s", self.game)

    @property
    def worst(self) -> tuple[float, str]:
        return max((seconds, name) for name, seconds in self.took.items())
