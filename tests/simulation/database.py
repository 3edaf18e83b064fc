"""An in-memory stand-in of the database: rows, locks, commits, sessions, lanes.

What the SQL decides is decided by `domain.phases`; one suite of cases goes through both
(`tests/integration/sweep/test_conformance.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

from sketchy_orchestration.domain import circuit, phases
from sketchy_orchestration.domain.lanes import LANES
from sketchy_orchestration.domain.phases import Cause, Phase
from tests.faults import invariants
from tests.simulation.kernel import Kernel

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
IDLE_SESSION_TIMEOUT = 1.5


class UnavailableError(Exception):
    """The database does not answer, or has ended this session."""


class FencedError(Exception):
    """The lane is somebody else's by now."""


def moment(seconds: float) -> datetime:
    """A virtual moment as `domain` has them."""
    return BEGAN + timedelta(seconds=seconds)


@dataclass(eq=False, slots=True)
class GameRow:
    """A game with its row of live_games; `locked_until` as long as some transaction holds it."""

    game_id: str
    lane: int
    phase: Phase
    deadline: float | None
    players: set[str]
    drawn: set[str] = field(default_factory=set)
    had_grace: bool = False
    locked_until: float = 0.0

    def judged(self) -> phases.Game:
        """The row as the decision sees it."""
        return phases.Game(
            self.phase,
            None if self.deadline is None else moment(self.deadline),
            players=len(self.players),
            missing=len(self.players - self.drawn),
            had_grace=self.had_grace,
        )


@dataclass(eq=False, slots=True)
class OutboxRow:
    """An event; `at` when it occurred."""

    event_id: str
    game: GameRow
    type: str
    at: float
    new_phase: str | None


@dataclass(eq=False, slots=True)
class Session:
    """A lease session: ended by silence, or with the server."""

    server: int
    heard_at: float


@dataclass(slots=True)
class Lane:
    """Who holds it, since which epoch."""

    holder: Session | None = None
    epoch: int = 0


