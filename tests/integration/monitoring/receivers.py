"""A mail server and an HTTP server that keep what they are sent."""

from __future__ import annotations

import email
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """What came in, oldest first; `titles` are those of messages. With `failing` everything is refused."""

    url: str = ""
    titles: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    failing: bool = False


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def webhook() -> Iterator[Received]:
    """Takes POSTs of JSON with a title and a message, as apprise's json:// sends them; and GETs."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if not received.failing:
                received.titles.append(body["title"])
                received.bodies.append(body["message"])
            self._answer()

        def do_GET(self) -> None:
            received.paths.append(self.path)
            self._answer()

        def _answer(self) -> None:
            self.send_response(500 if received.failing else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"127.0.0.1:{server.server_address[1]}"
    with _serving(server):
        yield received


@contextmanager
def mail_server() -> Iterator[Received]:
    """Speaks as much SMTP as a client needs."""
    received = Received()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            for line in self.rfile:
                verb = line[:4].upper()
                if verb == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    self._take()
                    self.wfile.write(b"250 taken\r\n")
                elif verb == b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                elif received.failing and verb == b"MAIL":
                    self.wfile.write(b"451 not now\r\n")
                else:
                    self.wfile.write(b"250 ok\r\n")

        def _take(self) -> None:
            lines = []
            for line in self.rfile:
                if line == b".\r\n":
                    break
                lines.append(line)
            message = email.message_from_bytes(b"".join(lines))
            received.titles.append(str(make_header(decode_header(str(message["subject"])))))

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    received.url = f"127.0.0.1:{server.server_address[1]}"
    with _serving(server):
        yield received
