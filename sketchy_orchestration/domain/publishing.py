"""What a failed publish means, when an event may be given up, and what lost its meaning while it waited."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Whose fault a failed publish is."""

    event = "event"  # this event's alone: it will never be accepted
    keyset = "keyset"  # wrong or suspended keys: no event's fault
    moment = "moment"  # time-outs, connections, overload: may pass


class Breakage(StrEnum):
    """How a request failed without an answer that can be read."""

    timeout = "timeout"
    connection = "connection"
    unreadable = "unreadable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed publish means.

    Attributes:
        fault: decides what happens: dead letter at once, the circuit opens, or try again.
        reason: one word or two for tables and metrics: too_large, invalid, credentials, suspended,
            timeout, connection, unreadable, throttled, server_error, redirected, refused.
        detail: what was answered or went wrong, shortened.
        retry_after: seconds the other side asked to wait; None when it did not ask.
    """

    fault: Fault
    reason: str
    detail: str
    retry_after: float | None = None


DETAIL_LIMIT = 300

_KEYSET_WORDS = re.compile(
    r"invalid\s+(\w+\s+)?key|invalid\s+signature|signature does not match|"
    r"invalid\s+(auth\s+)?token|token\s+(is\s+)?(expired|revoked)|not\s+authori[sz]ed|unauthori[sz]ed",
    re.IGNORECASE,
)
_SUSPENDED_WORDS = re.compile(
    r"suspend|deactivat|account\s+(is\s+)?(disabled|blocked)|key\s*set\s+(is\s+)?(disabled|blocked)",
    re.IGNORECASE,
)
_TOO_LARGE_WORDS = re.compile(r"too\s+(large|long|big)", re.IGNORECASE)


def of_answer(status: int, body: object, retry_after: float | None = None) -> Verdict:
    """The verdict on an answer that is no acceptance.

    `body` is the decoded JSON, or the raw text when it is not JSON. `retry_after` is in seconds.
    A refusal condemns the event only when it is certainly PubNub that speaks of this event: 413, 414 and 431
    by their meaning, 400 when the body has PubNub's own form. Any other 4xx (a proxy's 404, say) may pass.
    """
    text = said(body)
    detail = _shorten(f"{status} {text}".strip())
    if status in (401, 403) or (400 <= status < 500 and _KEYSET_WORDS.search(text)):
        reason = "suspended" if _SUSPENDED_WORDS.search(text) else "credentials"
        return Verdict(Fault.keyset, reason, detail)
    if status == 402 or (400 <= status < 500 and _SUSPENDED_WORDS.search(text)):
        return Verdict(Fault.keyset, "suspended", detail)
    if status in (413, 414, 431):
        return Verdict(Fault.event, "too_large", detail)
    if status == 400 and isinstance(body, list | dict):
        return Verdict(Fault.event, "too_large" if _TOO_LARGE_WORDS.search(text) else "invalid", detail)
    if status == 429:
        return Verdict(Fault.moment, "throttled", detail, retry_after)
    if status == 408:
        return Verdict(Fault.moment, "timeout", detail, retry_after)
    if status >= 500:
        return Verdict(Fault.moment, "server_error", detail, retry_after)
    if 300 <= status < 400:
        return Verdict(Fault.moment, "redirected", detail, retry_after)
    if 200 <= status < 300:
        # PubNub refuses with 0 in the first place, in old answers even under a 200.
        if isinstance(body, list) and body[:1] == [0] and _KEYSET_WORDS.search(text):
            return Verdict(Fault.keyset, "credentials", detail)
        return Verdict(Fault.moment, "unreadable", detail, retry_after)
    return Verdict(Fault.moment, "refused", detail, retry_after)


def of_breakage(breakage: Breakage, detail: str) -> Verdict:
    """The verdict on a request that got no readable answer: the moment's fault, whatever the cause."""
    return Verdict(Fault.moment, breakage.value, _shorten(detail))


def of_unsendable(reason: str, detail: str) -> Verdict:
    """The verdict on an event that cannot even be put into a request (not JSON, too large, a bad channel)."""
    return Verdict(Fault.event, reason, _shorten(detail))


def said(body: object) -> str:
    """What an error body says, in words, whichever of PubNub's forms it has."""
    if isinstance(body, str):
        return " ".join(body.split())
    if isinstance(body, list):
        return " ".join(str(part) for part in body if isinstance(part, str) and not part.isdigit())
    if isinstance(body, Mapping):
        named = [body[key] for key in ("message", "error_message", "error") if isinstance(body.get(key), str)]
        return " ".join(named) if named else json.dumps(body, default=str)
    return "" if body is None else str(body)


