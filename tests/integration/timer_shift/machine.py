"""Games as application, players, operators and two sweepers leave them, beside what the rules say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sketchy_orchestration.domain.phases import FINISHED, Cause, Flags, Game, Move, Phase, decide
from tests.integration.sweep.scene import Connection, Scene


@dataclass
class Played:
    """What is known of one game from outside."""

    phase: Phase
    deadline: datetime | None
    players: dict[str, tuple[bool, bool]]  # has left, has drawn
    had_grace: bool = False
    paused: bool = False
    left: set[Phase] = field(default_factory=set)

    def game(self) -> Game:
        active = [drew for left, drew in self.players.values() if not left]
        return Game(
            self.phase,
            self.deadline,
            players=len(active),
            missing=active.count(False),
            had_grace=self.had_grace,
            paused=self.paused,
        )

    def all_in(self) -> bool:
        game = self.game()
        return game.phase is Phase.drawing and game.players > 0 and game.missing == 0

    def enter(self, phase: Phase, deadline: datetime | None) -> None:
        """Leave the phase for another one, or only for another deadline."""
        if phase is not self.phase:
            # Never two transitions out of one phase, whoever makes them.
            assert self.phase not in self.left
            self.left.add(self.phase)
            self.had_grace = False
        self.phase, self.deadline = phase, None if phase in FINISHED else deadline


@dataclass(frozen=True)
class Sweep:
    """What a sweep was asked, and the moment it decided by."""

    moment: datetime
    lag: timedelta
    window: timedelta | None
    candidates: frozenset[str]

    def sees(self, game_id: str, played: Played) -> bool:
        """Whether this sweep looks at the game at all."""
        cut = self.moment - self.lag
        due = played.deadline is not None and played.deadline <= cut
        if due and self.window is not None and played.deadline is not None:
            due = played.deadline > cut - self.window
        return due or game_id in self.candidates


class Oracle:
    """The games of one run. Every change is told to it, every sweep is checked by it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.games: dict[str, Played] = {}
        self.flags = Flags()
        scene.do("delete from public.games")
        scene.do("delete from orchestration.transitions")
        scene.do("delete from orchestration.trigger_failures")
        for name, enabled in (("timer_monitoring", True), ("grace_period", True)):
            scene.flag(name, enabled=enabled)
        self._read = 0

    def unfinished(self, *phases: Phase) -> list[str]:
        return [
            game_id
            for game_id, played in self.games.items()
            if played.phase not in FINISHED and (not phases or played.phase in phases)
        ]

    def told(self, game_id: str, phase: Phase) -> None:
        """Somebody else put the game into this phase, with the deadline its row says."""
        column = "expires_at" if phase is Phase.waiting else "phase_expires_at"
        self.games[game_id].enter(
            phase, self.scene.one(f"select {column} from public.games where id = %s", game_id)
        )

    def sweep(
        self,
        conn: Connection,
        *,
        lag: float,
        window: float | None,
        candidates: Sequence[str] = (),
        look: bool = False,
        limit: int = 500,
    ) -> Sweep:
        """A sweep within the transaction of `conn`, which is left open."""
        swept = self.scene.sweep(
            conn, lag=lag, window=window, candidates=list(candidates), look=look, limit=limit
        )
        assert swept.set_aside == 0, self.scene.rows("select * from orchestration.set_aside")
        assert swept.switched_off is not self.flags.timer_monitoring
        row = conn.execute(
            "select coalesce(nullif(current_setting('orchestration.swept_at', true), '')::timestamptz, now())"
        ).fetchone()
        assert row is not None
        found = {game_id for game_id, played in self.games.items() if played.all_in()} if look else set()
        return Sweep(
            row[0],
            timedelta(seconds=lag),
            None if window is None else timedelta(seconds=window),
            frozenset(found | set(candidates)),
        )

    def check(self, *sweeps: Sweep, complete: bool = True) -> None:
        """Compare what the sweeps, now committed, did with what they should have done."""
        moved = {
            game_id: (Phase(to), Cause(cause), next_deadline, rebased, at)
            for game_id, to, cause, next_deadline, rebased, at in self._new_transitions()
        }
        for game_id, played in self.games.items():
            wanted = [
                move
                for sweep in sweeps
                if sweep.sees(game_id, played)
                and (move := decide(played.game(), sweep.moment, self.flags)) is not None
            ]
            made = moved.get(game_id)
            if made is not None:
                move = self._made(wanted, made)
                if move.cause is not Cause.all_submitted:
                    assert played.deadline is not None
                    assert made[4] >= played.deadline, "early"
                played.enter(move.to_phase, move.next_deadline)
            elif wanted and wanted[0].to_phase is played.phase:
                live = self.scene.live(game_id)
                extended = live is not None and live[1] in {move.next_deadline for move in wanted}
                assert extended or not complete
                if extended and live is not None:
                    played.had_grace, played.deadline = True, live[1]
            else:
                assert not wanted or not complete, (game_id, played, wanted)

    @staticmethod
    def _made(wanted: list[Move], made: tuple[Any, ...]) -> Move:
        for move in wanted:
            if (move.to_phase, move.cause, move.next_deadline, move.rebased) == made[:4]:
                return move
        raise AssertionError(f"a sweep did {made}, the rules say {wanted}")

    def _new_transitions(self) -> list[tuple[Any, ...]]:
        rows = self.scene.rows(
            "select id, game_id::text, to_phase, cause, next_deadline, rebased, at"
            " from orchestration.transitions"
            " where id > %s and cause in ('timer', 'all_submitted', 'lobby_expired') order by id",
            self._read,
        )
        self._read = max([self._read, *(row[0] for row in rows)])
        assert len({row[1] for row in rows}) == len(rows), "two phases in one sweep"
        return [row[1:] for row in rows]

    def check_rows(self) -> None:
        """live_games is what games is, and both are what the oracle says; nothing failed on the way."""
        rows = {
            row[0]: row[1:]
            for row in self.scene.rows(
                """select g.id::text, g.status::text, l.phase, l.deadline, l.paused,
                          case when g.status = 'waiting' then g.expires_at else g.phase_expires_at end
                   from public.games g left join orchestration.live_games l on l.game_id = g.id"""
            )
        }
        for game_id, played in self.games.items():
            phase = str(played.phase)
            status, live_phase, live_deadline, paused, deadline = rows[game_id]
            assert status == phase
            if played.phase in FINISHED:
                assert live_phase is None
            else:
                assert (live_phase, live_deadline, paused) == (phase, played.deadline, played.paused)
                assert deadline == played.deadline
        assert self.scene.one("select count(*) from orchestration.live_games") == len(self.unfinished())
        twice = "select game_id, from_phase from orchestration.transitions group by 1, 2 having count(*) > 1"
        assert self.scene.rows(twice) == []
        early = "select from orchestration.transitions where at < deadline and cause = any (%s)"
        assert self.scene.rows(early, ["timer", "lobby_expired"]) == []
        assert self.scene.failures() == []
        assert self.scene.one("select count(*) from orchestration.set_aside") == 0
