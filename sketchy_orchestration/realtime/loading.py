"""Bringing in events that were numbered before, or when there was no room."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from uuid import UUID

from sketchy_orchestration.database import relay as statements
from sketchy_orchestration.database.relay import OutboxEvent, Session
from sketchy_orchestration.realtime.games import Game, Games, Key
from sketchy_orchestration.realtime.sending import Sending

# Games in one query, and events of each: enough to see what has lost its meaning, little enough to hold.
_GAMES = 100
_EACH = 50


class Loading:
    """Loads the next events of games that have none in memory."""

    def __init__(self, reader: Session, games: Games, sending: Sending) -> None:
        self._reader, self._games, self._sending = reader, games, sending
        self._wanted: dict[Key, Game] = {}
        self._work = asyncio.Event()

    def want(self, game: Game) -> None:
        """The game has waiting events, none of them loaded."""
        game.loading = True
        self._wanted[game.key] = game
        self._work.set()

    async def run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._wanted:
                batch = [self._wanted.pop(key) for key in list(self._wanted)[:_GAMES]]
                for game in batch:
                    game.loading = game.waits
                await self._load([game for game in batch if game.waits])

    async def _load(self, games: list[Game]) -> None:
        places = {game.key: game.next for game in games if isinstance(game.key, UUID)}
        alone = [game.key for game in games if isinstance(game.key, int)]
        by_key: defaultdict[Key, list[OutboxEvent]] = defaultdict(list)
        for event in await statements.load(self._reader, places, alone, each=_EACH):
            by_key[event.game_id or event.id].append(event)
        for game in games:
            events = sorted(by_key[game.key], key=lambda event: event.seq or 1)
            if game.waits and not events:
                raise LookupError(f"events of game {game.key} from {game.next} to {game.last} are not there")
            self._games.fill(game, events)
            self._sending.offer(game)
        self._sending.pump()
