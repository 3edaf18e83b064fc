"""When to stop publishing and when to begin again.

Three questions, three parts: what one relay has seen of its own way out (`Evidence`), what the relays
conclude together (`conclude`), and the one circuit of the keyset that they share (`Circuit`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sketchy_orchestration.domain.publishing import Fault, Verdict

# ---------------------------------------------------------------------------------------------------------
# One relay's way out


class WayOut(StrEnum):
    """Whether publishes of one relay get through."""

    unknown = "unknown"
    works = "works"
    fails = "fails"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a relay's way out counts as failing.

    Attributes:
        failures: transient failures in a row, without one acceptance between them.
        refusals: refused events in a row (each of them looked like its own event's fault).
        games: different games that these must come from, so that one bad channel is not an outage.
        window: seconds that an attempt is remembered as evidence.
        most: attempts remembered at most.
    """

    failures: int = 6
    refusals: int = 12
    games: int = 3
    window: float = 30.0
    most: int = 400


class Evidence:
    """What one relay has lately seen; the time (seconds, monotonic) is its caller's.

    Attributes:
        worked_at: when something was last accepted.
    """

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self._limits = thresholds or Thresholds()
        self._recent: deque[tuple[float, str, bool]] = deque(maxlen=self._limits.most)
        self._row: deque[tuple[str, Verdict]] = deque(maxlen=self._limits.most)
        self._condemned: str | None = None
        self._seen_at: float | None = None
        self.worked_at: float | None = None

    def accepted(self, game: str, now: float) -> None:
        """A publish for `game` was accepted: the way out works."""
        self._note(game, False, now)
        self._row.clear()
        self._condemned = None
        self.worked_at = now

    def failed(self, game: str, verdict: Verdict, now: float) -> None:
        """A publish for `game` failed."""
        # A refusal of one event is an answer: it says nothing against the way out until many come in a row.
        # Nor does one of the keys: a check tells whether they are wrong, or only may not use this channel.
        self._note(game, verdict.fault is not Fault.event, now)
        self._row.append((game, verdict))

    def check_failed(self, verdict: Verdict, now: float) -> None:
        """A check on a neutral channel failed: no game's fault, so the way out fails."""
        self._seen_at = now
        self._condemned = verdict.reason

    def check_accepted(self, now: float) -> None:
        """A check on a neutral channel was accepted: what fails, fails by itself."""
        self.accepted("", now)

    def way_out(self, now: float) -> WayOut:
        """What all this says; unknown when nothing was tried within the window."""
        if self.reason() is not None:
            return WayOut.fails
        if self._seen_at is None or now - self._seen_at > self._limits.window:
            return WayOut.unknown
        accepted = any(not bad and now - at <= self._limits.window for at, _, bad in self._recent)
        return WayOut.works if accepted else WayOut.unknown

    def reason(self) -> str | None:
        """Why the way out fails; None when it does not.

        credentials, suspended, refusals, or the last transient reason (timeout, server_error …).
        """
        if self._condemned is not None:
            return self._condemned
        if self._in_a_row(Fault.moment, self._limits.failures, self._limits.games):
            return next(verdict.reason for _, verdict in reversed(self._row) if verdict.fault is Fault.moment)
        if self._in_a_row(Fault.event, self._limits.refusals, self._limits.games):
            return "refusals"
        return None

    def others(self, game: str, now: float, since: float = float("-inf")) -> tuple[int, int]:
        """Attempts for games other than `game` within the window: how many failed, of how many.

        Args:
            since: only those that ended after this moment; what went well before a storm proves nothing.
        """
        since = max(since, now - self._limits.window)
        seen = [bad for at, tried, bad in self._recent if tried != game and at >= since]
        return sum(seen), len(seen)

    def forget(self) -> None:
        """Start anew, as after the circuit has closed."""
        self._recent.clear()
        self._row.clear()
        self._condemned = None
        self._seen_at = None

    def _note(self, game: str, bad: bool, now: float) -> None:
        self._recent.append((now, game, bad))
        self._seen_at = now

    def _in_a_row(self, fault: Fault, count: int, games: int) -> bool:
        tried = [game for game, verdict in self._row if verdict.fault is fault]
        return len(tried) >= count and len(set(tried)) >= games


# ---------------------------------------------------------------------------------------------------------
# What the relays conclude together


class Conclusion(StrEnum):
    """What a relay does about its way out."""

    carry_on = "carry_on"
    check = "check"  # another fails: it must know whether we get through
    wait = "wait"  # sends nothing until the others have said how they fare
    open = "open"  # the keyset fails: open its circuit
    give_up_lanes = "give_up_lanes"  # only our own way out fails: others shall send


