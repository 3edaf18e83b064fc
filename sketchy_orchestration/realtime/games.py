"""What waits to be sent, game by game, as the relay holds it in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from sketchy_orchestration.database.backlog import WaitingGame
from sketchy_orchestration.database.relay import OutboxEvent
from sketchy_orchestration.domain import envelope, publishing

Key = UUID | int
"""A game; or, for an event of no game, its outbox id: it is in order with nothing."""

URGENT = frozenset({"phase_changed", "game_started", "game_completed", "timer_expired", "server_timer_sync"})
"""Games whose next event is one of these are served first: a clock hangs on it."""


# Younger than this nothing has lost its meaning (the shortest lifetime in domain/publishing.py).
_EXPIRES_FROM = min(publishing.LIFETIMES.values())


@dataclass(slots=True, eq=False)
class Game:
    """One game's events, strictly one after the other.

    Attributes:
        after: the last `seq` of the game that was delivered; 0 when none was.
        next: the `seq` that is to be sent next; events up to `last` wait.
        oldest_id: no event of it that waits or is unacknowledged has a lower outbox id.
        loaded: its next events, without a gap; more may wait in the database.
        unacknowledged: events done whose outcome is not yet committed.
        failed: failed attempts of the next event that count; tried: all of them.
        slim: the next event is too large to be sent whole.
        failing_since: when the first of them failed (monotonic): what went well before that proves nothing.
        owes_sync: waited through an outage, so a fresh time sync follows its last event.
        name: the key as text.
    """

    key: Key
    lane: int
    after: int
    next: int
    last: int
    oldest_id: int
    loaded: deque[OutboxEvent] = field(default_factory=deque)
    unacknowledged: int = 0
    flying: bool = False
    resting: bool = False
    queued: bool = False
    loading: bool = False
    failed: int = 0
    tried: int = 0
    slim: bool = False
    failing_since: float | None = None
    owes_sync: bool = False
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = str(self.key)

    @property
    def waits(self) -> bool:
        return self.next <= self.last

    @property
    def whole(self) -> bool:
        """Everything that waits is loaded."""
        return self.next + len(self.loaded) > self.last

    @property
    def ready(self) -> bool:
        return bool(self.loaded) and not (self.flying or self.resting or self.queued)

    @property
    def hungry(self) -> bool:
        """Its next event must be loaded before anything can be sent."""
        return self.waits and not self.loaded and not self.loading


class Games:
    """The games of the lanes held that have anything waiting or unacknowledged.

    Args:
        room: events held in memory at most, about; beyond it they stay in the database.
    """

    def __init__(self, room: int = 10_000) -> None:
        self.room = room
        self.held = 0
        self._games: dict[Key, Game] = {}

    def __len__(self) -> int:
        return len(self._games)

    def __contains__(self, key: Key) -> bool:
        return key in self._games

    def __iter__(self) -> Iterator[Game]:
        return iter(tuple(self._games.values()))

    @property
    def waiting(self) -> int:
        """Events that wait, in memory or not."""
        return sum(game.last - game.next + 1 for game in self._games.values())

    def found(self, waiting: Iterable[WaitingGame]) -> list[Game]:
        """Games of lanes just taken; nothing of them is loaded yet."""
        games = []
        for each in waiting:
            if each.game_id is None:
                game = Game(each.oldest_id, each.lane, 0, 1, 1, each.oldest_id)
            else:
                first, last = each.first_seq or 1, each.last_seq or 0
                game = Game(each.game_id, each.lane, each.sent_seq, first, last, each.oldest_id)
            self._games[game.key] = game
            games.append(game)
        return games

    def add(self, event: OutboxEvent) -> Game:
        """An event just sequenced: kept if there is room and nothing before it is missing."""
        key: Key = event.id if event.game_id is None else event.game_id
        seq = event.seq or 1
        game = self._games.get(key)
        if game is None:
            game = Game(key, event.lane, event.sent_seq or 0, seq, seq - 1, event.id)
            self._games[key] = game
        whole = game.whole
        game.oldest_id = min(game.oldest_id, event.id)
        game.last = max(game.last, seq)
        if whole and not game.loading and (self.held < self.room or not game.loaded):
            game.loaded.append(event)
            self.held += 1
        return game

    def fill(self, game: Game, events: Iterable[OutboxEvent]) -> None:
        """Events of the game that were loaded, in order; whatever is not the next one is left out."""
        game.loading = False
        for event in events:
            if (event.seq or 1) == game.next + len(game.loaded) <= game.last:
                game.loaded.append(event)
                self.held += 1

    def done(self, game: Game, *, delivered: bool) -> None:
        """The next event has its outcome, which is still to be acknowledged."""
        event = game.loaded.popleft()
        self.held -= 1
        if delivered:
            game.after = event.seq or 0
        game.next += 1
        game.unacknowledged += 1
        game.failed = game.tried = 0
        game.slim, game.failing_since = False, None

    def acknowledged(self, key: Key) -> None:
        """One outcome of the game is committed; a game with nothing left is forgotten."""
        game = self._games.get(key)
        if game is not None:
            game.unacknowledged -= 1
            if not game.waits and not game.unacknowledged and not game.flying:
                del self._games[key]

    def in_lanes(self, lanes: Collection[int]) -> list[Game]:
        return [game for game in self._games.values() if game.lane in lanes]

    def drop_lanes(self, lanes: Collection[int]) -> None:
        """Forget the games of lanes no longer held."""
        for game in self.in_lanes(lanes):
            self.held -= len(game.loaded)
            game.loaded.clear()
            game.last = game.next - 1
            del self._games[game.key]

    def waiting_from(self) -> dict[int, int]:
        """By lane, the lowest outbox id that may be without a committed outcome."""
        lowest: dict[int, int] = {}
        for game in self._games.values():
            lowest[game.lane] = min(lowest.get(game.lane, game.oldest_id), game.oldest_id)
        return lowest


def envelope_of(game: Game, event: OutboxEvent) -> envelope.Event:
    """The game's next event, as its message tells it."""
    of_game = event.game_id is not None
    return envelope.Event(
        event_id=str(event.event_id),
        game_id=game.name if of_game else None,
        type=event.type,
        user_id=event.user_id,
        occurred_at=event.occurred_at,
        request_id=event.request_id,
        data=event.data,
        seq=event.seq,
        after=game.after if of_game else None,
    )


def outlived(game: Game, now: float) -> set[int]:
    """Outbox ids of the game's loaded events that have lost their meaning; none if its next one has not."""
    if not game.loaded or now - game.loaded[0].occurred_at.timestamp() <= _EXPIRES_FROM:
        return set()
    waiting = [
        publishing.Waiting(str(event.id), event.type, event.user_id, now - event.occurred_at.timestamp())
        for event in game.loaded
    ]
    gone = {int(each) for each in publishing.expired(waiting)}
    return gone if game.loaded[0].id in gone else set()