def _shorten(text: str) -> str:
    return text if len(text) <= DETAIL_LIMIT else text[: DETAIL_LIMIT - 1] + "…"


# ---------------------------------------------------------------------------------------------------------
# Giving up

# The chance, at most, that an event given up was merely unlucky in a storm that hit everybody.
_UNLUCKY = 1e-6
# When this share of the others' attempts fails, no failure proves anything about one event.
_STORM = 0.5
# Fewer attempts of others than this prove nothing either.
ENOUGH_OTHERS = 8


def attempts_needed(allowed: int, others_failed: int, others_tried: int) -> int | None:
    """How many failed attempts prove that the moment's failures are this event's own.

    `others_failed` of `others_tried` attempts for other games have failed since this event's first failure.
    At least `allowed` attempts; more in a storm, or while few others were tried, so that mere bad luck kills
    less than one event in a million; None (never) when at least half the others fail too or too few were
    tried: then it may be the keyset that fails, and that costs no event an attempt.
    """
    if others_tried < ENOUGH_OTHERS or others_failed >= _STORM * others_tried:
        return None
    # Any share of failures may lie behind what was seen, a large one behind few attempts too. Averaged over
    # all shares by how well they explain it, the chance of one more failure after `needed` of them is:
    needed, unlucky = 0, 1.0
    while unlucky > _UNLUCKY:
        unlucky *= (others_failed + 1 + needed) / (others_tried + 2 + needed)
        needed += 1
    return max(allowed, needed)


# ---------------------------------------------------------------------------------------------------------
# Losing meaning


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that waits to be sent; `age` is seconds since it occurred."""

    event_id: str
    type: str
    user_id: str
    age: float


# Seconds an event keeps its meaning although something newer has overtaken it.
LIFETIMES: Mapping[str, float] = {
    "player_joined": 60,
    "player_left": 60,
    "player_ready": 30,
    "game_started": 60,
    "phase_changed": 30,
    "timer_expired": 30,
    "drawing_submitted": 30,
    "vote_cast": 30,
    "connection_status": 30,
    "timer_sync": 10,
    "server_timer_sync": 10,
    "game_completed": 300,
    "test": 60,
}
# These mean nothing once they are old, overtaken or not.
_FLEETING = frozenset({"timer_sync", "server_timer_sync", "connection_status", "test"})
# What overtakes an event of a type, beside a newer one of the same type for the types in _REPLACED.
_ENDS_PHASE = frozenset({"phase_changed", "game_completed"})
_OVERTAKEN_BY: Mapping[str, frozenset[str]] = {
    "player_ready": frozenset({"game_started", *_ENDS_PHASE}),
    "player_joined": frozenset({"game_completed"}),
    "player_left": frozenset({"game_completed"}),
    "game_started": _ENDS_PHASE,
    "timer_expired": _ENDS_PHASE,
    "drawing_submitted": _ENDS_PHASE,
    "vote_cast": _ENDS_PHASE,
}
_REPLACED = frozenset({"phase_changed", "game_completed", "timer_expired"})
_REPLACED_PER_USER = frozenset({"player_ready"})


def expired(waiting: Sequence[Waiting]) -> list[str]:
    """Which of one game's waiting events (in `seq` order) have lost their meaning, by their ids.

    An event expires when it is older than its type's lifetime and something newer among `waiting` has
    overtaken it; fleeting types expire by age alone. The newest phase_changed and the newest game_completed
    never do, and neither does a type that is not known here. A window of the waiting events is enough: what
    overtakes an event is in it.
    """
    gone: list[str] = []
    newer: set[str] = set()
    newer_of_user: set[tuple[str, str]] = set()
    for event in reversed(waiting):
        lifetime = LIFETIMES.get(event.type)
        if lifetime is not None and event.age > lifetime and _overtaken(event, newer, newer_of_user):
            gone.append(event.event_id)
        newer.add(event.type)
        newer_of_user.add((event.type, event.user_id))
    gone.reverse()
    return gone


def _overtaken(event: Waiting, newer: set[str], newer_of_user: set[tuple[str, str]]) -> bool:
    if event.type in _FLEETING:
        return True
    if event.type in _REPLACED and event.type in newer:
        return True
    if event.type in _REPLACED_PER_USER and (event.type, event.user_id) in newer_of_user:
        return True
    return not newer.isdisjoint(_OVERTAKEN_BY.get(event.type, frozenset()))
