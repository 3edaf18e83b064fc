"""Judges one game: what was heard against what was done. Pure: no clock, no network, no database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sketchy_orchestration.local.players import deadlines, results
from sketchy_orchestration.local.players.expected import (
    LAST_PHASES,
    ON_PRESENCE,
    expected,
    key,
    path,
    request_ids,
)
from sketchy_orchestration.local.players.fields import EPHEMERAL, faults
from sketchy_orchestration.local.players.record import DeedKind, GameRecord, Heard, Rules, Violation

# Words of a cause that no deadline binds: a person or the application moved the game.
_BY_HAND = frozenset({"application", "operator", "recovery"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of checking one game.

    Attributes:
        expected, heard: events that had to be heard on the game's channel, and those of them that were.
        repeats: messages recognised as heard before by their `eventId`.
        given_up: events that `after` says will never come.
    """

    violations: list[Violation]
    expected: int
    heard: int
    repeats: int
    given_up: int


def check(record: GameRecord, rules: Rules | None = None) -> Verdict:
    """Every broken promise in one finished game."""
    return _Case(record, rules or Rules()).verdict()


class _Case:
    def __init__(self, record: GameRecord, rules: Rules) -> None:
        self.record = record
        self.rules = rules
        self.violations: list[Violation] = []
        self.repeats = 0
        self.given_up = 0

    def verdict(self) -> Verdict:
        record = self.record
        game_channel, presence_channel = f"game-{record.game_id}", f"presence-{record.game_id}"
        on_game = self._first_hearings(game_channel)
        if self.rules.complete:
            for heard in on_game:
                if wrong := faults(heard, record.game_id):
                    self._broken("malformed", f"{_name(heard)}: {', '.join(wrong)}")
            self._check_order(game_channel, on_game, gap_free=True)
            on_presence = self._first_hearings(presence_channel)
            self._check_order(presence_channel, on_presence, gap_free=False)
            self._check_presence(on_game, on_presence)
            self._check_request_ids(on_game)
        must, told = self._check_facts(on_game)
        self._check_deadlines()
        self._check_end(on_game)
        for failure in record.failures:
            self._broken("statement_failed", failure)
        return Verdict(self.violations, must, told, self.repeats, self.given_up)

    def _broken(self, kind: str, text: str) -> None:
        self.violations.append(Violation(kind, self.record.game_id, text))

    def _first_hearings(self, channel: str) -> list[Heard]:
        """Messages of a channel without those whose `eventId` was heard there before."""
        seen: set[str] = set()
        first = []
        for heard in self.record.heard:
            if heard.channel != channel:
                continue
            event_id = heard.event_id
            if event_id is not None and event_id in seen:
                self.repeats += 1
                # A replay by an operator says of itself that it is one.
                if not self.rules.repeats_allowed and heard.message.get("replayed") is not True:
                    self._broken("doubled", f"{_name(heard)} heard again on {channel}")
                continue
            if event_id is not None:
                seen.add(event_id)
            first.append(heard)
        return first

    def _check_order(self, channel: str, heard_there: list[Heard], *, gap_free: bool) -> None:
        last = 0
        for heard in heard_there:
            seq, after = heard.seq, heard.after
            if seq is None or heard.message.get("replayed") is True:
                continue
            if seq <= last:
                self._broken("reordered", f"{_name(heard)} heard on {channel} after seq {last}")
                continue
            if gap_free and after != last:
                self._broken("gap", f"{_name(heard)} says after {after}, but {last} was heard before it")
            elif gap_free and seq != last + 1:
                self.given_up += seq - last - 1
                if not self.rules.given_up_allowed:
                    self._broken("gap", f"{_name(heard)} follows seq {last}: those between were given up")
            last = seq

    def _check_presence(self, on_game: list[Heard], on_presence: list[Heard]) -> None:
        wanted = Counter(heard.event_id for heard in on_game if heard.type in ON_PRESENCE)
        told = Counter(heard.event_id for heard in on_presence)
        for event_id in wanted - told:
            self._broken("lost", f"event {event_id} was not heard on presence-{self.record.game_id}")
        for event_id in told - wanted:
            self._broken("unexpected", f"event {event_id} was heard on presence-{self.record.game_id} only")

    def _check_request_ids(self, on_game: list[Heard]) -> None:
        carried = request_ids(self.record)
        for heard in on_game:
            sent, told = carried.get(key(heard)), heard.message.get("requestId")
            if sent is not None and told != sent:
                self._broken("malformed", f"{_name(heard)} carries requestId {told!r}, {sent!r} was sent")

    def _check_facts(self, on_game: list[Heard]) -> tuple[int, int]:
        must = expected(self.record, self.rules)
        told = Counter(key(heard) for heard in on_game if heard.type not in EPHEMERAL)
        slim = sum(heard.message.get("truncated") is True for heard in on_game)
        for what, count in (must - told).items():
            if slim and what[0] == "game_started":
                continue
            self._broken("lost", f"{' '.join(what).strip()} was never heard" + (f" ({count})" * (count > 1)))
        for what, count in (told - must).items():
            if not self.rules.complete and what not in must:
                continue
            name = " ".join(what).strip()
            if what in must:
                self._broken("doubled", f"{name} was told {count + must[what]} times as different events")
            elif not self._harmless(what):
                self._broken("unexpected", f"{name} was heard, but nobody did it")
        return must.total(), (must & told).total()

    def _harmless(self, what: tuple[str, str]) -> bool:
        kind, which = what
        if kind in ("phase_changed", "timer_expired") and path(self.record) is None:
            return True  # How a game that did not end was to go on, nobody can say.
        # When drawing ends by the last drawing at the deadline itself, either cause may be told.
        return kind == "timer_expired" and which == "drawing"

    def _check_deadlines(self) -> None:
        for ending in deadlines.endings(self.record):
            if ending.cause in _BY_HAND or ending.heard.data.get("newPhase") == "cancelled":
                continue
            if ending.cause == "all_submitted" and ending.phase == "drawing":
                if missing := self._missing_drawings(ending.heard.at):
                    who = ", ".join(sorted(missing))
                    self._broken("early", f"drawing ended as all had submitted, but not {who}")
                continue
            if ending.deadline is None:
                continue
            early = ending.deadline - ending.heard.at
            if early > self.rules.clock_tolerance_s:
                self._broken("early", f"the end of {ending.phase} was heard {early * 1000:.0f} ms too early")

    def _missing_drawings(self, moment: float) -> set[str]:
        record = self.record
        active = {str(deed.user_id) for deed in record.deeds_of(DeedKind.joined)}
        gone = {str(deed.user_id) for deed in record.deeds_of(DeedKind.left) if deed.began <= moment}
        drew = {str(deed.user_id) for deed in record.deeds_of(DeedKind.drew) if deed.began <= moment}
        return active - gone - drew

    def _check_end(self, on_game: list[Heard]) -> None:
        final = self.record.final
        way = path(self.record)
        if (final is not None and final.status not in LAST_PHASES) or way is None:
            status = final.status if final is not None else "unknown"
            self._broken("unfinished", f"it is still {status}")
            return
        for heard in self._told_completed(on_game):
            if why := results.fault(self.record, heard, self.rules):
                self._broken("wrong_result", why)

    def _told_completed(self, on_game: list[Heard]) -> Iterator[Heard]:
        for heard in on_game:
            if heard.type == "game_completed" and heard.message.get("truncated") is not True:
                yield heard


def _name(heard: Heard) -> str:
    seq = f" seq {heard.seq}" if heard.seq is not None else ""
    return f"{heard.type or 'message'}{seq} ({heard.event_id})"
