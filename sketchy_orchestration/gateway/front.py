"""Around every request: its id, CORS, admission, a time limit, and one shape of error."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.gateway.failures import RequestError, explained, unavailable, unexpected
from sketchy_orchestration.gateway.telemetry import Telemetry

log = structlog.get_logger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

FUNCTIONS = "/functions/v1/"
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
_ALLOWED_HEADERS = "authorization, x-client-info, apikey, content-type, x-request-id, prefer"
_EXPOSED_HEADERS = b"x-request-id, retry-after, preference-applied"
_ALWAYS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"), (b"vary", b"Origin")]
_PREFLIGHT_SECONDS = "600"


class WrongOriginError(SketchyError):
    """An allowed origin in the settings is none."""


def origins(text: str) -> frozenset[str]:
    """The comma-separated origins of a setting.

    Raises:
        WrongOriginError: one of them is no origin such as https://play.example.com.
    """
    found = frozenset(part.strip() for part in text.split(",") if part.strip())
    for origin in found:
        parts = urlsplit(origin)
        if (
            parts.scheme not in ("http", "https")
            or not parts.netloc
            or origin != f"{parts.scheme}://{parts.netloc}"
        ):
            raise WrongOriginError(
                f"GATEWAY_ALLOWED_ORIGINS names {origin!r}: each must look like https://play.example.com"
            )
    return found


class Front:
    """The outermost layer.

    Args:
        functions: what a POST to each function's path calls; the application knows the same ones.
        others: paths beside the functions that metrics call by name.
        allowed_origins: web origins that may read answers.
        in_flight: requests of functions at work at once.
        seconds: time limit of one request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        functions: Mapping[str, Endpoint],
        others: Collection[str],
        allowed_origins: Collection[str],
        in_flight: int,
        seconds: float,
        telemetry: Telemetry,
    ) -> None:
        self._app = app
        self._functions = dict(functions)
        self._names = {*functions, *others}
        self._allowed_origins = frozenset(allowed_origins)
        self._most = in_flight
        self._seconds = seconds
        self._telemetry = telemetry
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._allowed_origins)
        # A request has a task, so a context, of its own.
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        began = time.perf_counter()
        path: str = scope["path"]
        name = path.removeprefix(FUNCTIONS) if path.startswith(FUNCTIONS) else path.removeprefix("/")
        try:
            if scope["method"] == "OPTIONS" and path.startswith(FUNCTIONS):
                await exchange.answer(exchange.preflight(), receive)
            elif path.startswith(FUNCTIONS):
                await self._function(exchange, receive, self._functions.get(name))
            else:
                await self._app(scope, receive, exchange.send)
        except RequestError as error:
            await exchange.answer(error.response(exchange.request_id), receive)
        except Exception as error:
            answered = explained(error) if isinstance(error, SketchyError) else unexpected()
            if answered.status == 500:
                log.exception("gateway_request_failed", function=name)
            await exchange.answer(answered.response(exchange.request_id), receive)
        finally:
            seconds = time.perf_counter() - began
            self._told(name if name in self._names else "other", exchange, scope["method"], seconds)

    async def _function(self, exchange: _Exchange, receive: Receive, endpoint: Endpoint | None) -> None:
        if self._at_work >= self._most:
            raise unavailable("overloaded", "too many requests are at work")
        self._at_work += 1
        self._telemetry.in_flight.inc()
        exchange.scope["state"]["deadline"] = time.monotonic() + self._seconds
        try:
            async with asyncio.timeout(self._seconds):
                if endpoint is None or exchange.scope["method"] != "POST":
                    await self._app(exchange.scope, receive, exchange.send)
                else:  # the way through the router costs a third of the whole
                    response = await endpoint(Request(exchange.scope, receive))
                    await response(exchange.scope, receive, exchange.send)
        except TimeoutError:
            raise unavailable("time_limit", f"this took longer than {self._seconds:g} s") from None
        finally:
            self._at_work -= 1
            self._telemetry.in_flight.dec()

    def _told(self, function: str, exchange: _Exchange, method: str, seconds: float) -> None:
        self._telemetry.answered(function, exchange.status, seconds)
        if not exchange.scope["path"].startswith(FUNCTIONS) or exchange.status == 429:
            level = "debug"  # asked every second, or provoked by a stranger without end
        else:
            level = "warning" if exchange.status >= 500 else "info" if exchange.status >= 400 else "debug"
        getattr(log, level)(
            "gateway_request",
            function=function,
            method=method,
            status=exchange.status,
            ms=round(seconds * 1000, 1),
        )


class _Exchange:
    """One request: its id, what the browser may read, and whether its answer has begun."""

    def __init__(self, scope: Scope, send: Send, allowed_origins: frozenset[str]) -> None:
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.scope = scope
        self.request_id = given if _ID.match(given) else str(uuid4())
        self.status = 500
        scope.setdefault("state", {})["request_id"] = self.request_id
        origin = headers.get("origin")
        self._origin = origin if origin in allowed_origins else None
        self._send = send
        self._begun = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            self.status = message["status"]
            headers = message["headers"]
            headers += _ALWAYS
            headers.append((b"x-request-id", self.request_id.encode()))
            if self._origin is not None:
                headers.append((b"access-control-allow-origin", self._origin.encode()))
                headers.append((b"access-control-expose-headers", _EXPOSED_HEADERS))
        await self._send(message)

    async def answer(self, response: Response, receive: Receive) -> None:
        if not self._begun:
            await response(self.scope, receive, self.send)

    def preflight(self) -> Response:
        allowed = {"allow": "POST, OPTIONS"}
        if self._origin is not None:
            allowed |= {
                "access-control-allow-methods": "POST, OPTIONS",
                "access-control-allow-headers": _ALLOWED_HEADERS,
                "access-control-max-age": _PREFLIGHT_SECONDS,
            }
        return Response(status_code=204, headers=allowed)
