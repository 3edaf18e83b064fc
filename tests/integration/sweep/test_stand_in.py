"""What every database does alike for a timer shift: Postgres, and the one in memory, for simulated nights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass
from datetime import datetime
from random import Random
from typing import Any, Protocol
from uuid import uuid4

import psycopg
import pytest

from sketchy_orchestration.domain.phases import FINISHED, Flags, Game, Phase
from tests.faults.invariants import Transition
from tests.integration.sweep.scene import Connection, Scene
from tests.integration.sweep.test_conformance import TABLE, Case, apply, set_up, sweep
from tests.simulation.database import BEGAN, Database, GameRow
from tests.simulation.kernel import Kernel

FOR_EVER = float("inf")

_TRANSITIONS = """
    select game_id::text, from_phase, to_phase, extract(epoch from deadline - %(began)s)::float8,
           extract(epoch from at - %(began)s)::float8, extract(epoch from next_deadline - %(began)s)::float8,
           rebased, cause, handler, null, null
    from orchestration.transitions where game_id = %(game)s and id > %(after)s order by id
"""


@dataclass(frozen=True)
class Swept:
    """How many games one sweep moved on, and how many it found locked."""

    moved: int
    locked: int


class Rig(Protocol):
    """A database, and what happens to it."""

    def game(self, phase: str, due_in: float, *, players: int = 2, drawings: int = 0) -> str: ...

    def sweep(self, limit: int = 500) -> Swept: ...

    def open_sweep(self) -> Callable[[], None]:
        """A sweep that commits when this is called; never, once the server has died meanwhile."""

    def hold(self, game: str) -> Callable[[], None]:
        """A transaction of the application locks the game's row until this is called."""

    def apply(self, game: str, phase: str, due_in: float) -> None:
        """The application moves it on."""

    def pause(self, game: str, on: bool) -> None: ...

    def flag(self, on: bool) -> None: ...

    def stop(self) -> None: ...

    def lift(self) -> None: ...

    def crash(self) -> None: ...

    def transitions(self, game: str) -> list[Transition]:
        """Since the game was set up."""

    def events(self, game: str) -> list[str]:
        """Types, since the game was set up."""


class MemoryRig:
    """The simulation's."""

    def __init__(self) -> None:
        self.database = Database(Kernel(1000.0), Random(1))

    def game(self, phase: str, due_in: float, *, players: int = 2, drawings: int = 0) -> str:
        names = [str(number) for number in range(players)]
        row = GameRow(str(uuid4()), 0, Phase(phase), self.database.kernel.now + due_in, set(names))
        row.drawn = set(names[:drawings])
        self.database.games[row.game_id] = self.database.live[row.game_id] = row
        return row.game_id

    def sweep(self, limit: int = 500) -> Swept:
        database, before = self.database, len(self.database.transitions)
        taken, locked = database.lock_due(database.kernel.now, limit, FOR_EVER)
        database.make_moves(taken, database.server)
        return Swept(len(database.transitions) - before, locked)

    def open_sweep(self) -> Callable[[], None]:
        database, server = self.database, self.database.server
        taken, _ = database.lock_due(database.kernel.now, 500, FOR_EVER)
        return lambda: database.make_moves(taken, server)

    def hold(self, game: str) -> Callable[[], None]:
        row = self.database.games[game]
        row.locked_until = FOR_EVER
        return lambda: setattr(row, "locked_until", 0.0)

    def apply(self, game: str, phase: str, due_in: float) -> None:
        self.database.by_application(self.database.games[game], Phase(phase), due_in)

    def pause(self, game: str, on: bool) -> None:
        self.database.games[game].paused = on

    def flag(self, on: bool) -> None:
        self.database.flags = Flags(timer_monitoring=on)

    def stop(self) -> None:
        self.database.stop()

    def lift(self) -> None:
        self.database.lift()

    def crash(self) -> None:
        self.database.crash(0.0)
        self.database.kernel.run(self.database.kernel.now)

    def transitions(self, game: str) -> list[Transition]:
        return [one for one in self.database.transitions if one.game_id == game]

    def events(self, game: str) -> list[str]:
        return [row.type for row in self.database.outbox.values() if row.game.game_id == game]


