"""The timer shift on virtual time: the same decisions, its statements on the server's side."""

from __future__ import annotations

from functools import partial
from random import Random

from sketchy_orchestration.domain import phases
from sketchy_orchestration.domain import timer as decide
from tests.simulation.database import Database, GameRow, UnavailableError, moment
from tests.simulation.kernel import Host, Kernel, Process, Work

LIMIT = 500
THINKING = 0.05
"""Seconds from reading to writing, of one that does without row locks."""


class Sweeper:
    """One shift; `rank` live ones are before it.

    Without `rechecks` it reads, thinks, and writes what it thought, as a worker without row locks would.
    """

    def __init__(
        self, kernel: Kernel, database: Database, random: Random, rank: int, *, rechecks: bool = True
    ) -> None:
        self.host = Host(f"timer shift {rank}")
        self._kernel, self._database, self._random, self._rank = kernel, database, random, rank
        self._rechecks = rechecks
        self.process: Process = kernel.spawn(self.host, self._work())

    def _work(self) -> Work:
        database, locked_passes = self._database, 0
        while True:
            by = self._kernel.now - decide.lag(self._rank)
            took = 0.0005 + 0.004 * self._random.random() ** 4
            until = self._kernel.now + took
            try:
                games, locked = database.lock_due(by, LIMIT, until if self._rechecks else 0.0)
            except UnavailableError:
                yield 0.05 + 0.2 * self._random.random()
                continue
            if not self._rechecks:
                took += THINKING
            if games and self._rechecks:
                # The statement is the server's: it commits whatever becomes of the shift.
                self._kernel.call(took, partial(database.make_moves, games, database.server))
            elif games:
                now, flags = moment(self._kernel.now), database.flags
                thought = [(game, game.phase, phases.decide(game.judged(), now, flags)) for game in games]
                self._kernel.call(took, partial(self._write, thought, database.server))
            yield took
            locked_passes = locked_passes + 1 if locked else 0
            next_deadline = database.next_deadline(by)
            next_in = None if next_deadline is None else next_deadline - self._kernel.now
            swept = decide.Pass(len(games) >= LIMIT, locked, not database.flags.timer_monitoring, next_in)
            yield decide.sleep_after(swept, rank=self._rank, locked_passes=locked_passes)

    def _write(self, thought: list[tuple[GameRow, phases.Phase, phases.Move | None]], server: int) -> None:
        for game, was, move in thought:
            if move is not None and self._database.server == server:
                game.phase = was
                self._database.move(game, move)
