"""The timer shift on virtual time: the same decisions, its statements on the server's side."""

from __future__ import annotations

from functools import partial
from random import Random

from sketchy_orchestration.domain import phases
from sketchy_orchestration.domain import timer as decide
from tests.simulation.database import Database, GameRow, UnavailableError, moment
from tests.simulation.kernel import Host, Kernel, Process, Work

LIMIT = 500


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
        locked_passes = 0
        while True:
            try:
                found = self._database.due(self._kernel.now - decide.lag(self._rank), LIMIT)
            except UnavailableError:
                yield 0.05 + 0.2 * self._random.random()
                continue
            free = [game for game in found if game.locked_until <= self._kernel.now]
            took = 0.0005 + 0.00002 * len(free) + 0.004 * self._random.random() ** 4
            if not self._rechecks:
                took += 0.05
            else:
                for game in free:
                    game.locked_until = self._kernel.now + took
            now, flags = moment(self._kernel.now), self._database.flags
            decided = {game.game_id: (game.phase, phases.decide(game.judged(), now, flags)) for game in free}
            server = self._database.server
            # The statement is the server's: it commits whatever becomes of the shift.
            self._kernel.call(took, partial(self._commit, free, decided, server))
            yield took
            locked = len(found) - len(free)
            locked_passes = locked_passes + 1 if locked else 0
            yield decide.sleep_after(
                decide.Pass(
                    len(found) == LIMIT, locked, not self._database.flags.timer_monitoring, self._next()
                ),
                rank=self._rank,
                locked_passes=locked_passes,
            )

    def _commit(
        self, games: list[GameRow], decided: dict[str, tuple[phases.Phase, phases.Move | None]], server: int
    ) -> None:
        if self._database.server != server:
            return
        now, flags = moment(self._kernel.now), self._database.flags
        for game in games:
            was, move = decided[game.game_id]
            if self._rechecks:
                game.locked_until = 0.0
                move = phases.decide(game.judged(), now, flags)
            elif move is not None:
                game.phase = was
            if move is not None:
                self._database.move(game, move)

    def _next(self) -> float | None:
        deadlines = [game.deadline for game in self._database.live.values() if game.deadline is not None]
        return min(deadlines) - self._kernel.now if deadlines else None
