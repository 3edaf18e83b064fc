"""What our triggers add to the application's statements, and what row triggers in their place would add.

Three databases on one Postgres (fsync on): the application alone, with our statement triggers, and with row
triggers that have WHEN clauses (benchmarks/row_triggers.sql). The same games are played in all three,
statement by statement in turns, so that whatever else the machine does hits all of them alike. The
application's own broadcast triggers are dropped everywhere: ours keep them from working, which would hide a
part of the cost.

Beside what a client waits stands what the server's processor worked, which a busy machine changes less.

Run: python -m benchmarks.triggers [--quick] [--postgres 16] [--keep FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application
from sketchy_orchestration.local.postgres import EmbeddedPostgres, RunningPostgres

ALONE, OURS, ROWS = "alone", "statement", "row"
VARIANTS = (ALONE, OURS, ROWS)
PLAYERS = 4
IN_A_SWEEP = 500
STATEMENT_TIMEOUT = "8s"
"""As a player's statements have it on Supabase; with one, our triggers have a little more to do."""

_random = random.Random(1)
DRAWING = json.dumps({"strokes": [[_random.randrange(800) for _ in range(40)] for _ in range(125)]})
"""About 25 KB, too large to lie in the row itself."""

WITHOUT_BROADCAST = """
    drop trigger game_status_change_trigger on public.games;
    drop trigger participant_change_trigger on public.game_participants;
    drop trigger submission_created_trigger on public.submissions;
    drop trigger vote_cast_trigger on public.votes
"""
USERS = """
    insert into auth.users (id) select gen_random_uuid() from generate_series(1, 200);
    insert into public.users (id, email, username) select id, id || '@bench', 'bench ' || id from auth.users
"""
CREATE = "insert into public.games (id, prompt, created_at) values (%s, 'a cat', now() - interval '1 hour')"
JOIN = "insert into public.game_participants (game_id, user_id) values (%s, %s)"
READY = "update public.game_participants set is_ready = true where game_id = %s and user_id = %s"
SUBMIT = """
    insert into public.submissions (id, game_id, user_id, drawing_data)
    values (%s, %s, %s, %s)
"""
VOTE = "insert into public.votes (game_id, voter_id, submission_id) values (%s, %s, %s)"
STATUS = """
    update public.games
    set status = %s, started_at = coalesce(started_at, now()),
        drawing_started_at = case when %s = 'drawing' then now() else drawing_started_at end,
        voting_started_at = case when %s = 'voting' then now() else voting_started_at end,
        phase_expires_at = now() + interval '1 hour', current_phase_duration = 60
    where id = %s
"""
TOUCH = "update public.games set prompt = %s where id = %s"
DUE = """
    insert into public.games (prompt, status, created_at, started_at, phase_expires_at)
    select 'due', 'briefing', now() - interval '1 hour', now() - interval '1 minute',
           now() - interval '1 millisecond'
    from generate_series(1, %s)
"""

Statement = tuple[str, str, list[object]]


@dataclass
class Side:
    """One of the databases: its session, what each kind of statement took and cost the server, ms."""

    conn: psycopg.Connection[Any]
    users: list[str] = field(default_factory=list)
    took: dict[str, list[float]] = field(default_factory=dict)
    worked: dict[str, list[float]] = field(default_factory=dict)

    def time(self, kind: str, text: str, values: list[object] | None = None) -> None:
        worked, began = self._worked(), time.perf_counter()
        self.conn.execute(text.encode(), values)
        self.took.setdefault(kind, []).append((time.perf_counter() - began) * 1000)
        self.worked.setdefault(kind, []).append(self._worked() - worked)

    def _worked(self) -> float:
        """Processor time of the session's server process so far, ms; 0 where the system does not say."""
        schedule = Path(f"/proc/{self.conn.info.backend_pid}/schedstat")
        return int(schedule.read_text().split()[0]) / 1e6 if schedule.exists() else 0.0

    def forget(self) -> None:
        self.took.clear()
        self.worked.clear()


def game(users: list[str]) -> Iterator[Statement]:
    """One game's statements, in their order."""
    game_id = str(uuid.uuid4())
    drawings = [str(uuid.uuid4()) for _ in users]
    yield "create", CREATE, [game_id]
    for user in users:
        yield "join", JOIN, [game_id, user]
    for user in users:
        yield "ready", READY, [game_id, user]
    for phase in ("briefing", "drawing"):
        yield "status change", STATUS, [phase, phase, phase, game_id]
    yield "other update of games", TOUCH, ["a dog", game_id]
    for user, drawing in zip(users, drawings, strict=True):
        yield "submit", SUBMIT, [drawing, game_id, user, DRAWING]
    yield "status change", STATUS, ["voting", "voting", "voting", game_id]
    for user, drawing in zip(users, drawings[1:] + drawings[:1], strict=True):
        yield "vote", VOTE, [game_id, user, drawing]
    yield "status change", STATUS, ["completed", "completed", "completed", game_id]


