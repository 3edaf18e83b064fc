"""pubnub-auth: a PubNub access token for a player's games."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from starlette.requests import Request
from starlette.responses import Response

from sketchy_orchestration.domain.envelope import iso
from sketchy_orchestration.gateway.callers import Kind
from sketchy_orchestration.gateway.failures import RequestError, answer
from sketchy_orchestration.gateway.parts import gateway_of, request_id
from sketchy_orchestration.pubnub.access_tokens import GrantFailedError

log = structlog.get_logger(__name__)

MOST_GAMES = 20
"""Games one token covers, the newest first."""

_GRANT_SECONDS = 5.0


async def pubnub_auth(request: Request) -> Response:
    """A token that lets the player read the channels of games it is in, and its own, and nothing more."""
    gateway = gateway_of(request)
    player = await gateway.admit(request, Kind.player)
    if gateway.access_tokens is None:
        raise RequestError(404, "access_tokens_off", "this keyset grants no access tokens and needs none")
    games = await gateway.database.games_of_player(UUID(player.name), MOST_GAMES)
    channels = [channel for game in games for channel in (f"game-{game}", f"presence-{game}")]
    channels.append(f"user-{player.name}")
    minutes = gateway.settings.gateway_token_minutes
    expires = datetime.now(UTC) + timedelta(minutes=minutes)
    try:
        token = await gateway.access_tokens.grant_reading(
            channels, user_id=player.name, minutes=minutes, within=_GRANT_SECONDS
        )
    except GrantFailedError as error:
        log.warning("gateway_grant_failed", why=str(error), request_id=request_id(request))
        raise RequestError(502, "grant_failed", "PubNub granted no token") from None
    return answer(
        {
            "token": token,
            "userId": player.name,
            "channels": channels,
            "ttl": minutes,
            "expiresAt": iso(expires),
        }
    )