class PostgresRig:
    """The real one, swept as a timer shift sweeps it."""

    def __init__(self, scene: Scene, stack: ExitStack) -> None:
        self._scene, self._stack = scene, stack
        self._begun: dict[str, tuple[int, int]] = {}

    def begins(self, game: str) -> None:
        """What the game's books say so far does not count."""
        last = self._scene.one("select coalesce(max(id), 0) from orchestration.transitions")
        self._begun[game] = last, len(self._scene.events(game))

    def game(self, phase: str, due_in: float, *, players: int = 2, drawings: int = 0) -> str:
        game = self._scene.game(phase, due_in=due_in, players=players, drawings=drawings)
        self.begins(game.id)
        return game.id

    def sweep(self, limit: int = 500) -> Swept:
        swept = self._scene.sweep(limit=limit, look=True)
        return Swept(swept.moved, swept.locked)

    def open_sweep(self) -> Callable[[], None]:
        session = self._session("sketchy_timer")
        self._scene.sweep(session, look=True)

        def commit() -> None:
            with suppress(psycopg.OperationalError):
                session.commit()

        return commit

    def hold(self, game: str) -> Callable[[], None]:
        session = self._session("service_role")
        session.execute("select from public.games where id = %s for update", (game,))
        return session.rollback

    def _session(self, role: str) -> Connection:
        session: Connection = psycopg.connect(self._scene.url, autocommit=True)
        self._stack.callback(session.close)
        session.execute(f"set role {role}")
        session.autocommit = False
        return session

    def apply(self, game: str, phase: str, due_in: float) -> None:
        self._scene.put(game, phase, due_in)

    def pause(self, game: str, on: bool) -> None:
        self._scene.do(
            "update orchestration.live_games set paused = %s,"
            " paused_at = case when %s then clock_timestamp() end where game_id = %s",
            on,
            on,
            game,
        )

    def flag(self, on: bool) -> None:
        self._scene.flag("timer_monitoring", enabled=on)

    def stop(self) -> None:
        self._scene.do("select orchestration.emergency_stop('test', 'a test')")

    def lift(self) -> None:
        self._scene.do("select orchestration.lift_stop('test', 'a test')")

    def crash(self) -> None:
        # Waits until each of them is gone.
        self._scene.do(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = current_database()"
            " and backend_type = 'client backend' and pid <> pg_backend_pid()"
        )

    def transitions(self, game: str) -> list[Transition]:
        values = {"game": game, "after": self._begun[game][0], "began": BEGAN}
        return [Transition(*row) for row in self._scene.conn.execute(_TRANSITIONS, values)]

    def events(self, game: str) -> list[str]:
        return self._scene.events(game)[self._begun[game][1] :]


