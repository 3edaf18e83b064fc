"""The application's statements in a few threads, each timed, while something happens to its tables."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from sketchy_orchestration.local.processes import wait_until


@dataclass
class Play:
    """What the players' statements cost and whether one failed."""

    failures: list[str] = field(default_factory=list)
    waits: list[tuple[float, str]] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def statements(self) -> int:
        return len(self.waits)

    @property
    def worst(self) -> tuple[float, str]:
        """The longest statement, in seconds, and its text."""
        return max(self.waits, default=(0.0, "none"))

    @property
    def worst_noise(self) -> float:
        """The longest statement that touches no table at all, in seconds: what the machine adds by itself."""
        return max(self.noise, default=0.0)

    def more(self, count: int, seconds: float = 20.0) -> None:
        """Returns when `count` further statements have been made."""
        until = self.statements + count
        assert wait_until(lambda: self.statements >= until or bool(self.failures), seconds=seconds)

    def timed(self, conn: psycopg.Connection[Any], text: str, *values: Any) -> Any:
        began = time.perf_counter()
        try:
            row = conn.execute(text, values)  # type: ignore[arg-type]  # only texts of this file
            return row.fetchone() if row.description else None
        except psycopg.Error as error:
            self.failures.append(f"{type(error).__name__}: {error} in {text}")
            raise
        finally:
            self.waits.append((time.perf_counter() - began, text))


@contextmanager
def games_at_play(url: str, threads: int = 3) -> Iterator[Play]:
    """Games are created, played and deleted, a cron sweeps, and somebody takes time over a transaction."""
    play = Play()
    work = [_players] * threads + [_cron, _lingering, _control]
    running = [threading.Thread(target=_until_over, args=(url, play, one), daemon=True) for one in work]
    for thread in running:
        thread.start()
    try:
        play.more(200)
        yield play
    finally:
        play.over.set()
        for thread in running:
            thread.join(20)
    assert not any(thread.is_alive() for thread in running)


def _until_over(url: str, play: Play, work: Any) -> None:
    try:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("set role service_role")
            while not play.over.is_set():
                work(conn, play)
    except Exception as error:  # a thread has nobody to raise to
        play.failures.append(repr(error))


def _players(conn: psycopg.Connection[Any], play: Play) -> None:
    users = [_user(conn, play) for _ in range(3)]
    game = uuid.uuid4()
    play.timed(
        conn,
        "insert into public.games (id, prompt, max_players, created_by, created_at)"
        " values (%s, 'a house', 4, %s, now() - interval '5 minutes')",
        game,
        users[0],
    )
    for user in users:
        play.timed(
            conn, "insert into public.game_participants (game_id, user_id) values (%s, %s)", game, user
        )
    play.timed(conn, "update public.game_participants set is_ready = true where game_id = %s", game)
    play.timed(conn, "select public.transition_game_status(%s, 'briefing')", game)
    play.timed(
        conn, "update public.games set status = 'drawing', drawing_started_at = now() where id = %s", game
    )
    drawings = [
        play.timed(
            conn,
            "insert into public.submissions (game_id, user_id, drawing_data)"
            " values (%s, %s, '{}') returning id",
            game,
            user,
        )[0]
        for user in users
    ]
    # A vote and a move in one transaction holds its locks a little longer.
    with conn.transaction():
        play.timed(
            conn, "update public.games set status = 'voting', voting_started_at = now() where id = %s", game
        )
        for voter, drawing in zip(users, drawings[1:] + drawings[:1], strict=True):
            play.timed(
                conn,
                "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)",
                game,
                voter,
                drawing,
            )
    play.timed(
        conn,
        "update public.game_participants set left_at = clock_timestamp() where game_id = %s and user_id = %s",
        game,
        users[2],
    )
    play.timed(conn, "select * from public.get_game_timer_state(%s)", game)
    play.timed(conn, "select public.calculate_game_results(%s)", game)
    play.timed(
        conn,
        "update public.games set status = 'completed', completed_at = clock_timestamp() where id = %s",
        game,
    )
    if random.random() < 0.3:
        play.timed(conn, "delete from public.games where id = %s", game)


def _user(conn: psycopg.Connection[Any], play: Play) -> uuid.UUID:
    user = uuid.uuid4()
    play.timed(conn, "insert into auth.users (id) values (%s)", user)
    play.timed(
        conn,
        "insert into public.users (id, email, username) values (%s, %s, %s)",
        user,
        f"{user}@x",
        str(user),
    )
    return user


def _cron(conn: psycopg.Connection[Any], play: Play) -> None:
    play.timed(conn, "select public.monitor_game_timers_db()")
    play.timed(conn, "select public.cleanup_expired_games()")
    play.over.wait(0.02)


def _lingering(conn: psycopg.Connection[Any], play: Play) -> None:
    with conn.transaction():
        play.timed(conn, "select count(*) from public.games g join public.votes v on v.game_id = g.id")
        play.timed(conn, "insert into public.games (prompt) values ('a long thought')")
        play.over.wait(0.12)
    play.over.wait(0.08)


def _control(conn: psycopg.Connection[Any], play: Play) -> None:
    began = time.perf_counter()
    conn.execute("select count(*) from generate_series(1, 1000)")
    play.noise.append(time.perf_counter() - began)
    play.over.wait(0.005)
