"""An in-memory stand-in of PubNub: what it takes, refuses, delays, and answers that get lost.

It goes through the publishers' cases too (`tests/integration/publisher/test_conformance.py`), except those of
bodies and connections, of which it has none: what can be sent is decided before anything is asked.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from enum import Enum
from random import Random

from sketchy_orchestration.domain import publishing
from sketchy_orchestration.domain.publishing import Breakage, Verdict
from tests.faults.invariants import Accepted

ATTEMPT_LIMIT = 10.0

FIRST_TIMETOKEN = 17_000_000_000_000_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no acceptance; `retry_after` in seconds."""

    status: int
    body: object
    retry_after: float | None = None


class Silence(Enum):
    """How there is no answer."""

    hang = "never any"
    cut = "the connection breaks before the message arrives"
    lost = "it breaks after the message was taken"


Fault = Refusal | Silence

MOODS: dict[str, Fault] = {
    "server_error": Refusal(503, "Service Unavailable"),
    "throttled": Refusal(429, {"message": "Too Many Requests"}, 0.5),
    "credentials": Refusal(403, {"message": "Forbidden", "error": True}),
    "invalid_key": Refusal(400, [0, "Invalid Key", "1"]),
    "silent": Silence.hang,
    "unreachable": Silence.cut,
}


@dataclass(slots=True)
class Service:
    """One keyset.

    Attributes:
        mood: what it does with publishes: None takes them, or a name of MOODS.
        share: of the publishes that the mood meets. lost: share of answers that get lost.
        script: what the next publishes meet, before any mood.
        poison: events it will never take.
        unanswered: by channel and event, messages that were taken without an answer.
    """

    random: Random
    mood: str | None = None
    share: float = 1.0
    lost: float = 0.0
    script: deque[Fault] = field(default_factory=deque)
    poison: set[str] = field(default_factory=set)
    unanswered: Counter[tuple[str, str]] = field(default_factory=Counter)
    accepted: list[Accepted] = field(default_factory=list)

    def publish(self, message: Accepted, limit: float = ATTEMPT_LIMIT) -> tuple[float, str | Verdict]:
        """Seconds until the answer, and it: a timetoken or the verdict on its failure."""
        took, fault = self._meets()
        if fault is not None and fault is not Silence.lost:
            return _failure(took, fault, limit)
        if message.event_id in self.poison:
            return took, publishing.of_answer(400, [0, "Message Rejected", "1"])
        token = str(FIRST_TIMETOKEN + len(self.accepted))
        self.accepted.append(replace(message, timetoken=token))
        if fault is None:
            return took, token
        self.unanswered[message.channel, message.event_id] += 1
        return _failure(took, fault, limit)

    def probe(self) -> tuple[float, str | Verdict]:
        """What a publish on a neutral channel would get now."""
        took, fault = self._meets()
        return (took, "") if fault is None else _failure(took, fault, ATTEMPT_LIMIT)

    def _meets(self) -> tuple[float, Fault | None]:
        took = 0.002 + 0.02 * self.random.random() ** 4
        if self.script:
            return took, self.script.popleft()
        if self.mood is not None and self.random.random() < self.share:
            return took, MOODS[self.mood]
        return took, Silence.lost if self.lost and self.random.random() < self.lost else None


def _failure(took: float, fault: Fault, limit: float) -> tuple[float, Verdict]:
    if isinstance(fault, Refusal):
        return took, publishing.of_answer(fault.status, fault.body, fault.retry_after)
    if fault is Silence.hang:
        return limit, publishing.of_breakage(Breakage.timeout, f"no answer within {limit:g} s")
    return took, publishing.of_breakage(Breakage.connection, fault.value)
