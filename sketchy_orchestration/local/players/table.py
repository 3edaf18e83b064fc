"""What is known of one game while it is played: its phase and deadline, by whoever says so first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from sketchy_orchestration.local.players.fields import moment
from sketchy_orchestration.local.players.record import GameRecord, Heard

_ORDER = ("waiting", "briefing", "drawing", "voting", "results", "completed", "cancelled")
OVER = frozenset({"completed", "cancelled"})


@dataclass(slots=True)
class Table:
    """One game in play: what is heard moves it on at once, what is read repairs what was not heard."""

    record: GameRecord
    phase: str = "waiting"
    deadline: float | None = None
    _known_at: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, channel: str, message: Mapping[str, object], at: float) -> Heard:
        heard = Heard(channel, message, at)
        self.record.heard.append(heard)
        data = heard.data
        if heard.type == "phase_changed":
            game = data.get("gameData")
            until = moment(game.get("phaseExpiresAt")) if isinstance(game, dict) else None
            self.learn(str(data.get("newPhase")), until, moment(data.get("phaseStartedAt")) or at)
        elif heard.type == "server_timer_sync" and data.get("phase") == self.phase:
            self.learn(self.phase, moment(data.get("phaseExpiresAt")), moment(data.get("serverTime")) or at)
        # Whoever waits for a message rather than a phase looks again, too.
        self._changed.set()
        return heard

    def learn(self, phase: str, deadline: float | None, as_of: float) -> None:
        """What held at `as_of`, s since the epoch on the database's clock.

        A phase never goes back, and within one an older answer that arrives late changes nothing.
        """
        if phase not in _ORDER or _ORDER.index(phase) < _ORDER.index(self.phase):
            return
        if phase == self.phase and (deadline is None or as_of <= self._known_at):
            return
        self._known_at = as_of
        if phase != self.phase or deadline != self.deadline:
            self.phase, self.deadline = phase, deadline
            self._changed.set()

    def passed(self, phase: str) -> bool:
        """Whether the game has left this phase behind."""
        return _ORDER.index(self.phase) > _ORDER.index(phase)

    async def change(self, seconds: float) -> None:
        """Wait until anything changes, at most so long."""
        self._changed.clear()
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._changed.wait()
        except TimeoutError:
            return
