"""The one checker of what always holds: over what was written, numbered, sent and heard. Pure.

`tests.faults.books` fills `Books` from a database and a PubNub's record; a simulation may fill them itself.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

SECOND = 1.0
ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of orchestration.transitions; moments in seconds since 1970.

    Attributes:
        seconds: length of the new phase.
        all_drew: no player of the game is without a drawing, where somebody has looked.
    """

    game_id: str
    from_phase: str
    to_phase: str
    deadline: float | None
    at: float
    next_deadline: float | None
    rebased: bool
    cause: str
    handler: str
    seconds: float | None
    all_drew: bool | None = None


@dataclass(frozen=True, slots=True)
class Game:
    """How a game stands in the end; `overdue` in seconds, None without a deadline that has passed."""

    game_id: str
    enrolled: str
    phase: str
    live_phase: str | None
    overdue: float | None


@dataclass(frozen=True, slots=True)
class Written:
    """An event in the outbox."""

    event_id: str
    game_id: str | None
    type: str
    channels: tuple[str, ...]
    new_phase: str | None


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its place, in the order in which places were given."""

    event_id: str
    game_id: str | None
    lane: int
    seq: int | None
    epoch: int
    at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event; `timetokens` by channel."""

    event_id: str
    outcome: str
    timetokens: dict[str, str]


@dataclass(frozen=True, slots=True)
class Accepted:
    """One message PubNub took, in the order it took them."""

    channel: str
    event_id: str
    type: str
    game_id: str | None
    seq: int | None
    after: int | None
    timetoken: str
    replayed: bool


