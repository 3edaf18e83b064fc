"""What was done in one game and what was heard of it: the evidence the checker judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class DeedKind(StrEnum):
    """What a player did."""

    created = "created"
    joined = "joined"
    readied = "readied"
    started = "started"
    drew = "drew"
    voted = "voted"
    left = "left"
    cancelled = "cancelled"
    moved_deadline = "moved_deadline"


@dataclass(frozen=True, slots=True)
class Deed:
    """One committed act of the application.

    Attributes:
        began, done: sent and acknowledged, s since the epoch on the database's clock.
        user_id: who did it; None for the application itself.
        submission_id: the drawing made, or the one voted for.
        phase: the phase whose deadline was moved.
        deadline: the phase's deadline after the act, s since the epoch.
        request_id: what the application sent as x-request-id.
    """

    kind: DeedKind
    began: float
    done: float
    user_id: str | None = None
    submission_id: str | None = None
    phase: str | None = None
    deadline: float | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as the SDK handed it over; `at` in s since the epoch on the database's clock."""

    channel: str
    message: Mapping[str, object]
    at: float

    def text(self, name: str) -> str | None:
        """A text of the envelope; None when it is absent or something else."""
        value = self.message.get(name)
        return value if isinstance(value, str) else None

    @property
    def type(self) -> str:
        return self.text("type") or ""

    @property
    def event_id(self) -> str | None:
        return self.text("eventId")

    @property
    def seq(self) -> int | None:
        return whole_number(self.message.get("seq"))

    @property
    def after(self) -> int | None:
        return whole_number(self.message.get("after"))

    @property
    def data(self) -> Mapping[str, object]:
        value = self.message.get("data")
        return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True, slots=True)
class FinalState:
    """What the database says once the game is over; placements by user id."""

    status: str
    winner_id: str | None
    placements: Mapping[str, int | None]


@dataclass(slots=True)
class GameRecord:
    """Everything known of one game.

    Attributes:
        players: user id -> username of everybody who was to join.
        failures: statements of the application that the database refused unexpectedly.
    """

    game_id: str
    players: dict[str, str]
    deeds: list[Deed] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    final: FinalState | None = None

    def deeds_of(self, *kinds: DeedKind) -> list[Deed]:
        return [deed for deed in self.deeds if deed.kind in kinds]


@dataclass(frozen=True, slots=True)
class Rules:
    """What the one who moves games and tells of them has promised.

    Attributes:
        complete: every event, once, in order, with `eventId`, `seq` and `after`. False for the legacy
            handler, which promises only to move games on, never early, to tell of each phase, and to name the
            right winner if it names one.
        repeats_allowed: the same `eventId` again is counted, not held against anybody (after a crash).
        given_up_allowed: gaps in `seq` that `after` admits to are counted, not held against anybody.
        clock_tolerance_s: how far this clock may be from the database's.
        in_flight_s: a vote acknowledged this close to the results may or may not have been counted.
    """

    complete: bool = True
    repeats_allowed: bool = False
    given_up_allowed: bool = False
    clock_tolerance_s: float = 0.005
    in_flight_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise.

    `kind` is one of lost, doubled, reordered, gap, early, wrong_result, malformed, unexpected, unfinished,
    statement_failed.
    """

    kind: str
    game_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: game {self.game_id}: {self.text}"


def whole_number(value: object) -> int | None:
    """The integer itself; None for anything else, also for true and false."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
