"""Is one message what clients can read? The envelope and the data fields by type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sketchy_orchestration.local.players.record import Heard, whole_number

VERSION = "2.0.0"
EPHEMERAL = frozenset({"server_timer_sync", "timer_sync", "connection_status", "test"})
"""Types that carry no `seq`: losing one loses nothing that the next does not say."""

# Clients drop what is older than five minutes or more than one minute in the future.
_OLDEST_S = 300
_NEWEST_S = 60

Check = Callable[[object], bool]


def moment(value: object) -> float | None:
    """An ISO 8601 text or milliseconds since the epoch as s since the epoch; None for anything else."""
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            return None
        return parsed.timestamp() if parsed.tzinfo is not None else None
    number = whole_number(value)
    return None if number is None else number / 1000


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _moment(value: object) -> bool:
    return moment(value) is not None


def _uuid(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _each(fields: Mapping[str, Check]) -> Check:
    return lambda value: (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(one, Mapping) and not _wrong(one, fields) for one in value)
    )


def _with(fields: Mapping[str, Check]) -> Check:
    return lambda value: isinstance(value, Mapping) and not _wrong(value, fields)


_PHASE: Check = _text
_DATA: Mapping[str, Mapping[str, Check]] = {
    "player_joined": {"username": _text, "joinedAt": _moment, "userId": _uuid, "isReady": _flag},
    "player_left": {"username": _text, "leftAt": _moment},
    "player_ready": {"username": _text, "isReady": _flag},
    "game_started": {
        "startedAt": _moment,
        "prompt": _text,
        "roundDuration": _number,
        "participants": _each({"userId": _uuid, "username": _text}),
    },
    "phase_changed": {
        "newPhase": _PHASE,
        "previousPhase": _PHASE,
        "phaseStartedAt": _moment,
        "transitionTriggeredBy": _text,
        "gameData": _with(
            {
                "prompt": _text,
                "maxPlayers": _number,
                "currentPlayers": _number,
                "phaseExpiresAt": _optional(_moment),
            }
        ),
    },
    "timer_sync": {
        "timeRemaining": _number,
        "phase": _PHASE,
        "serverTime": _moment,
        "totalDuration": _number,
    },
    "server_timer_sync": {
        "phaseStartedAt": _moment,
        "phaseDuration": _number,
        "serverTime": _moment,
        "timeRemaining": _number,
        "phase": _PHASE,
        "phaseExpiresAt": _moment,
    },
    "timer_expired": {
        "expiredPhase": _PHASE,
        "nextPhase": _PHASE,
        "expiredAt": _moment,
        "transitionTriggeredBy": _text,
    },
    "drawing_submitted": {"username": _text, "submissionId": _uuid, "submittedAt": _moment},
    "vote_cast": {"voterUsername": _text, "submissionId": _uuid, "votedAt": _moment},
    "game_completed": {
        "completedAt": _moment,
        "results": _each({"userId": _uuid, "username": _text, "voteCount": _number}),
    },
}

_ENVELOPE: Mapping[str, Check] = {
    "type": _text,
    "gameId": _uuid,
    "userId": _text,
    "timestamp": lambda value: whole_number(value) is not None,
    "version": lambda value: value == VERSION,
    "data": lambda value: isinstance(value, Mapping),
    "eventId": _uuid,
}
_SEQUENCED: Mapping[str, Check] = {
    "seq": lambda value: (whole_number(value) or 0) >= 1,
    "after": lambda value: (number := whole_number(value)) is not None and number >= 0,
    "occurredAt": _moment,
    "requestId": _text,
}


def _wrong(given: Mapping[str, object], fields: Mapping[str, Check]) -> list[str]:
    return [name for name, check in fields.items() if not check(given.get(name))]


def faults(heard: Heard, game_id: str) -> list[str]:
    """What is wrong with a message of this game; empty when clients can read it."""
    found = [f"{name} is {heard.message.get(name)!r}" for name in _wrong(heard.message, _ENVELOPE)]
    if heard.type not in EPHEMERAL:
        found += [f"{name} is {heard.message.get(name)!r}" for name in _wrong(heard.message, _SEQUENCED)]
    if heard.text("gameId") != game_id:
        found.append(f"gameId is {heard.message.get('gameId')!r}")
    # A message that was too large comes in its slim form and says so.
    if heard.message.get("truncated") is not True:
        data = heard.data
        found += [f"data.{name} is {data.get(name)!r}" for name in _wrong(data, _DATA.get(heard.type, {}))]
    sent = whole_number(heard.message.get("timestamp"))
    if sent is not None and not -_OLDEST_S <= sent / 1000 - heard.at <= _NEWEST_S:
        found.append(f"timestamp is {heard.at - sent / 1000:.1f} s before it was heard")
    return found
