"""An in-memory stand-in of PubNub: what it takes, refuses, delays, and answers that get lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from sketchy_orchestration.domain import publishing
from sketchy_orchestration.domain.publishing import Breakage, Verdict
from tests.faults.invariants import Accepted

ATTEMPT_LIMIT = 10.0

REFUSALS: dict[str, tuple[int, object]] = {
    "server_error": (503, "Service Unavailable"),
    "throttled": (429, {"message": "Too Many Requests"}),
    "credentials": (403, {"message": "Forbidden", "error": True}),
    "invalid_key": (400, [0, "Invalid Key", "1"]),
}


@dataclass(slots=True)
class Service:
    """One keyset.

    Attributes:
        mood: what it does with publishes: None takes them; a name of REFUSALS; "silent" never answers.
        share: of the publishes that the mood meets. lost: share of answers that get lost.
        poison: events it will never take.
    """

    random: Random
    mood: str | None = None
    share: float = 1.0
    lost: float = 0.0
    poison: set[str] = field(default_factory=set)
    answers_lost: int = 0
    accepted: list[Accepted] = field(default_factory=list)

    def publish(self, message: Accepted) -> tuple[float, str | Verdict]:
        """Seconds until the answer, and it: a timetoken or the verdict on its failure."""
        took, refusal = self.probe()
        if isinstance(refusal, Verdict):
            return took, refusal
        if message.event_id in self.poison:
            return took, publishing.of_answer(400, [0, "Message Rejected", "1"])
        token = str(len(self.accepted) + 1)
        self.accepted.append(
            Accepted(
                message.channel,
                message.event_id,
                message.type,
                message.game_id,
                message.seq,
                message.after,
                token,
                False,
            )
        )
        if self.random.random() < self.lost:
            self.answers_lost += 1
            return took, publishing.of_breakage(Breakage.connection, "reset")
        return took, token

    def probe(self) -> tuple[float, str | Verdict]:
        """What a publish on a neutral channel would get now."""
        took = 0.002 + 0.02 * self.random.random() ** 4
        if self.mood is None or self.random.random() >= self.share:
            return took, ""
        if self.mood == "silent":
            return ATTEMPT_LIMIT, publishing.of_breakage(Breakage.timeout, "no answer")
        status, body = REFUSALS[self.mood]
        return took, publishing.of_answer(status, body, 0.5 if status == 429 else None)
