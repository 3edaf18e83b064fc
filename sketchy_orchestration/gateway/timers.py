"""monitor-game-timers and get-game-timer."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from sketchy_orchestration import __version__
from sketchy_orchestration.database.gateway import GameTimer
from sketchy_orchestration.domain.envelope import iso
from sketchy_orchestration.gateway.callers import Caller, Kind
from sketchy_orchestration.gateway.failures import RequestError, answer
from sketchy_orchestration.gateway.parts import Gateway, gateway_of, request_id
from sketchy_orchestration.gateway.schemas import GameRequest


async def monitor_game_timers(request: Request) -> Response:
    """One pass of the timer; a second one at the same time answers skipped."""
    gateway = gateway_of(request)
    await gateway.admit(request, Kind.cron)
    began = time.perf_counter()
    identity = request_id(request)
    made = await gateway.database.timer_pass(identity)
    told: dict[str, object] = {
        "processed": made.processed,
        "errors": made.errors,
        "skipped": made.skipped or made.switched_off,
        "executionTime": round((time.perf_counter() - began) * 1000, 3),
        "timestamp": iso(datetime.now(UTC)),
        "requestId": identity,
        "environment": str(gateway.settings.environment),
        "version": __version__,
        "metrics": {
            "lockAcquisitionTime": round(made.lock_ms, 3),
            "queryTime": round(made.query_ms, 3),
            "processingTime": round(made.processing_ms, 3),
            "broadcastTime": 0,
        },
    }
    if made.skipped:
        told["message"] = "another pass is at work"
    elif made.switched_off:
        told["message"] = "the timer is switched off (flag timer_monitoring)"
    return answer(told)


async def get_game_timer(request: Request) -> Response:
    """A game's clock for one of its players."""
    gateway = gateway_of(request)
    player = await gateway.admit(request, Kind.player)
    asked = await gateway.body(request, GameRequest)
    timer = await timer_of(gateway, asked.game_id, player)
    return answer(
        {
            "timeRemaining": timer.time_remaining,
            "phaseDuration": timer.phase_duration,
            "phaseExpiresAt": iso(timer.phase_expires_at) if timer.phase_expires_at else None,
            "serverTime": iso(timer.server_time),
            "phase": timer.phase,
        }
    )


async def timer_of(gateway: Gateway, game_id: UUID, player: Caller) -> GameTimer:
    """The game's clock.

    Raises:
        RequestError: 404 there is no such game, 403 the player is not in it.
    """
    timer = await gateway.database.game_timer(game_id, UUID(player.name))
    if timer.phase is None:
        raise RequestError(404, "unknown_game", "there is no such game")
    if not timer.plays:
        raise RequestError(403, "not_in_game", "the player is not in this game")
    return timer
