"""An in-memory stand-in of the database: rows, locks, commits, sessions, lanes.

What the SQL decides is decided by `domain.phases`. The same cases go through this and through Postgres, in
`tests/integration/relay/test_conformance.py` and `tests/integration/sweep/test_stand_in.py`. Left out on
purpose: games set aside, deleted or played by others, and progress saved so that less is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from random import Random

from sketchy_orchestration.domain import phases
from sketchy_orchestration.domain.circuit import Circuit, Report, State
from sketchy_orchestration.domain.lanes import LANES
from sketchy_orchestration.domain.phases import Cause, Phase
from sketchy_orchestration.realtime.lease import LeaseTimes
from tests.faults import invariants
from tests.simulation.kernel import Kernel

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
IDLE_SESSION_TIMEOUT = LeaseTimes().idle


class UnavailableError(Exception):
    """The database does not answer, or has ended this session."""


class FencedError(Exception):
    """The lane is somebody else's by now."""


class StoppedError(Exception):
    """An emergency stop stands."""


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
    paused: bool = False
    round_duration: int = 60
    voting_duration: int = 30
    locked_until: float = 0.0

    def judged(self) -> phases.Game:
        """The row as the decision sees it."""
        return phases.Game(
            self.phase,
            None if self.deadline is None else moment(self.deadline),
            players=len(self.players),
            missing=len(self.players - self.drawn),
            had_grace=self.had_grace,
            round_duration=self.round_duration,
            voting_duration=self.voting_duration,
            paused=self.paused,
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
    stopped: bool = False
    games: dict[str, GameRow] = field(default_factory=dict)
    live: dict[str, GameRow] = field(default_factory=dict)
    outbox: dict[str, OutboxRow] = field(default_factory=dict)
    unnumbered: dict[int, list[OutboxRow]] = field(default_factory=lambda: defaultdict(list))
    lanes: list[Lane] = field(default_factory=lambda: [Lane() for _ in range(LANES)])
    last_seq: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    last_sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    numbered: list[invariants.Numbered] = field(default_factory=list)
    waiting: dict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    outcomes: list[invariants.Outcome] = field(default_factory=list)
    last_settled: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    transitions: list[invariants.Transition] = field(default_factory=list)
    circuit: Circuit = field(default_factory=lambda: Circuit(State.closed, BEGAN, 0))
    reports: dict[str, tuple[float, Report]] = field(default_factory=dict)
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

    def free(self, lanes: Iterable[int]) -> list[int]:
        """Those of the lanes that nobody holds, so that not each of them is tried."""
        alive = {holder for holder in {row.holder for row in self.lanes} if self.lives(holder)}
        return [lane for lane in lanes if self.lanes[lane].holder not in alive]

    def give_up(self, session: Session, lane: int) -> None:
        """Leave it to others."""
        self.ping(session)
        if self.lanes[lane].holder is session:
            self.lanes[lane].holder = None

    def _answer(self) -> None:
        if not self.up:
            raise UnavailableError

    def _fence(self, session: Session, lane: int, epoch: int) -> None:
        """What a statement carries is the epoch: it holds until the next one begins."""
        self.ping(session)
        if self.lanes[lane].epoch != epoch:
            raise FencedError

    # Switches ----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The emergency stop: nothing is moved, numbered or sent until `lift`."""
        self.stopped, self.broadcasting, self.flags = True, False, phases.Flags(timer_monitoring=False)

    def lift(self) -> None:
        """Everything goes on."""
        self.stopped, self.broadcasting, self.flags = False, True, phases.Flags()

    def change_circuit(self, changed: Circuit) -> bool:
        """Make the change, unless somebody was faster."""
        self._answer()
        if changed.epoch != self.circuit.epoch + 1:
            return False
        self.circuit = changed
        return True

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

    def lock_due(self, by: float, limit: int, until: float) -> tuple[list[GameRow], int]:
        """Lock games due by then, the earliest first, and those whose drawings are all there.

        Returns:
            Those locked until then; how many somebody else holds, which take up no place.
        """
        self._answer()
        if not (self.flags.timer_monitoring and self.flags.triggers):
            return [], 0
        now = self.kernel.now
        due: list[GameRow] = []
        early: list[GameRow] = []
        locked = 0
        for game in self.live.values():
            if game.paused:
                continue
            if game.deadline is not None and game.deadline <= by:
                found = due
            elif game.phase is Phase.drawing and game.players and game.players <= game.drawn:
                found = early
            else:
                continue
            if game.locked_until > now:
                locked += 1
            else:
                found.append(game)
        due.sort(key=_deadline)
        taken = due[:limit] + early
        for game in taken:
            game.locked_until = until
        return taken, locked

    def make_moves(self, games: Iterable[GameRow], server: int) -> None:
        """Move on those of the games locked that have to, and let go of all; unless that server is gone."""
        if self.server != server:
            return
        now = moment(self.kernel.now)
        for game in games:
            game.locked_until = 0.0
            move = phases.decide(game.judged(), now, self.flags)
            if move is not None:
                self.move(game, move)

    def next_deadline(self, after: float) -> float | None:
        """The next one later than this."""
        later = (
            game.deadline
            for game in self.live.values()
            if game.deadline is not None and game.deadline > after and not game.paused
        )
        return min(later, default=None)

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
        types = ["game_started"] if left is Phase.waiting and game.phase in _BEGINNINGS else []
        types += ["timer_expired"] if cause == Cause.timer.value else []
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
        self.ping(session)
        if not self.unnumbered.get(lane):
            return []
        if self.stopped:
            raise StoppedError
        self._fence(session, lane, epoch)
        fresh = []
        for row in self.unnumbered.pop(lane):
            game_id = row.game.game_id
            self.last_seq[game_id] += 1
            one = invariants.Numbered(
                row.event_id, game_id, lane, self.last_seq[game_id], epoch, self.kernel.now
            )
            self.numbered.append(one)
            self.waiting[lane][row.event_id] = self.last_seq[game_id]
            fresh.append(one)
        return fresh

    def load(self, session: Session, lane: int) -> list[tuple[str, int]]:
        """What waits in the lane: events with their places, in order.

        A game's outcomes are written in the order of its events: what lies below the last one is over.
        """
        self.ping(session)
        waiting = (
            (event_id, seq)
            for event_id, seq in self.waiting[lane].items()
            if seq > self.last_settled[self.outbox[event_id].game.game_id]
        )
        return sorted(waiting, key=itemgetter(1))

    def acknowledge(
        self, session: Session, lane: int, epoch: int, found: Iterable[tuple[str, str, str | None]]
    ) -> None:
        """Outcomes of events: (event, outcome, timetoken); as often as they are told."""
        self._fence(session, lane, epoch)
        for event_id, outcome, timetoken in found:
            game_id = self.outbox[event_id].game.game_id
            tokens = {} if timetoken is None else {f"game-{game_id}": timetoken}
            self.outcomes.append(invariants.Outcome(event_id, outcome, tokens))
            seq = self.waiting[lane].pop(event_id, 0)
            self.last_settled[game_id] = max(self.last_settled[game_id], seq)
            if outcome == "delivered":
                self.last_sent[game_id] = max(self.last_sent[game_id], seq)


_BEGINNINGS = frozenset({Phase.briefing, Phase.drawing})


def _deadline(game: GameRow) -> tuple[float, str]:
    return game.deadline or 0.0, game.game_id


def _seconds(at: datetime) -> float:
    return (at - BEGAN).total_seconds()
