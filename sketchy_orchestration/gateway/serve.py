"""Runs the gateway under uvicorn."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.gateway.app import create_app
from sketchy_orchestration.monitoring import logs
from sketchy_orchestration.settings import Settings

log = structlog.get_logger(__name__)

HEAD_SECONDS = 10.0
"""Seconds a new connection may take to send the head of its first request."""

IDLE_SECONDS = 75
"""Seconds a connection may stay open between two requests; a proxy in front keeps its own shorter (60 s)."""

STOP_SECONDS = 15
"""Seconds that requests at work get when the process is told to stop."""

_BAD_REQUEST = b'{"error":{"code":"invalid_http","message":"this is not HTTP","requestId":""}}'


class PortTakenError(SketchyError):
    """Somebody else listens there."""


class Protocol(HttpToolsProtocol):
    """uvicorn's own, with a time limit for the first request's head and our shape for what is no HTTP."""

    _head: asyncio.TimerHandle | None = None

    # The transport is narrower than asyncio's, as uvicorn has it.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def on_headers_complete(self) -> None:
        self._head_arrived()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def _head_arrived(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def send_400_response(self, msg: str) -> None:
        del msg
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(_BAD_REQUEST)
        )
        self.transport.write(head + _BAD_REQUEST)
        self.transport.close()


def server_socket(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        PortTakenError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise PortTakenError(
            f"cannot listen on {host}:{port}: {error.strerror}; set GATEWAY_PORT to a free one, or 0"
        ) from None
    listening.setblocking(False)
    return listening


def configuration(settings: Settings, **changes: Any) -> uvicorn.Config:
    """How uvicorn serves the gateway."""
    given: dict[str, Any] = {
        "app": create_app(settings),
        "loop": "uvloop",
        "http": Protocol,
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": True,
        "forwarded_allow_ips": settings.gateway_trusted_proxies,
        "timeout_keep_alive": IDLE_SECONDS,
        "timeout_graceful_shutdown": STOP_SECONDS,
    }
    return uvicorn.Config(**{**given, **changes})


def set_up_logs(settings: Settings) -> None:
    """As every process of ours logs: JSON outside development, nothing below LOG_LEVEL, no secrets."""
    logs.configure(settings)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests at work are finished first.

    Raises:
        PortTakenError, and those of `create_app`.
    """
    config = configuration(settings)
    listening = server_socket(settings.gateway_host, settings.gateway_port)
    host, port = listening.getsockname()[:2]
    log.info("gateway_listens", url=f"http://{host}:{port}")
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it has stopped in order: then that is the end, and no failure.
        signal.signal(number, lambda *_: sys.exit(0))
    with listening:
        uvicorn.Server(config).run(sockets=[listening])
