"""What players do at the same time, in transactions of any isolation level; who failed, and with what."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from sketchy_orchestration.database import timer
from tests.integration.sweep.scene import Connection, Played

Deed = Callable[[Connection, random.Random], None]


@dataclass
class Outcome:
    """Transactions committed, failures by SQLSTATE, and the longest statement in seconds."""

    committed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    worst: float = 0.0
    said: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.committed += other.committed
        self.failures.update(other.failures)
        self.worst = max(self.worst, other.worst)
        self.said += other.said


def run(
    url: str,
    deeds: list[Deed],
    *,
    isolation: str = "read committed",
    times: int = 60,
    beside: Callable[[threading.Event], None] | None = None,
) -> Outcome:
    """Each deed in a thread and session of its own, `times` transactions each; `beside` runs meanwhile."""
    outcomes = [Outcome() for _ in deeds]
    over = threading.Event()
    start = threading.Barrier(len(deeds))

    def act(number: int) -> None:
        chance, outcome = random.Random(number), outcomes[number]
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("set role service_role")
            conn.execute("set lock_timeout = '20s'")
            start.wait(20)
            for _ in range(times):
                conn.execute(f"begin isolation level {isolation}")
                began = time.perf_counter()
                try:
                    deeds[number](conn, chance)
                    conn.execute("commit")
                    outcome.committed += 1
                except psycopg.Error as error:
                    outcome.failures[error.sqlstate or type(error).__name__] += 1
                    outcome.said.append(str(error))
                    conn.execute("rollback")
                outcome.worst = max(outcome.worst, time.perf_counter() - began)

    threads = [threading.Thread(target=act, args=(number,), daemon=True) for number in range(len(deeds))]
    companion = threading.Thread(target=beside, args=(over,), daemon=True) if beside else None
    if companion:
        companion.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    over.set()
    if companion:
        companion.join(20)
    assert not any(thread.is_alive() for thread in threads)
    total = Outcome()
    for outcome in outcomes:
        total.add(outcome)
    return total


def sweeping(url: str, tally: list[timer.Swept]) -> Callable[[threading.Event], None]:
    """Sweeps one after the other, as role sketchy_timer, until it is over."""

    def work(over: threading.Event) -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("set role sketchy_timer")
            while not over.wait(0.001):
                tally.append(timer.sweep(conn, limit=500, look=True))

    return work


def legacy_sweeping(url: str) -> Callable[[threading.Event], None]:
    """The application's own sweep, one after the other."""

    def work(over: threading.Event) -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            while not over.wait(0.001):
                conn.execute("select public.monitor_game_timers_db()")

    return work


def votes_in(games: list[Played], voter: int, *, reverse: bool) -> Deed:
    """Vote in all games in one transaction, in this or the opposite order; the last vote is taken back."""

    def deed(conn: Connection, chance: random.Random) -> None:
        for game in reversed(games) if reverse else games:
            user = game.users[voter]
            choice = game.drawings[game.users[(voter + 1) % len(game.users)]]
            conn.execute("delete from public.votes where game_id = %s and voter_id = %s", [game.id, user])
            conn.execute(
                "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)",
                [game.id, user, choice],
            )

    return deed


def anything_in(games: list[Played], player: int) -> Deed:
    """What this player may do in one or two of the games, which every player takes in the same order."""

    def one(conn: Connection, chance: random.Random, game: Played) -> None:
        user = game.users[player]
        of_one = "where game_id = %s and user_id = %s"
        values: list[Any] = [game.id, user]
        match chance.randrange(7):
            case 0:
                conn.execute(f"update public.game_participants set is_ready = not is_ready {of_one}", values)
            case 1:
                conn.execute(f"update public.game_participants set left_at = now() {of_one}", values)
            case 2:
                conn.execute(f"update public.game_participants set left_at = null {of_one}", values)
            case 3:
                conn.execute(f"update public.submissions set drawing_data = '{{}}' {of_one}", values)
            case 4:
                conn.execute(
                    "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)"
                    " on conflict (game_id, voter_id) do nothing",
                    [*values, game.drawings[game.users[(player + 1) % len(game.users)]]],
                )
            case 5:
                conn.execute(
                    "update public.games set phase_expires_at = clock_timestamp() + interval '20 ms'"
                    " where id = %s and status in ('briefing', 'drawing', 'voting')",
                    [game.id],
                )
            case _:
                conn.execute("select * from public.get_game_timer_state(%s)", [game.id])

    def deed(conn: Connection, chance: random.Random) -> None:
        for place in sorted(chance.sample(range(len(games)), chance.randint(1, 2))):
            one(conn, chance, games[place])

    return deed