@dataclass(frozen=True, slots=True)
class Books:
    """Everything to be checked.

    Attributes:
        failures: harm done to the application, and failures that our own tables tell of.
        ledger: hours that do not balance.
        unanswered: by channel and event, attempts of which nobody knows whether PubNub took the message.
    """

    games: list[Game]
    transitions: list[Transition]
    written: list[Written]
    numbered: list[Numbered]
    outcomes: list[Outcome]
    accepted: list[Accepted]
    failures: list[str] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    unanswered: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expected:
    """How much must have happened, and what a scenario allows.

    Attributes:
        transitions, delivered: at least so many; nothing lost because nothing was sent is a failure.
        repeats: events sent twice, at most, beside those whose answer was lost: `concurrency` for each relay
            that died or lost its lease, as these were in flight.
        expired: events may have lost their meaning. forgiven: these had, in an earlier scenario.
        dead: event ids that may be dead letters.
        waiting: events may still wait: the scenario ends in the middle.
        record_whole: the record of what PubNub took is complete.
        overdue: seconds that a game may be overdue in the end.
    """

    transitions: int = 0
    delivered: int = 0
    repeats: int = 0
    expired: bool = False
    forgiven: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()
    waiting: bool = False
    record_whole: bool = True
    overdue: float = 1.0


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that was broken."""

    promise: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


def check(books: Books, expected: Expected) -> list[Breach]:
    """Every broken promise; at most ten of each kind."""
    counts: Counter[str] = Counter()
    found = []
    for breach in _all(books, expected):
        counts[breach.promise] += 1
        if counts[breach.promise] <= 10:
            found.append(breach)
    return found


def _all(books: Books, expected: Expected) -> Iterator[Breach]:
    yield from _clock(books, expected)
    yield from _told(books)
    yield from _ledger(books, expected)
    yield from _places(books)
    yield from _heard(books, expected)
    yield from _alone(books)
    for failure in books.failures:
        yield Breach("unharmed", failure)
    for hour in books.ledger:
        yield Breach("books", hour)


def repeats(books: Books) -> int:
    """Events taken again on a channel that had them already."""
    return _repeated(books, {}).total()


def unexplained(books: Books) -> Counter[str]:
    """Those of them that no lost answer accounts for: they must have been in flight when a relay died."""
    return _repeated(books, books.unanswered)


def _repeated(books: Books, allowed: Mapping[tuple[str, str], int]) -> Counter[str]:
    times = Counter((one.channel, one.event_id, one.replayed) for one in books.accepted)
    again: Counter[str] = Counter()
    for (channel, event, _), count in times.items():
        again[event] = max(again[event], count - 1 - allowed.get((channel, event), 0))
    return +again


# ----------------------------------------------------------------------------------------------------
# The clock


def _clock(books: Books, expected: Expected) -> Iterator[Breach]:
    left: Counter[tuple[str, str]] = Counter()
    enrolled = {game.game_id: game.enrolled for game in books.games}
    last: dict[str, str] = {}
    for move in books.transitions:
        name = f"{move.game_id} {move.from_phase} -> {move.to_phase}"
        left[move.game_id, move.from_phase] += 1
        if move.cause == "timer" and (move.deadline is None or move.at < move.deadline):
            yield Breach("never early", f"{name} at {move.at}, its deadline {move.deadline}")
        if move.cause == "all_submitted" and (move.from_phase != "drawing" or move.all_drew is False):
            yield Breach(
                "never early", f"{name} as if all had submitted, before its deadline {move.deadline}"
            )
        if last.setdefault(move.game_id, move.from_phase) != move.from_phase:
            yield Breach("never twice", f"{name}, but it was in {last[move.game_id]}")
        last[move.game_id] = move.to_phase
        hand = "orchestration" if move.cause == "timer" else move.handler
        if hand != enrolled.get(move.game_id, "legacy"):
            yield Breach("one hand", f"{name} by {hand}, it is enrolled with {enrolled.get(move.game_id)}")
        yield from _next_deadline(move, name)
    for (game, phase), times in left.items():
        if times > 1:
            yield Breach("never twice", f"{game} left {phase} {times} times")
    for game in books.games:
        if game.enrolled != "orchestration":
            continue
        if game.overdue is not None and game.overdue > expected.overdue:
            yield Breach("never lost", f"game {game.game_id} is {game.overdue:.1f} s overdue in {game.phase}")
        if game.live_phase is not None and game.live_phase != game.phase:
            yield Breach("never lost", f"game {game.game_id} is {game.phase}, we have {game.live_phase}")
        if game.game_id in last and last[game.game_id] != game.phase:
            yield Breach("seen", f"game {game.game_id} is {game.phase}, recorded is {last[game.game_id]}")
    made = sum(move.cause == "timer" for move in books.transitions)
    if made < expected.transitions:
        yield Breach("how much", f"{made} transitions by the timer, {expected.transitions} were due")


def _next_deadline(move: Transition, name: str) -> Iterator[Breach]:
    """The schedule goes on from the old deadline, unless more than a second late."""
    if move.cause != "timer" or move.next_deadline is None or move.seconds is None or move.deadline is None:
        return
    base = move.next_deadline - move.seconds
    if move.rebased:
        if move.at - move.deadline < SECOND or not move.deadline <= base <= move.at + ROUNDING:
            yield Breach("next deadline", f"{name} was rebased {move.at - move.deadline:.3f} s late")
    elif abs(base - move.deadline) > ROUNDING:
        yield Breach("next deadline", f"{name} goes on {base - move.deadline:+.4f} s from its old deadline")


def _told(books: Books) -> Iterator[Breach]:
    """Each transition of ours has its events, once."""
    told = Counter(
        (one.game_id, one.new_phase) for one in books.written if one.type == "phase_changed" and one.game_id
    )
    ended = Counter(one.game_id for one in books.written if one.type == "game_completed")
    ours = [move for move in books.transitions if move.handler == "orchestration"]
    made = Counter((move.game_id, move.to_phase) for move in ours)
    for key in made.keys() | told.keys():
        if made[key] != told[key]:
            yield Breach("never lost", f"game {key[0]} came to {key[1]} {made[key]} times, told {told[key]}")
    for game, times in Counter(move.game_id for move in ours if move.to_phase == "completed").items():
        if ended[game] != times:
            yield Breach(
                "never lost", f"game {game} was completed, game_completed written {ended[game]} times"
            )


# ----------------------------------------------------------------------------------------------------
# The voice


def _ledger(books: Books, expected: Expected) -> Iterator[Breach]:
    came = Counter(one.event_id for one in books.outcomes)
    known = {one.event_id for one in books.written}
    for event, times in came.items():
        if times > 1:
            yield Breach("books", f"event {event} has {times} outcomes")
        if event not in known:
            yield Breach("books", f"an outcome of {event}, which nobody wrote")
    waiting = [one for one in books.written if one.event_id not in came]
    if waiting and not expected.waiting:
        kinds = dict(Counter(one.type for one in waiting))
        yield Breach("never lost", f"{len(waiting)} events still wait: {kinds}")
    outcomes = Counter(one.outcome for one in books.outcomes)
    for one in books.outcomes:
        if one.outcome == "dead" and one.event_id not in expected.dead:
            yield Breach("no dead letter", f"event {one.event_id} was given up")
        if one.outcome == "expired" and not expected.expired and one.event_id not in expected.forgiven:
            yield Breach("never lost", f"event {one.event_id} expired")
    yield from _newest_expired(books)
    # What an outage outlasted is told by what came after it: it counts, but a third of a load is to be heard.
    told = outcomes["delivered"] + (outcomes["expired"] if expected.expired else len(expected.forgiven))
    if told < expected.delivered or outcomes["delivered"] < expected.delivered / 3:
        yield Breach(
            "how much",
            f"{outcomes['delivered']} events delivered, {outcomes['expired']} expired,"
            f" expected are {expected.delivered}",
        )


def _newest_expired(books: Books) -> Iterator[Breach]:
    """The newest phase_changed and game_completed of a game never lose their meaning, whatever is allowed."""
    outcome = {one.event_id: one.outcome for one in books.outcomes}
    place = {one.event_id: one.seq or 0 for one in books.numbered}
    newest: dict[tuple[str, str], tuple[float, str]] = {}
    for one in books.written:
        if one.type in ("phase_changed", "game_completed") and one.game_id is not None:
            # What has no place yet comes after all that have one.
            known = newest.get((one.game_id, one.type), (0.0, ""))
            newest[one.game_id, one.type] = max(known, (place.get(one.event_id, math.inf), one.event_id))
    for (game, kind), (_, event) in newest.items():
        if outcome.get(event) == "expired":
            yield Breach("never lost", f"the newest {kind} of game {game} expired")


def _places(books: Books) -> Iterator[Breach]:
    places: dict[str, list[int]] = defaultdict(list)
    numbered: Counter[str] = Counter()
    for one in books.numbered:
        numbered[one.event_id] += 1
        if one.game_id is not None:
            places[one.game_id].append(one.seq or 0)
    for event, times in numbered.items():
        if times > 1:
            yield Breach("in order", f"event {event} was numbered {times} times")
    for game, seqs in places.items():
        if sorted(seqs) != list(range(1, len(seqs) + 1)):
            yield Breach("in order", f"game {game} has the places {sorted(seqs)[:20]}")
    for outcome in books.outcomes:
        if outcome.event_id not in numbered:
            yield Breach("in order", f"event {outcome.event_id} has an outcome and no place")


def _heard(books: Books, expected: Expected) -> Iterator[Breach]:
    place = {one.event_id: one.seq for one in books.numbered}
    outcome = {one.event_id: one for one in books.outcomes}
    by_seq = {(one.game_id, one.seq): one.event_id for one in books.numbered if one.game_id}
    written = {one.event_id: one for one in books.written}
    taken: dict[tuple[str, str], set[str]] = defaultdict(set)
    last: dict[tuple[str, str | None], int] = defaultdict(int)
    for message in books.accepted:
        name = f"{message.type} {message.event_id} seq {message.seq} on {message.channel}"
        event = written.get(message.event_id)
        if event is None or message.channel not in event.channels:
            yield Breach("invented", f"{name} was sent, and nobody wrote it")
            continue
        if message.seq != place.get(message.event_id):
            yield Breach("in order", f"{name}, its place is {place.get(message.event_id)}")
        key = (message.channel, message.event_id)
        first = key not in taken
        taken[key].add(message.timetoken)
        if not first or message.replayed or message.seq is None:
            continue
        where = (message.channel, message.game_id)
        if message.seq <= last[where]:
            yield Breach("in order", f"{name} was first taken after seq {last[where]}")
        last[where] = max(last[where], message.seq)
        for between in range((message.after or 0) + 1, message.seq):
            missed = by_seq.get((message.game_id, between), "")
            if missed not in outcome or outcome[missed].outcome == "delivered":
                yield Breach("in order", f"{name} says after {message.after}, but {between} was delivered")
    if expected.record_whole:
        for one in books.outcomes:
            if one.outcome == "delivered":
                yield from _really_taken(one, written.get(one.event_id), taken)
    again = unexplained(books)
    if again.total() > expected.repeats:
        some = ", ".join(list(again)[-10:])
        yield Breach(
            "repeats", f"{again.total()} events were sent twice, at most {expected.repeats} may be: {some}"
        )


def _really_taken(
    one: Outcome, event: Written | None, taken: dict[tuple[str, str], set[str]]
) -> Iterator[Breach]:
    for channel in event.channels if event else ():
        if one.timetokens.get(channel) not in taken.get((channel, one.event_id), set()):
            yield Breach("never lost", f"event {one.event_id} counts as delivered on {channel}, but was not")


def _alone(books: Books) -> Iterator[Breach]:
    """A lane's epochs only rise: whoever lost it numbers nothing any more."""
    newest: dict[int, int] = defaultdict(int)
    for one in sorted(books.numbered, key=lambda each: each.at):
        if one.epoch < newest[one.lane]:
            yield Breach(
                "alone", f"lane {one.lane}: {one.event_id} in epoch {one.epoch} after {newest[one.lane]}"
            )
        newest[one.lane] = max(newest[one.lane], one.epoch)
