"""Conformance: the official JavaScript SDK, in node and in a page of a real browser."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pubnub.models.consumer.v3.channel import Channel
from pubnub.pubnub import PubNub

from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig
from tests.integration.standin import javascript
from tests.integration.standin.python_sdk import configured

_LIMIT_SECONDS = 90


@pytest.fixture(params=[True, False], ids=["event-engine", "no-event-engine"])
def options(request: pytest.FixtureRequest, local_pubnub: LocalPubNub) -> Iterator[dict[str, Any]]:
    """What the suite needs to know, with a second stand-in that enforces access."""
    with LocalPubNub(StandInConfig(secret_key="secret", enforce_access=True)) as guarded:
        yield {
            "origin": local_pubnub.origin,
            "publishKey": local_pubnub.publish_key,
            "subscribeKey": local_pubnub.subscribe_key,
            "enableEventEngine": request.param,
            "room": "a",
            "access": {
                "origin": guarded.origin,
                "publishKey": guarded.publish_key,
                "subscribeKey": guarded.subscribe_key,
                "secretKey": guarded.secret_key,
                "token": _token(guarded),
            },
        }


def _token(guarded: LocalPubNub) -> str:
    server = PubNub(configured(guarded, "server", secret_key=guarded.secret_key))
    try:
        granted = server.grant_token().ttl(15).authorized_uuid("guest").meta({"level": 3})
        channels = [Channel.id("room").read().write(), Channel.pattern("^hall-.*$").read()]
        token: str = granted.channels(channels).sync().result.token
        return token
    finally:
        server._request_handler.close()


def _check(results: dict[str, str]) -> None:
    failed = {name: text for name, text in results.items() if text != "ok"}
    assert failed == {}
    assert list(results) == javascript.STEPS


def test_node(options: dict[str, Any], local_pubnub: LocalPubNub) -> None:
    node, package = javascript.node(), javascript.sdk()
    done = subprocess.run(
        [node, str(javascript.SCRIPTS / "node.js"), json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=_LIMIT_SECONDS,
        env={**os.environ, "NODE_PATH": str(package.parent)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _check(json.loads(done.stdout.splitlines()[-1]))
    operations = {entry.operation for entry in local_pubnub.record()}
    assert operations == {"publish", "fire", "signal"}


class _Pages(ThreadingHTTPServer):
    """Serves the page from an origin of its own, so that the browser's rules for other origins apply."""

    daemon_threads = True

    def __init__(self, package: Path, options: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.files = {
            "/": (javascript.SCRIPTS / "page.html", "text/html"),
            "/suite.js": (javascript.SCRIPTS / "suite.js", "text/javascript"),
            "/pubnub.js": (package / "dist" / "web" / "pubnub.min.js", "text/javascript"),
        }
        self.options = options
        self.reports: queue.Queue[dict[str, str]] = queue.Queue()


class _Page(BaseHTTPRequestHandler):
    server: _Pages

    def do_GET(self) -> None:
        if self.path == "/options":
            self._send(json.dumps(self.server.options).encode(), "application/json")
        elif self.path in self.server.files:
            file, kind = self.server.files[self.path]
            self._send(file.read_bytes(), kind)
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(b"{}", "application/json")
        self.server.reports.put(json.loads(body))

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is given
        """Nothing: what went wrong is in the report."""


def test_a_page_in_chromium(options: dict[str, Any], tmp_path: Path) -> None:
    chromium, package = javascript.browser(), javascript.sdk()
    del options["access"]["secretKey"]
    with _Pages(package, options) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        profile, log = tmp_path / "profile", tmp_path / "chromium.log"
        url = f"http://127.0.0.1:{pages.server_port}/"
        with log.open("wb") as output:
            browser = subprocess.Popen(
                [chromium, *javascript.BROWSER_FLAGS, f"--user-data-dir={profile}", url],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            results = pages.reports.get(timeout=_LIMIT_SECONDS)
        except queue.Empty:
            pytest.fail(f"the page did not report: {log.read_text(errors='replace')[-2000:]}")
        finally:
            # The whole session: Chromium is many processes.
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait(20)
            pages.shutdown()
    _check(results)
