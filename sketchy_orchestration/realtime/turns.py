"""Whose turn it is: games with an urgent event first, but never only those."""

from __future__ import annotations

from collections import deque

from sketchy_orchestration.realtime.games import URGENT, Game

# Of so many games served, one may be a game whose next event is not urgent.
_NOT_URGENT_TURN = 4


class Turns:
    """The games that are ready, each in the queue of its next event."""

    def __init__(self) -> None:
        self._urgent: deque[Game] = deque()
        self._others: deque[Game] = deque()
        self._turn = 0

    def add(self, game: Game) -> None:
        """The game waits for its turn."""
        game.queued = True
        (self._urgent if game.loaded[0].type in URGENT else self._others).append(game)

    def back(self, game: Game) -> None:
        """The game whose turn it was could not use it: it keeps its place."""
        game.queued = True
        (self._urgent if game.loaded[0].type in URGENT else self._others).appendleft(game)

    def next(self) -> Game | None:
        """The game to be served; None when none is ready."""
        self._turn += 1
        first, second = self._urgent, self._others
        if self._turn % _NOT_URGENT_TURN == 0:
            first, second = second, first
        queue = first or second
        if not queue:
            return None
        game = queue.popleft()
        game.queued = False
        return game