@dataclass(frozen=True, slots=True)
class Report:
    """What a relay tells the others.

    Attributes:
        way_out: how it fares.
        since: since when (the database's clock).
        worked_at: when something of its was last accepted.
    """

    way_out: WayOut
    since: datetime
    worked_at: datetime | None = None


# Longer than a heartbeat, a check and a heartbeat back.
PATIENCE = timedelta(seconds=3)


def conclude(
    own: Report, others: Sequence[Report], now: datetime, patience: timedelta = PATIENCE
) -> Conclusion:
    """What a relay does, given its own report and those of the other live relays.

    The keyset fails only if no live relay gets through: so the circuit opens at once when all of them fail
    (or there is no other), and lanes are given up when another was heard of as working after our failure
    began. Others that have not said anything newer than that are given `patience`: whoever has had nothing
    accepted since another began to fail checks.
    """
    if own.way_out is not WayOut.fails:
        unanswered = any(
            other.way_out is WayOut.fails and not _worked_after(own, other.since) for other in others
        )
        return Conclusion.check if unanswered else Conclusion.carry_on
    if any(other.way_out is WayOut.works and _worked_after(other, own.since) for other in others):
        return Conclusion.give_up_lanes
    if all(other.way_out is WayOut.fails for other in others) or now - own.since >= patience:
        return Conclusion.open
    return Conclusion.wait


def _worked_after(report: Report, moment: datetime) -> bool:
    return report.worked_at is not None and report.worked_at > moment


# ---------------------------------------------------------------------------------------------------------
# The keyset's circuit


class State(StrEnum):
    """Whether events are sent (closed), wait (open), or one is tried (half open)."""

    closed = "closed"
    open = "open"
    half_open = "half_open"


@dataclass(frozen=True, slots=True)
class Circuit:
    """The circuit as the database keeps it; every change raises `epoch`, and only if nobody was faster.

    Attributes:
        since: closed since, or not closed since.
        probe_holder: who probes (half-open) or probed last.
        probe_at: when the last probe began.
    """

    state: State
    since: datetime
    epoch: int
    reason: str | None = None
    probe_holder: str | None = None
    probe_at: datetime | None = None


# A probe waits a quarter of the time the circuit has been open already, within these bounds (seconds).
_PROBE_SHARE = 0.25
_PROBE_SOONEST = 0.25
_PROBE_LATEST = 5.0


def opened(circuit: Circuit, reason: str, now: datetime) -> Circuit | None:
    """Closed → open. None when it is not closed: then somebody else has opened it."""
    if circuit.state is not State.closed:
        return None
    return Circuit(State.open, now, circuit.epoch + 1, reason)


def next_probe(circuit: Circuit, probe_limit: timedelta) -> datetime | None:
    """When somebody may probe; None when closed.

    Open: after a pause that grows with the time it has been open. Half-open: when the one who probes has
    had `probe_limit` and must have died.
    """
    if circuit.state is State.closed:
        return None
    if circuit.state is State.half_open:
        return (circuit.probe_at or circuit.since) + probe_limit
    last = circuit.probe_at or circuit.since
    open_for = (last - circuit.since).total_seconds()
    return last + timedelta(seconds=min(_PROBE_LATEST, max(_PROBE_SOONEST, open_for * _PROBE_SHARE)))


def probing(circuit: Circuit, holder: str, now: datetime, probe_limit: timedelta) -> Circuit | None:
    """Open → half-open with `holder` as the only one who probes. None when it is not yet time or closed."""
    due = next_probe(circuit, probe_limit)
    if due is None or now < due:
        return None
    return replace(circuit, state=State.half_open, epoch=circuit.epoch + 1, probe_holder=holder, probe_at=now)


def probe_accepted(circuit: Circuit, holder: str, now: datetime) -> Circuit | None:
    """Half-open → closed. None when somebody else probes by now."""
    if circuit.state is not State.half_open or circuit.probe_holder != holder:
        return None
    return Circuit(State.closed, now, circuit.epoch + 1)


def probe_failed(circuit: Circuit, holder: str, reason: str | None) -> Circuit | None:
    """Half-open → open again, with the newest reason. None when somebody else probes by now.

    Args:
        reason: why it failed; None when it could not be tried, which leaves what was known.
    """
    if circuit.state is not State.half_open or circuit.probe_holder != holder:
        return None
    return replace(circuit, state=State.open, epoch=circuit.epoch + 1, reason=reason or circuit.reason)
