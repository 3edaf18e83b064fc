"""game-events: what a player missed."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from sketchy_orchestration.database.gateway import GameEvent
from sketchy_orchestration.domain import envelope
from sketchy_orchestration.gateway.callers import Kind
from sketchy_orchestration.gateway.failures import answer
from sketchy_orchestration.gateway.parts import gateway_of
from sketchy_orchestration.gateway.schemas import EventsRequest
from sketchy_orchestration.gateway.timers import timer_of


async def game_events(request: Request) -> Response:
    """A game's events after a `seq`, whole, each with what became of it."""
    gateway = gateway_of(request)
    player = await gateway.admit(request, Kind.player)
    asked = await gateway.body(request, EventsRequest)
    timer = await timer_of(gateway, asked.game_id, player)
    found = await gateway.database.events_after(asked.game_id, asked.after, asked.limit)
    last = await gateway.database.last_seq(asked.game_id)
    events = found[: asked.limit]
    first = events[0].seq if events else last + 1
    return answer(
        {
            "gameId": str(asked.game_id),
            "events": [{"state": e.state, "event": _message(e, str(asked.game_id))} for e in events],
            "lastSeq": last,
            "more": len(found) > asked.limit,
            "complete": first == asked.after + 1 or last <= asked.after,
            "serverTime": envelope.iso(timer.server_time),
        }
    )


def _message(event: GameEvent, game_id: str) -> dict[str, object]:
    """As published; while it waits, its moment is that of its occurrence and what it follows is not known."""
    told = envelope.message(
        envelope.Event(
            event_id=event.event_id,
            game_id=game_id,
            type=event.type,
            user_id=event.user_id,
            occurred_at=event.occurred_at,
            request_id=event.request_id,
            data=event.data,
            seq=event.seq,
            after=event.after_seq,
        ),
        _moment(event),
    )
    if event.after_seq is None:
        del told["after"]
    return told


def _moment(event: GameEvent) -> int:
    """Ms since 1970: of PubNub's acceptance, whose timetoken counts 100 ns, else of the occurrence."""
    tokens = [int(str(token)) for token in event.timetokens.values() if str(token).isdecimal()]
    return min(tokens) // 10_000 if tokens else round(event.occurred_at.timestamp() * 1000)