@dataclass(slots=True)
class Database:
    """Everything that is committed, and who may change it."""

    kernel: Kernel
    random: Random
    up: bool = True
    server: int = 0
    flags: phases.Flags = field(default_factory=phases.Flags)
    broadcasting: bool = True
    games: dict[str, GameRow] = field(default_factory=dict)
    live: dict[str, GameRow] = field(default_factory=dict)
    outbox: dict[str, OutboxRow] = field(default_factory=dict)
    unnumbered: dict[int, list[OutboxRow]] = field(default_factory=lambda: defaultdict(list))
    lanes: list[Lane] = field(default_factory=lambda: [Lane() for _ in range(LANES)])
    last_seq: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    last_sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    numbered: list[invariants.Numbered] = field(default_factory=list)
    waiting: dict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    outcomes: dict[str, invariants.Outcome] = field(default_factory=dict)
    transitions: list[invariants.Transition] = field(default_factory=list)
    circuit: circuit.Circuit = field(default_factory=lambda: circuit.Circuit(circuit.State.closed, BEGAN, 0))
    reports: dict[str, tuple[float, circuit.Report]] = field(default_factory=dict)
    on_commit: list[Callable[[], None]] = field(default_factory=list)
    deadline_base: Callable[[GameRow, phases.Move, float], float] | None = None

    # Sessions and lanes ------------------------------------------------------------------------------

    def crash(self, seconds: float) -> None:
        """Down, and up again after so long; every session and open transaction is gone."""
        self.up = False
        self.server += 1
        for game in self.live.values():
            game.locked_until = 0.0
        self.kernel.call(seconds, self._come_up)

    def _come_up(self) -> None:
        self.up = True

    def session(self) -> Session:
        """A new one."""
        self._answer()
        return Session(self.server, self.kernel.now)

    def ping(self, session: Session) -> None:
        """The holder lives."""
        if not self.lives(session):
            raise UnavailableError
        session.heard_at = self.kernel.now

    def lives(self, session: Session | None) -> bool:
        """Whether the server still has it."""
        return (
            session is not None
            and self.up
            and session.server == self.server
            and self.kernel.now - session.heard_at <= IDLE_SESSION_TIMEOUT
        )

    def take(self, session: Session, lane: int) -> int | None:
        """The lane's new epoch, or None while somebody holds it."""
        self.ping(session)
        row = self.lanes[lane]
        if self.lives(row.holder):
            return None
        row.holder, row.epoch = session, row.epoch + 1
        return row.epoch

    def give_up(self, session: Session, lane: int) -> None:
        """Leave it to others."""
        if self.lanes[lane].holder is session:
            self.lanes[lane].holder = None

    def _answer(self) -> None:
        if not self.up:
            raise UnavailableError

    def _fence(self, session: Session, lane: int, epoch: int) -> None:
        self.ping(session)
        row = self.lanes[lane]
        if row.holder is not session or row.epoch != epoch:
            raise FencedError

    # The clock ---------------------------------------------------------------------------------------

    def commit_events(self, game: GameRow, *types: str, new_phase: str | None = None) -> None:
        """What triggers wrote, visible from now on."""
        for kind in types:
            event_id = f"{game.game_id}-{len(self.outbox)}"
            row = OutboxRow(
                event_id, game, kind, self.kernel.now, new_phase if kind == "phase_changed" else None
            )
            self.outbox[event_id] = row
            self.unnumbered[game.lane].append(row)
        for listener in self.on_commit:
            listener()

    def due(self, by: float, limit: int) -> list[GameRow]:
        """Games whose deadline is `by` or earlier, the earliest first, or whose drawings are all there."""
        self._answer()
        found = [
            game
            for game in self.live.values()
            if (game.deadline is not None and game.deadline <= by)
            or (game.phase is Phase.drawing and game.players and game.players <= game.drawn)
        ]
        found.sort(key=lambda game: (game.deadline or 0.0, game.game_id))
        return found[:limit]

    def move(self, game: GameRow, move: phases.Move) -> None:
        """Make a decided move, at this very moment."""
        now, old, left = self.kernel.now, game.deadline, game.phase
        if move.to_phase is game.phase:
            game.had_grace = True
            game.deadline = None if move.next_deadline is None else _seconds(move.next_deadline)
            self.commit_events(game, "server_timer_sync")
            return
        game.phase = move.to_phase
        game.deadline = None if move.next_deadline is None else _seconds(move.next_deadline)
        if self.deadline_base is not None and move.next_deadline is not None:
            game.deadline = self.deadline_base(game, move, now)
        self._record(game, left, old, move.cause.value, move.rebased)

    def _record(self, game: GameRow, left: Phase, old: float | None, cause: str, rebased: bool) -> None:
        self.transitions.append(
            invariants.Transition(
                game.game_id,
                left.value,
                game.phase.value,
                old,
                self.kernel.now,
                game.deadline,
                rebased,
                cause,
                "orchestration",
                phases.phase_seconds(game.phase, game.judged()),
            )
        )
        types = ["timer_expired"] if cause == Cause.timer.value else []
        types.append("phase_changed")
        if game.phase is Phase.completed:
            types.append("game_completed")
        self.commit_events(game, *types, new_phase=game.phase.value)
        if game.phase in phases.FINISHED:
            self.live.pop(game.game_id, None)

    def by_application(self, game: GameRow, phase: Phase, seconds: float | None) -> None:
        """The application moves a game on by itself."""
        left, old = game.phase, game.deadline
        game.phase = phase
        game.deadline = None if seconds is None else self.kernel.now + seconds
        self._record(game, left, old, "application", False)

    # The voice ---------------------------------------------------------------------------------------

    def number(self, session: Session, lane: int, epoch: int) -> list[invariants.Numbered]:
        """Give the lane's new events their places, in the order in which their commits became visible."""
        self._fence(session, lane, epoch)
        fresh = []
        for row in self.unnumbered.pop(lane, []):
            game_id = row.game.game_id
            self.last_seq[game_id] += 1
            one = invariants.Numbered(
                row.event_id, game_id, lane, self.last_seq[game_id], epoch, self.kernel.now
            )
            self.numbered.append(one)
            self.waiting[lane][row.event_id] = self.last_seq[game_id]
            fresh.append(one)
        return fresh

    def load(self, session: Session, lane: int, epoch: int) -> list[tuple[str, int]]:
        """What waits in the lane: events with their places, in order."""
        self._fence(session, lane, epoch)
        return sorted(self.waiting[lane].items(), key=lambda item: item[1])

    def acknowledge(
        self, session: Session, lane: int, epoch: int, found: Iterable[tuple[str, str, str | None]]
    ) -> None:
        """Outcomes of events: (event, outcome, timetoken)."""
        self._fence(session, lane, epoch)
        for event_id, outcome, timetoken in found:
            game = self.outbox[event_id].game
            tokens = {} if timetoken is None else {f"game-{game.game_id}": timetoken}
            if event_id not in self.outcomes:
                self.outcomes[event_id] = invariants.Outcome(event_id, outcome, tokens)
            seq = self.waiting[lane].pop(event_id, 0)
            if outcome == "delivered":
                self.last_sent[game.game_id] = max(self.last_sent[game.game_id], seq)


def _seconds(at: datetime) -> float:
    return (at - BEGAN).total_seconds()
