"""The clock made wrong on purpose, in ways that it could be wrong: the checker must notice each."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.realtime.shift import ShiftKind, new_identity
from sketchy_orchestration.realtime.timer_shift import start_timer_shift
from sketchy_orchestration.settings import Settings
from tests.faults.books import audit
from tests.faults.invariants import Breach, Expected
from tests.faults.load import Load
from tests.faults.timer.table import Table

pytestmark = [pytest.mark.fault]

GAMES = 30


@dataclass(frozen=True, slots=True)
class Defect:
    """Pieces of functions of ours replaced by wrong ones, and the promise that is broken then.

    Attributes:
        dealt: what is done wrong once the games are there.
    """

    breaks: str
    changes: tuple[tuple[str, str, str], ...] = ()
    dealt: str = "select 1"


DEFECTS = {
    "now() instead of the old deadline": Defect(
        "next deadline", (("decide_moves", "then m.deadline else p_at end", "then p_at else p_at end"),)
    ),
    "due 100 ms before the deadline": Defect(
        "never early",
        (
            ("lock_games", "l.deadline <= p_to", "l.deadline <= p_to + interval '100 ms'"),
            ("decide_moves", "when m.deadline <= p_at", "when m.deadline <= p_at + interval '100 ms'"),
        ),
    ),
    "no lock and no second look": Defect(
        "never early",
        (
            ("lock_games", "for no key update of g skip locked", ""),
            ("decide_moves", "when m.deadline <= p_at then", "when true then"),
        ),
    ),
    "some events forgotten": Defect(
        "never lost",
        (
            (
                "record_changes",
                "where (c.change).from_phase <> (c.change).to_phase and",
                "where (e.type <> 'phase_changed' or random() < 0.5) and",
            ),
        ),
    ),
    "told twice": Defect(
        "never lost",
        (
            (
                "record_changes",
                "select 'phase_changed', orchestration.phase_changed_data(c.change)",
                "select 'phase_changed', orchestration.phase_changed_data(c.change) union all "
                "select 'phase_changed', orchestration.phase_changed_data(c.change)",
            ),
        ),
    ),
    "the phase of a live game not kept": Defect(
        "never lost", (("record_changes", "set phase = c.to_phase, deadline", "set deadline"),)
    ),
    "some games that are due forgotten": Defect(
        "how much",
        (("lock_games", "order by l.deadline", "and hashtext(l.game_id::text) % 2 = 0 order by l.deadline"),),
    ),
    "a game handed over and moved all the same": Defect(
        "one hand",
        dealt="update orchestration.enrolments set handler = 'legacy' where hashtext(game_id::text) % 3 = 0",
    ),
}


def change(connection: psycopg.Connection[Any], name: str, old: str, new: str) -> None:
    """Replace a piece of a function of ours by another."""
    rows = connection.execute(
        """select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
           where n.nspname = 'orchestration' and p.proname = %s""",
        [name],
    ).fetchall()
    found = [row[0] for row in rows if old in row[0]]
    assert found, f"{name} has no {old!r} any more: the defect must be rewritten"
    for definition in found:
        connection.execute(definition.replace(old, new).encode())


@contextmanager
def two_shifts(url: str) -> Iterator[None]:
    settings = Settings(_env_file=None, database_url=url)  # type: ignore[call-arg,arg-type]
    running = [start_timer_shift(new_identity(ShiftKind.timer), settings) for _ in range(2)]
    try:
        yield
    finally:
        for shift in running:
            shift.stop()
        assert all(shift.join(10) for shift in running)


def play(
    url: str, connection: psycopg.Connection[Any], defect: Defect, *, seconds: float = 2.5
) -> list[Breach]:
    """Games end a phase, some are extended by the application in the same moment; what is wrong then."""
    # Between finding what is due and moving it on: long enough for somebody else to come between.
    write = "perform orchestration.write_moves("
    change(connection, "make_moves", write, f"perform pg_sleep(0.05); {write}")
    for name, old, new in defect.changes:
        change(connection, name, old, new)
    table = Table(connection)
    with two_shifts(url), psycopg.connect(url, autocommit=True) as application:
        games = table.deal(GAMES, first=0.6, spread=0.6)
        connection.execute(defect.dealt.encode())

        def extend() -> bool:
            application.execute(
                """update public.games set phase_expires_at = phase_expires_at + interval '400 ms'
                   where id = any (%s) and hashtext(id::text) %% 3 = 0 and status in ('briefing', 'voting')
                     and phase_expires_at between clock_timestamp() - interval '50 ms' and clock_timestamp()
                     and phase_expires_at < created_at + interval '2 min 5 s'""",
                [games],
            )
            return table.ended(games) >= GAMES

        processes.wait_until(extend, seconds=seconds, pause=0.005)
    _, breaches = audit(connection, [], Expected(transitions=GAMES, waiting=True, overdue=0.5))
    return breaches


def test_harm_to_the_application_is_noticed(database_url: str, connection: psycopg.Connection[Any]) -> None:
    """One of its statements fails because of a trigger, two lock each other out."""
    connection.execute(
        """create function public.refuse() returns trigger language plpgsql
           as $$ begin raise 'refused'; end $$"""
    )
    connection.execute("create trigger refuse before insert on public.games execute function public.refuse()")
    load = Load(database_url, rate=20).start()
    assert processes.wait_until(lambda: bool(load.errors), seconds=10)
    load.stop()

    lock = "select pg_advisory_xact_lock(%s)"
    with psycopg.connect(database_url) as one, psycopg.connect(database_url) as other:
        one.execute(lock, [1])
        other.execute(lock, [2])
        with ThreadPoolExecutor(1) as beside, suppress(psycopg.errors.DeadlockDetected):
            waits = beside.submit(one.execute, lock, [2])
            try:
                other.execute(lock, [1])
            finally:
                other.rollback()
                waits.result()

    def said() -> str:
        return "\n".join(map(str, audit(connection, [], Expected(waiting=True), load.errors)[1]))

    assert processes.wait_until(lambda: "unharmed: 1 deadlocks" in said(), seconds=5), said()
    assert "unharmed: a statement of the application failed: refused" in said()


def test_nothing_is_wrong_without_a_defect(database_url: str, connection: psycopg.Connection[Any]) -> None:
    assert play(database_url, connection, Defect(""), seconds=10) == []


@pytest.mark.parametrize("name", DEFECTS)
def test_noticed(database_url: str, connection: psycopg.Connection[Any], name: str) -> None:
    breaches = play(database_url, connection, DEFECTS[name])
    assert DEFECTS[name].breaks in {breach.promise for breach in breaches}, breaches
