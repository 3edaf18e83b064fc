"""The gateway as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sketchy_orchestration import __version__
from sketchy_orchestration.gateway import schemas
from sketchy_orchestration.gateway.access import pubnub_auth
from sketchy_orchestration.gateway.broadcast import broadcast
from sketchy_orchestration.gateway.callers import Kind
from sketchy_orchestration.gateway.catch_up import game_events
from sketchy_orchestration.gateway.failures import RequestError
from sketchy_orchestration.gateway.front import FUNCTIONS, Endpoint, Front, origins
from sketchy_orchestration.gateway.health import health, metrics, ready
from sketchy_orchestration.gateway.parts import Gateway, request_id
from sketchy_orchestration.gateway.timers import get_game_timer, monitor_game_timers
from sketchy_orchestration.settings import Settings

_HEALTH = (health, ready, metrics)
_SCHEMES: dict[str, dict[str, str]] = {
    "service": {
        "type": "http",
        "scheme": "bearer",
        "description": "SUPABASE_SERVICE_ROLE_KEY, or the previous one during a rotation",
    },
    "cron": {
        "type": "apiKey",
        "in": "header",
        "name": "x-cron-secret",
        "description": "CRON_SECRET, or the previous one during a rotation",
    },
    "player": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The player's Supabase access token",
    },
}
_MEANINGS = {
    400: "The request is not valid",
    401: "No valid credentials",
    403: "Not for this caller",
    404: "There is no such game, or no such thing here",
    408: "The body took too long",
    413: "Too large",
    429: "Too many requests; Retry-After says when to come again",
    500: "An error of ours",
    502: "PubNub refused",
    503: "Not now; Retry-After says when to come again",
}
_ANYWHERE = (401, 429, 500, 503)
_WITH_BODY = (400, 408, 413)


@dataclass(frozen=True)
class Function:
    """One function as the document describes it."""

    name: str
    endpoint: Endpoint
    caller: Kind
    summary: str
    answers: type[BaseModel]
    takes: type[BaseModel] | None = None
    also: dict[int, str] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    parameters: tuple[dict[str, Any], ...] = ()


_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "respond-async: do not wait for the timetokens; wait=N: at most N seconds (RFC 7240)",
    "schema": {"type": "string"},
    "example": "respond-async",
}

FUNCTIONS_SERVED = (
    Function(
        "broadcast-pubnub-event",
        broadcast,
        Kind.service,
        "Put an event into the outbox and wait for PubNub's timetokens",
        schemas.BroadcastAnswer,
        schemas.BroadcastRequest,
        also={202: "Kept; it will be delivered"},
        errors=(502,),
        parameters=(_PREFER,),
    ),
    Function(
        "monitor-game-timers",
        monitor_game_timers,
        Kind.cron,
        "One pass of the timer",
        schemas.TimerPassAnswer,
    ),
    Function(
        "get-game-timer",
        get_game_timer,
        Kind.player,
        "A game's clock for one of its players",
        schemas.TimerAnswer,
        schemas.GameRequest,
        errors=(403, 404),
    ),
    Function(
        "game-events",
        game_events,
        Kind.player,
        "A game's events after a seq: what a player missed",
        schemas.EventsAnswer,
        schemas.EventsRequest,
        errors=(403, 404),
    ),
    Function(
        "pubnub-auth",
        pubnub_auth,
        Kind.player,
        "A PubNub access token for the channels of the player's games",
        schemas.AccessAnswer,
        errors=(404, 502),
    ),
)


def create_app(settings: Settings) -> FastAPI:
    """The application; it opens its database connections when it starts.

    Raises:
        GatewayNotConfiguredError, WrongRateError, WrongOriginError, DatabaseNotSetError, KeysetError:
            a setting is missing or wrong; the message names it.
    """
    gateway = Gateway(settings)
    app = _bare_app()
    # Each function takes the request as it is: nothing of FastAPI's own is needed while serving.
    app.router.routes += [
        Route(FUNCTIONS + function.name, function.endpoint, methods=["POST"]) for function in FUNCTIONS_SERVED
    ]
    app.router.routes += [Route(f"/{endpoint.__name__}", endpoint, methods=["GET"]) for endpoint in _HEALTH]
    app.openapi = lambda: document(plain_app())  # type: ignore[method-assign]  # the way FastAPI documents
    app.router.lifespan_context = _lifespan(gateway)
    app.state.gateway = gateway
    app.add_middleware(
        Front,
        functions={function.name: function.endpoint for function in FUNCTIONS_SERVED},
        others=[endpoint.__name__ for endpoint in _HEALTH],
        allowed_origins=origins(settings.gateway_allowed_origins),
        in_flight=settings.gateway_in_flight,
        seconds=settings.gateway_request_seconds,
        telemetry=gateway.telemetry,
    )
    return app


def plain_app() -> FastAPI:
    """The functions as the document describes them, with nothing behind them."""
    app = _bare_app()
    for function in FUNCTIONS_SERVED:
        _serve(app, function)
    _serve_health(app)
    return app


def _bare_app() -> FastAPI:
    app = FastAPI(
        title="Sketchy gateway",
        version=__version__,
        description="The HTTP functions of the game: events, timers, catching up, access to PubNub.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(HTTPException, _of_routing)
    return app


def _lifespan(gateway: Gateway) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        gateway.database.open()
        try:
            yield
        finally:
            await gateway.close()

    return lifespan


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        taken = [(function.takes, "validation") for function in FUNCTIONS_SERVED if function.takes]
        _, definitions = models_json_schema(taken, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]  # a list of literals
        components = made.setdefault("components", {})
        components.setdefault("schemas", {}).update(definitions["$defs"])
        components["securitySchemes"] = _SCHEMES
        app.openapi_schema = made
    return app.openapi_schema


def _serve(app: FastAPI, function: Function) -> None:
    errors = {*_ANYWHERE, *function.errors, *(_WITH_BODY if function.takes else ())}
    responses: dict[int | str, dict[str, Any]] = {
        200: {"model": function.answers, "description": "Done"},
        **{
            status: {"model": function.answers, "description": text} for status, text in function.also.items()
        },
        **{s: {"model": schemas.ErrorAnswer, "description": _MEANINGS[s]} for s in sorted(errors)},
    }
    extra: dict[str, Any] = {"security": [{str(function.caller): []}]}
    if function.parameters:
        extra["parameters"] = list(function.parameters)
    if function.takes:
        model = function.takes
        extra["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{model.__name__}"},
                    "example": model.model_json_schema()["examples"][0],
                }
            },
        }
    app.add_api_route(
        FUNCTIONS + function.name,
        function.endpoint,
        methods=["POST"],
        summary=function.summary,
        description=function.endpoint.__doc__,
        operation_id=function.name,
        response_class=Response,
        responses=responses,
        openapi_extra=extra,
    )


def _serve_health(app: FastAPI) -> None:
    app.add_api_route(
        "/health",
        health,
        methods=["GET"],
        summary="The process lives",
        response_class=Response,
        responses={200: {"model": schemas.HealthAnswer, "description": "It does"}},
    )
    app.add_api_route(
        "/ready",
        ready,
        methods=["GET"],
        summary="Requests may come",
        response_class=Response,
        responses={
            200: {"model": schemas.HealthAnswer, "description": "They may"},
            503: {"model": schemas.HealthAnswer, "description": "They may not, and why"},
        },
    )
    app.add_api_route(
        "/metrics",
        metrics,
        methods=["GET"],
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics"}
        },
    )


async def _of_routing(request: Request, error: Exception) -> Response:
    """404 and 405 in the shape of every error."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    code = {404: "unknown_path", 405: "method_not_allowed"}.get(error.status_code, "refused")
    message = {404: "there is nothing at this path", 405: "this method is not for this path"}.get(
        error.status_code, "the request was refused"
    )
    return RequestError(error.status_code, code, message, headers=error.headers).response(request_id(request))
