"""broadcast-pubnub-event: into the outbox, and what became of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from sketchy_orchestration.database.gateway import AcceptedEvent, Outcome
from sketchy_orchestration.domain import envelope
from sketchy_orchestration.gateway.callers import Kind
from sketchy_orchestration.gateway.failures import RequestError, answer
from sketchy_orchestration.gateway.parts import gateway_of, request_id, time_left
from sketchy_orchestration.gateway.schemas import BroadcastRequest

_MARGIN = 0.5
# The longest numbers a game can get to; the real ones are known only after the event is in the outbox.
_SEQ = 10**12
_ANY_UUID = "00000000-0000-0000-0000-000000000000"
_WAIT = re.compile(r"\bwait\s*=\s*\"?([0-9]{1,4})\b", re.IGNORECASE)
_ASYNC = re.compile(r"\brespond-async\b", re.IGNORECASE)


async def broadcast(request: Request) -> Response:
    """Answers 200 with the timetokens, or 202 when the event waits still (or respond-async was asked)."""
    gateway = gateway_of(request)
    await gateway.admit(request, Kind.service)
    event = await gateway.body(request, BroadcastRequest)
    identity = request_id(request)
    _check_size(event, identity)
    accepted = await gateway.database.accept_event(
        game_id=event.game,
        subject=event.game_id,
        kind=event.type,
        user_id=event.user_id,
        data=event.data,
        request_id=identity,
    )
    if accepted is None:
        raise RequestError(400, "unknown_game", "there is no game with this gameId")
    prefer = request.headers.get("prefer", "")
    if _ASYNC.search(prefer):
        return _told(accepted, None, identity, {"Preference-Applied": "respond-async"})
    patience = min(gateway.settings.gateway_delivery_seconds, time_left(request) - _MARGIN)
    applied = {}
    if asked := _WAIT.search(prefer):
        patience = min(patience, float(asked[1]))
        applied = {"Preference-Applied": f"wait={asked[1]}"}
    outcome = await gateway.outcomes.wait(accepted, max(0.0, patience))
    return _told(accepted, outcome, identity, applied)


def _told(
    accepted: AcceptedEvent, outcome: Outcome | None, identity: str, headers: dict[str, str]
) -> Response:
    if outcome is not None and outcome.outcome == "dead":
        raise RequestError(
            502,
            "event_given_up",
            f"PubNub did not take event {accepted.event_id} after {outcome.attempts} attempts",
        )
    return answer(
        {
            "success": outcome is None or outcome.outcome == "delivered",
            "state": "waiting" if outcome is None else outcome.outcome,
            "eventId": accepted.event_id,
            "channels": accepted.channels,
            "timetokens": {name: str(token) for name, token in outcome.timetokens.items()} if outcome else {},
            "requestId": identity,
        },
        202 if outcome is None else 200,
        headers,
    )


def _check_size(event: BroadcastRequest, identity: str) -> None:
    named = envelope.channels(event.type, event.game_id, event.user_id)
    placed = None if event.type == "test" else _SEQ
    built = envelope.message(
        envelope.Event(
            event_id=_ANY_UUID,
            game_id=None if event.type == "test" else event.game_id,
            type=event.type,
            user_id=event.user_id,
            occurred_at=datetime.now(UTC),
            request_id=identity,
            data=event.data,
            seq=placed,
            after=placed,
        ),
        _SEQ,
    )
    longest = max(named, key=len)
    if not envelope.fits(longest, built):
        raise RequestError(
            413,
            "event_too_large",
            f"PubNub takes {envelope.MESSAGE_LIMIT} bytes, URL-encoded; this event has "
            f"{envelope.encoded_size(longest, built)}",
        )