@pytest.fixture(params=["memory", "Postgres"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "memory":
        yield MemoryRig()
        return
    with ExitStack() as stack:
        yield PostgresRig(request.getfixturevalue("scene"), stack)


def steps(rig: Rig, game: str) -> list[tuple[str, str, str, bool]]:
    return [(one.from_phase, one.to_phase, one.cause, one.rebased) for one in rig.transitions(game)]


def test_a_deadline_is_met_once_and_never_early(rig: Rig) -> None:
    due, later = rig.game("briefing", -0.05), rig.game("briefing", 50.0)
    commit = rig.open_sweep()
    assert rig.sweep() == Swept(0, 1)
    commit()
    assert rig.sweep() == Swept(0, 0)
    assert steps(rig, due) == [("briefing", "drawing", "timer", False)]
    assert (rig.transitions(later), rig.events(later)) == ([], [])
    (move,) = rig.transitions(due)
    assert move.deadline is not None
    assert move.next_deadline == pytest.approx(move.deadline + 60, abs=1e-5)


def test_one_phase_a_sweep_from_now_when_late(rig: Rig) -> None:
    game = rig.game("briefing", -90.0)
    assert rig.sweep() == Swept(1, 0)
    assert rig.sweep() == Swept(0, 0)
    assert steps(rig, game) == [("briefing", "drawing", "timer", True)]
    (move,) = rig.transitions(game)
    assert move.next_deadline == pytest.approx(move.at + 60, abs=1.0)


def test_what_is_locked_waits_and_takes_up_no_place(rig: Rig) -> None:
    first, second, third = (rig.game("voting", -seconds) for seconds in (0.9, 0.6, 0.3))
    release = rig.hold(first)
    assert rig.sweep(limit=1).moved == 1
    assert [len(rig.transitions(game)) for game in (first, second, third)] == [0, 1, 0]
    assert rig.sweep() == Swept(1, 1)
    release()
    assert rig.sweep() == Swept(1, 0)
    assert steps(rig, first)[0][:3] == ("voting", "completed", "timer")


def test_what_is_paused_or_switched_off_stays(rig: Rig) -> None:
    game, other = rig.game("voting", -0.5), rig.game("drawing", 50.0, drawings=2)
    for one in (game, other):
        rig.pause(one, True)
    assert rig.sweep() == Swept(0, 0)
    for one in (game, other):
        rig.pause(one, False)
    rig.flag(False)
    assert rig.sweep() == Swept(0, 0)
    rig.flag(True)
    rig.stop()
    assert rig.sweep() == Swept(0, 0)
    assert rig.events(game) + rig.events(other) == []
    rig.lift()
    assert rig.sweep() == Swept(2, 0)
    assert steps(rig, other) == [("drawing", "voting", "all_submitted", False)]


def test_a_crash_undoes_a_sweep_and_frees_its_rows(rig: Rig) -> None:
    game = rig.game("voting", -0.05)
    commit = rig.open_sweep()
    rig.hold(rig.game("briefing", -0.05))
    rig.crash()
    commit()
    assert (rig.transitions(game), rig.events(game)) == ([], [])
    assert rig.sweep() == Swept(2, 0)
    assert rig.events(game) == ["timer_expired", "phase_changed", "game_completed"]


def test_the_application_may_be_first(rig: Rig) -> None:
    game, lobby = rig.game("drawing", -0.05, drawings=1), rig.game("waiting", 1800.0)
    rig.apply(game, "voting", 30.0)
    rig.apply(lobby, "briefing", 20.0)
    assert rig.sweep() == Swept(0, 0)
    assert steps(rig, game) == [("drawing", "voting", "application", False)]
    assert rig.events(game) == ["phase_changed"]
    assert rig.events(lobby) == ["game_started", "phase_changed"]


def seconds(at: datetime) -> float:
    return (at - BEGAN).total_seconds()


def row(game_id: str, case: Case, game: Game) -> GameRow:
    """The case as the stand-in has it."""
    present = {str(number) for number, (left, _) in enumerate(case.players) if not left}
    drawn = {str(number) for number, (_, drew) in enumerate(case.players) if drew}
    return GameRow(
        game_id,
        0,
        game.phase,
        None if game.deadline is None else seconds(game.deadline),
        present,
        drawn,
        game.had_grace,
        game.paused,
        game.round_duration,
        game.voting_duration,
    )


def rounded(move: Transition) -> tuple[Any, ...]:
    """But for when it was written down and what was looked up beside it."""
    wanted = astuple(move)
    return tuple(
        round(one, 4) if isinstance(one, float) else one
        for place, one in enumerate(wanted)
        if place not in (4, 9, 10)
    )


def test_both_make_the_same_of_each_case_of_the_table(scene: Scene) -> None:
    by_flags: dict[Flags, list[Case]] = {}
    for case in TABLE.values():
        by_flags.setdefault(case.flags, []).append(case)
    for flags, cases in by_flags.items():
        apply(scene, Flags())
        scene.do("delete from public.games")
        games = [(case, *set_up(scene, case)) for case in cases]
        real, simulated = PostgresRig(scene, ExitStack()), MemoryRig()
        for _, game_id, _ in games:
            real.begins(game_id)
        apply(scene, flags)
        simulated.database.kernel.now = seconds(sweep(scene))
        simulated.database.flags = flags
        for case, game_id, game in games:
            made = row(game_id, case, game)
            simulated.database.games[game_id] = made
            if game.phase not in FINISHED:
                simulated.database.live[game_id] = made
        simulated.sweep()
        for case, game_id, _ in games:
            assert simulated.events(game_id) == real.events(game_id), (case, flags)
            assert [rounded(one) for one in simulated.transitions(game_id)] == [
                rounded(one) for one in real.transitions(game_id)
            ], (case, flags)
            live = scene.live(game_id)
            there = simulated.database.live.get(game_id)
            assert (there is None) == (live is None), (case, flags)
            if there is not None and live is not None:
                assert there.phase == live[0]
                wanted = None if live[1] is None else pytest.approx(seconds(live[1]), abs=1e-4)
                assert there.deadline == wanted
