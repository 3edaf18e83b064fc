"""What the functions share: settings, the database, who calls, how often."""

from __future__ import annotations

import time
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from sketchy_orchestration.database.connect import Address, Role
from sketchy_orchestration.database.gateway import GatewayDatabase
from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.gateway import bodies, callers
from sketchy_orchestration.gateway.callers import Caller, Kind, Secrets
from sketchy_orchestration.gateway.failures import RequestError
from sketchy_orchestration.gateway.outcomes import OutcomeWatch
from sketchy_orchestration.gateway.player_tokens import PlayerTokens, PublishedKeys
from sketchy_orchestration.gateway.rates import Rates
from sketchy_orchestration.gateway.telemetry import Telemetry
from sketchy_orchestration.monitoring.metrics import Watch
from sketchy_orchestration.pubnub.access_tokens import AccessTokens
from sketchy_orchestration.pubnub.keyset import DEFAULT_ORIGIN, Keyset
from sketchy_orchestration.settings import Environment, Settings

Model = TypeVar("Model", bound=BaseModel)

LOCAL_SUPABASE = "http://127.0.0.1:54321"
"""Where Supabase's own tool puts a project on a developer's machine."""

SHORTEST_SECRET = 16
"""Characters; in staging and production nothing shorter is taken for a secret."""


class GatewayNotConfiguredError(SketchyError):
    """A setting without which nobody could be let in is missing."""


class Gateway:
    """One gateway process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.service_keys = Secrets(
            settings.supabase_service_role_key, settings.supabase_service_role_key_previous
        )
        self.cron_secrets = Secrets(settings.cron_secret, settings.cron_secret_previous)
        self.player_tokens = _player_tokens(settings)
        _check(settings)
        self.rates = Rates(
            {
                Kind.service: settings.gateway_service_rate,
                Kind.cron: settings.gateway_cron_rate,
                Kind.player: settings.gateway_player_rate,
                Kind.stranger: settings.gateway_stranger_rate,
            }
        )
        self.database = GatewayDatabase(
            Address.of_role(settings, Role.gateway),
            connections=settings.gateway_connections,
            wait=settings.gateway_connection_wait,
            waiting=settings.gateway_in_flight,
            statement_seconds=settings.gateway_request_seconds,
        )
        self.outcomes = OutcomeWatch(self.database)
        self.access_tokens = _access_tokens(settings)
        self.telemetry = Telemetry(self.database.stats)
        self.watch = Watch(settings)
        self.unready_since: float | None = None

    async def close(self) -> None:
        """End what runs and every connection."""
        await self.outcomes.close()
        await self.database.close()
        if self.access_tokens is not None:
            await self.access_tokens.close()

    async def admit(self, request: Request, kind: Kind) -> Caller:
        """The caller, if it is of that kind and has not had its share.

        Raises:
            RequestError: 401, 429.
        """
        try:
            if kind is Kind.service:
                caller = callers.service(request, self.service_keys)
            elif kind is Kind.cron:
                caller = callers.cron(request, self.cron_secrets)
            else:
                caller = await self.player_tokens.player(callers.bearer(request))
        except RequestError as error:
            if error.status == 401:
                # Counted only now: who knows the secret is let in, whatever strangers at its address do.
                address = request.client.host if request.client else "unknown"
                self.rates.count(Caller(Kind.stranger, address))
            raise
        self.rates.count(caller)
        return caller

    async def body(self, request: Request, model: type[Model]) -> Model:
        """The request's body, bounded and valid.

        Raises:
            RequestError: 400, 408, 413.
        """
        settings = self.settings
        found = await bodies.read_body(
            request, limit=settings.gateway_body_bytes, seconds=settings.gateway_body_seconds
        )
        return bodies.parse(found, model)


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves this request."""
    gateway: Gateway = request.app.state.gateway
    return gateway


def request_id(request: Request) -> str:
    """The id of this request."""
    return str(request.state.request_id)


def time_left(request: Request) -> float:
    """Seconds until this request's time limit."""
    return float(request.state.deadline) - time.monotonic()


def issuer_of(settings: Settings) -> str:
    """Who issues players' access tokens."""
    return settings.supabase_jwt_issuer or f"{_supabase(settings)}/auth/v1"


def _supabase(settings: Settings) -> str:
    return (settings.supabase_url or LOCAL_SUPABASE).rstrip("/")


def _player_tokens(settings: Settings) -> PlayerTokens:
    secrets = Secrets(settings.supabase_jwt_secret, settings.supabase_jwt_secret_previous)
    address = settings.supabase_jwks_url
    if address is None and settings.supabase_url is not None and not secrets:
        address = f"{_supabase(settings)}/auth/v1/.well-known/jwks.json"
    return PlayerTokens(
        secrets,
        PublishedKeys(address) if address else None,
        audience=settings.supabase_jwt_audience,
        issuer=issuer_of(settings),
    )


def _check(settings: Settings) -> None:
    needed = {
        "SUPABASE_SERVICE_ROLE_KEY": settings.supabase_service_role_key,
        "CRON_SECRET": settings.cron_secret,
        "SUPABASE_JWT_SECRET, SUPABASE_JWKS_URL or SUPABASE_URL": settings.supabase_jwt_secret
        or settings.supabase_jwks_url
        or settings.supabase_url,
    }
    if missing := [name for name, value in needed.items() if value is None]:
        raise GatewayNotConfiguredError(f"the gateway could let nobody in: {'; '.join(missing)} not set")
    if settings.environment is Environment.development:
        return
    if settings.supabase_url is None and settings.supabase_jwt_issuer is None:
        raise GatewayNotConfiguredError(
            "SUPABASE_URL or SUPABASE_JWT_ISSUER must say who issues players' tokens"
        )
    for name in (
        "supabase_service_role_key",
        "supabase_service_role_key_previous",
        "cron_secret",
        "cron_secret_previous",
        "supabase_jwt_secret",
        "supabase_jwt_secret_previous",
    ):
        secret = getattr(settings, name)
        if secret is not None and len(secret.get_secret_value()) < SHORTEST_SECRET:
            raise GatewayNotConfiguredError(
                f"{name.upper()} is shorter than {SHORTEST_SECRET} characters: "
                f"take a long random one in {settings.environment}"
            )


def _access_tokens(settings: Settings) -> AccessTokens | None:
    publish, subscribe, secret = (
        settings.pubnub_publish_key,
        settings.pubnub_subscribe_key,
        settings.pubnub_secret_key,
    )
    if publish is None or subscribe is None or secret is None:
        return None
    origin = settings.pubnub_origin or DEFAULT_ORIGIN
    return AccessTokens(Keyset(publish, subscribe, secret, origin=origin, ssl=settings.pubnub_ssl))
