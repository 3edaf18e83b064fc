"""The HTTP side: one catch-all handler on aiohttp's bare server; no router, no middleware, no access log."""

from __future__ import annotations

import asyncio
import math
import socket

import structlog
from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict

from sketchy_orchestration.local.pubnub import breaking, control
from sketchy_orchestration.local.pubnub.answers import JAVASCRIPT, Answer, malformed, uri_too_long
from sketchy_orchestration.local.pubnub.calls import Call
from sketchy_orchestration.local.pubnub.config import StandInConfig, StandInError
from sketchy_orchestration.local.pubnub.faults import FaultKind, Struck
from sketchy_orchestration.local.pubnub.limits import BODY_BYTES
from sketchy_orchestration.local.pubnub.service import Service

HOST = "127.0.0.1"
_LONGEST_LINE = 65_536  # a publish of 32 KiB, URL-encoded, still fits; aiohttp's own 8 KiB would refuse it
_BACKLOG = 1024
_LONGEST_PIECE = 65_536
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/javascript; charset=UTF-8\r\nAccess-Control-Allow-Origin: *\r\n"
    b"Cache-Control: no-cache\r\nContent-Length: %d\r\n\r\n"
)

_log = structlog.get_logger(__name__)
_PREFLIGHT = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Max-Age": "86400",
    "Content-Type": JAVASCRIPT,
}
_PLAIN = CIMultiDict(
    {"Content-Type": JAVASCRIPT, "Access-Control-Allow-Origin": "*", "Cache-Control": "no-cache"}
)


class Connection(web.RequestHandler):
    """aiohttp's connection, answering what it cannot even parse the way PubNub would."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp passes it by name
    ) -> web.StreamResponse:
        if status >= 500:
            _log.error("stand-in failed", path=request.path[:200], exc_info=exc)
            response = web.Response(status=status, body=b'{"message":"Internal Error","error":true}')
        else:
            response = respond(uri_too_long() if isinstance(exc, LineTooLong) else malformed())
        response.force_close()
        return response


class _Connections(web.Server):
    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


class _InOnePiece(web.StreamResponse):
    """An answer whose bytes are ready: without aiohttp's making of headers a publish costs half."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    async def prepare(self, request: web.BaseRequest) -> None:
        self._keep_alive = True
        if request.transport is not None:
            request.transport.write(self._data)

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything is written already."""


def respond_quickly(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """The same answer as `respond`, by the shortest way where nothing is special about request or answer."""
    plain = answer.status == 200 and answer.retry_after is None and answer.content_type is JAVASCRIPT
    if not plain or len(answer.body) > _LONGEST_PIECE or request.method == "HEAD" or not request.keep_alive:
        return respond(answer)
    if request.version != HttpVersion11:
        return respond(answer)
    return _InOnePiece(_HEAD % len(answer.body) + answer.body)


def respond(answer: Answer) -> web.Response:
    """The HTTP response of an answer."""
    headers = _PLAIN
    if answer.retry_after is not None or answer.content_type is not JAVASCRIPT:
        headers = _PLAIN.copy()
        headers["Content-Type"] = answer.content_type
        if answer.retry_after is not None:
            headers["Retry-After"] = str(math.ceil(answer.retry_after))
    return web.Response(status=answer.status, body=answer.body, headers=headers)


class StandIn:
    """A listening stand-in in the running event loop."""

    def __init__(self, config: StandInConfig) -> None:
        self.service = Service(config)
        self.port = config.port
        self._connections: _Connections | None = None
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; `port` then says where.

        Raises:
            StandInError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._connections = _Connections(
            self._handle,
            handler_cancellation=True,  # a subscriber that goes away must not stay a waiter
            access_log=None,
            auto_decompress=False,  # the Python SDK mislabels what it compresses; see limits.unpack
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, self.port))
        except OSError as error:
            listener.close()
            raise StandInError(
                f"port {self.port} on {HOST} cannot be used ({error.strerror}): choose another, or 0 for any"
            ) from None
        self.port = listener.getsockname()[1]
        self._listener = await loop.create_server(self._connections, sock=listener, backlog=_BACKLOG)

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._connections is not None:
            await self._connections.shutdown(0.1)
        self.service.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        service = self.service
        method = request.method
        body = b""
        if method != "GET" and request.body_exists:
            if (request.content_length or 0) > BODY_BYTES:
                return self._count("other", Answer(413, uri_too_long().body))
            try:
                body = await request.read()
            except web.HTTPRequestEntityTooLarge:
                return self._count("other", Answer(413, uri_too_long().body))
        call = Call(
            method,
            request.raw_path,
            body,
            request.headers.get("Content-Encoding") if body else None,
            request.headers.get("Content-Type", "") if body else "",
        )
        if call.path.startswith(control.PREFIX):
            return self._respond_control(await control.answer(service, call))
        if method == "OPTIONS":
            return web.Response(status=200, headers=_PREFLIGHT)
        operation = service.operation(call)
        if service.faults.any_on:
            return await self._handle_with_faults(request, call, operation)
        answer = await service.answer(call, operation)
        service.requests[operation] += 1
        service.statuses[answer.status] += 1
        return respond_quickly(request, answer)

    async def _handle_with_faults(
        self, request: web.BaseRequest, call: Call, operation: str
    ) -> web.StreamResponse:
        service = self.service
        breaks: Struck | None = None
        copies = 1
        for struck in service.faults.strike(operation, service.channel_names(call, operation)):
            if struck.fault.kind is FaultKind.latency:
                await asyncio.sleep(struck.delay)
            elif struck.fault.kind is FaultKind.duplicate:
                copies = 2
            else:
                breaks = struck
        if breaks is None:
            return self._count(operation, await service.answer(call, operation, copies=copies))
        fault = breaks.fault
        answer = Answer(200, b"")
        if fault.processes:
            answer = await service.answer(call, operation, fault=fault.kind.value, copies=copies)
        other = breaking.instead(fault, operation, service.clock)
        if other is not None:
            return self._count(operation, other)
        service.requests[operation] += 1
        return await breaking.send_broken(request, answer, breaks)

    def _count(self, operation: str, answer: Answer) -> web.Response:
        self.service.requests[operation] += 1
        self.service.statuses[answer.status] += 1
        return respond(answer)

    def _respond_control(self, answer: Answer) -> web.Response:
        # Without CORS headers, so that a page in a browser can neither read it nor switch a fault.
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type}
        )
