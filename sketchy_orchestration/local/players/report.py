"""What came of playing: counts, figures and the first broken promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from random import Random

from sketchy_orchestration.local.players.checker import Verdict
from sketchy_orchestration.local.players.deadlines import endings
from sketchy_orchestration.local.players.expected import key
from sketchy_orchestration.local.players.record import DeedKind, GameRecord, Violation

_SHOWN = 50
_BY_TIMER = frozenset({"timer", "database"})


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds at the median, the 99th percentile and the maximum, of `count` measurements."""

    count: int
    p50: float
    p99: float
    max: float


class Sample:
    """A bounded, even choice of all measurements; the maximum is of all of them."""

    _KEPT = 20_000

    def __init__(self) -> None:
        self._kept: list[float] = []
        self._count = 0
        self._max = 0.0
        self._random = Random(0)

    def add(self, milliseconds: float) -> None:
        self._count += 1
        self._max = max(self._max, milliseconds) if self._count > 1 else milliseconds
        if len(self._kept) < self._KEPT:
            self._kept.append(milliseconds)
        elif (place := self._random.randrange(self._count)) < self._KEPT:
            self._kept[place] = milliseconds

    def spread(self) -> Spread | None:
        """None when nothing was measured."""
        if not self._kept:
            return None
        ordered = sorted(self._kept)
        last = len(ordered) - 1
        return Spread(
            self._count,
            round(ordered[round(last * 0.5)], 1),
            round(ordered[round(last * 0.99)], 1),
            round(self._max, 1),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The sum of all finished games.

    Attributes:
        lateness: a phase's end heard by a subscriber, after its deadline.
        delivery: an event heard by a subscriber, after its act was acknowledged to the player.
        statements: a player's statement, from sending to acknowledgement, with its transaction.
        retries: statements tried again after a lost connection.
    """

    seconds: float
    started: int
    completed: int
    cancelled: int
    unfinished: int
    legacy_games: int
    events_expected: int
    events_heard: int
    repeats: int
    given_up: int
    retries: int
    lateness: Spread | None
    delivery: Spread | None
    statements: Spread | None
    violations: dict[str, int]
    examples: list[str]

    @property
    def kept(self) -> bool:
        """Whether at least one game was finished and no promise was broken."""
        return not self.violations and self.completed + self.cancelled > 0

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "ok": self.kept}


@dataclass(slots=True)
class Tally:
    """Counts games as they finish, in bounded memory."""

    started: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    legacy_games: int = 0
    expected: int = 0
    heard: int = 0
    repeats: int = 0
    given_up: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    examples: list[Violation] = field(default_factory=list)
    lateness: Sample = field(default_factory=Sample)
    delivery: Sample = field(default_factory=Sample)
    statements: Sample = field(default_factory=Sample)

    def add(self, record: GameRecord, verdict: Verdict, *, legacy: bool) -> None:
        status = record.final.status if record.final is not None else "unknown"
        self.finished[status if status in ("completed", "cancelled") else "unfinished"] += 1
        self.legacy_games += legacy
        self.expected += verdict.expected
        self.heard += verdict.heard
        self.repeats += verdict.repeats
        self.given_up += verdict.given_up
        for violation in verdict.violations:
            self.violations[violation.kind] += 1
            if len(self.examples) < _SHOWN:
                self.examples.append(violation)
        self._measure(record)

    def _measure(self, record: GameRecord) -> None:
        for ending in endings(record):
            if ending.deadline is not None and ending.cause in _BY_TIMER:
                self.lateness.add((ending.heard.at - ending.deadline) * 1000)
        done = {}
        for deed in record.deeds:
            self.statements.add((deed.done - deed.began) * 1000)
            if deed.kind is DeedKind.drew:
                done["drawing_submitted", str(deed.submission_id)] = deed.done
            elif deed.kind is DeedKind.voted:
                done["vote_cast", f"{deed.user_id} for {deed.submission_id}"] = deed.done
            elif deed.kind is DeedKind.joined:
                done["player_joined", str(deed.user_id)] = deed.done
        for heard in record.heard:
            moment = done.pop(key(heard), None)
            if moment is not None:
                # Heard before the acknowledgement came back: no waiting at all.
                self.delivery.add(max(0.0, heard.at - moment) * 1000)

    def report(self, seconds: float, retries: int) -> Report:
        return Report(
            seconds=round(seconds, 1),
            started=self.started,
            completed=self.finished["completed"],
            cancelled=self.finished["cancelled"],
            unfinished=self.finished["unfinished"],
            legacy_games=self.legacy_games,
            events_expected=self.expected,
            events_heard=self.heard,
            repeats=self.repeats,
            given_up=self.given_up,
            retries=retries,
            lateness=self.lateness.spread(),
            delivery=self.delivery.spread(),
            statements=self.statements.spread(),
            violations=dict(self.violations),
            examples=[str(violation) for violation in self.examples],
        )