def set_up(postgres: RunningPostgres, variant: str, stack: ExitStack) -> Side:
    url = postgres.create_database(f"bench_{variant}")
    application.install(url)
    if variant != ALONE:
        migrate_up(url, told=lambda _: None)
    side = Side(stack.enter_context(psycopg.connect(url, autocommit=True, prepare_threshold=0)))
    for statement in WITHOUT_BROADCAST.split(";") + USERS.split(";"):
        side.conn.execute(statement.encode())
    side.conn.execute(f"set statement_timeout = '{STATEMENT_TIMEOUT}'")
    if variant != ALONE:
        side.conn.execute("select orchestration.set_flag('enrolment', 'bench', 'benchmark', null, 100)")
    if variant == ROWS:
        text = (Path(__file__).parent / "row_triggers.sql").read_text(encoding="utf-8")
        side.conn.execute(text.encode(), prepare=False)
    side.users = [str(row[0]) for row in side.conn.execute("select id from public.users order by id")]
    return side


def play(sides: dict[str, Side], games: int, *, committed: bool) -> None:
    """Each statement in each database, in a new order each time; unless `committed`, then rolled back."""
    label = "" if committed else " (uncommitted)"
    for _ in range(games):
        places = random.sample(range(200), PLAYERS)
        turns = {name: game([side.users[p] for p in places]) for name, side in sides.items()}
        if not committed:
            for side in sides.values():
                side.conn.execute("begin")
        while True:
            order = random.sample(list(sides), len(sides))
            statements = {name: next(turns[name], None) for name in order}
            if None in statements.values():
                break
            for name in order:
                statement = statements[name]
                assert statement is not None
                kind, text, values = statement
                sides[name].time(kind + label, text, values)
        if not committed:
            for side in sides.values():
                side.conn.execute("rollback")


def sweeps(sides: dict[str, Side], rounds: int) -> None:
    """Many games moved by one statement of a sweep; the application alone has no such statement."""
    for _ in range(rounds):
        for name in random.sample([OURS, ROWS], 2):
            side = sides[name]
            side.conn.execute(DUE, [IN_A_SWEEP])
            side.conn.execute("analyze orchestration.live_games, public.games")
            side.time(f"sweep of {IN_A_SWEEP}", "select orchestration.sweep(500)")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def table(sides: dict[str, Side]) -> str:
    """Waits as p50 / p99 / max, and what triggers add to the p99 and to the server's work on average."""
    head = [
        "ms",
        "n",
        *(f"{name}: p50 / p99 / max" for name in VARIANTS),
        "added p99: statement / row",
        "added work: statement / row",
    ]
    rows = [head, ["---"] * len(head)]
    for kind in sides[OURS].took:
        cells, p99, work = [], {}, {}
        for name in VARIANTS:
            values = sides[name].took.get(kind)
            if values is None:
                cells.append("")
                continue
            p99[name] = percentile(values, 0.99)
            work[name] = trimmed_mean(sides[name].worked[kind])
            cells.append(f"{percentile(values, 0.5):.3f} / {p99[name]:.2f} / {max(values):.2f}")
        added = ["", ""]
        if ALONE in p99:
            added = [
                f"{p99[OURS] - p99[ALONE]:.2f} / {p99[ROWS] - p99[ALONE]:.2f}",
                f"{work[OURS] - work[ALONE]:.3f} / {work[ROWS] - work[ALONE]:.3f}",
            ]
        rows.append([kind, str(len(sides[OURS].took[kind])), *cells, *added])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def trimmed_mean(values: list[float]) -> float:
    """Without the highest tenth: the processor's time includes what interrupts it."""
    kept = sorted(values)[: max(1, len(values) * 9 // 10)]
    return sum(kept) / len(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the games")
    parser.add_argument("--postgres", type=int, default=18)
    parser.add_argument("--keep", type=Path, help="write every measured value to this file")
    arguments = parser.parse_args()
    games = 60 if arguments.quick else 600
    with tempfile.TemporaryDirectory(prefix="sketchy-bench-") as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)
        postgres = stack.enter_context(EmbeddedPostgres(Path(folder) / "home", arguments.postgres))
        sides = {name: set_up(postgres, name, stack) for name in VARIANTS}
        play(sides, 20, committed=True)
        for side in sides.values():
            side.forget()
        play(sides, games, committed=True)
        play(sides, games, committed=False)
        sweeps(sides, 6 if arguments.quick else 20)
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, PostgreSQL {arguments.postgres},"
            f" {games} games of {PLAYERS}\n"
        )
        print(table(sides))
        if arguments.keep:
            raw = {name: {"took": side.took, "worked": side.worked} for name, side in sides.items()}
            arguments.keep.write_text(json.dumps(raw), encoding="utf-8")


if __name__ == "__main__":
    main()
