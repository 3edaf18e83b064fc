"""The reference client in a page of a real browser, before a gateway whose allow-list names that page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.local.pubnub import LocalPubNub, StandInConfig
from tests.integration.gateway.reference_client import CLIENT, Played, Told
from tests.integration.gateway.serving import World, serving, settings_for
from tests.integration.standin import javascript

PAGE = Path(__file__).parent / "js" / "page.html"
_START_SECONDS = 60.0


class _Pages(ThreadingHTTPServer):
    """Serves the page from an origin of its own, and hears what the client in it says."""

    daemon_threads = True

    def __init__(self, told: Told) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.told = told
        self.options: dict[str, Any] = {}
        self.files = {
            "/": (PAGE, "text/html"),
            "/game-client.js": (CLIENT, "text/javascript"),
            "/pubnub.js": (javascript.sdk() / "dist" / "web" / "pubnub.min.js", "text/javascript"),
        }
        self.url = f"http://127.0.0.1:{self.server_port}"


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
        said = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.told.lines.put(said)
        self._send(b"{}", "application/json")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is given
        """Nothing: what went wrong is in what the page says."""


@contextmanager
def chromium(url: str, folder: Path) -> Iterator[None]:
    """A headless browser with a page open."""
    with (folder / "chromium.log").open("wb") as output:
        browser = subprocess.Popen(
            [javascript.browser(), *javascript.BROWSER_FLAGS, f"--user-data-dir={folder / 'profile'}", url],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
    finally:
        # The whole session: Chromium is many processes.
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait(20)


def test_it_hears_live_closes_gaps_and_comes_back_after_an_outage(
    database_url: str, world: World, tmp_path: Path
) -> None:
    javascript.browser()
    told = Told()
    with (
        _Pages(told) as pages,
        LocalPubNub(StandInConfig(port=processes.free_port())) as pubnub,
        serving(settings_for(database_url, gateway_allowed_origins=pages.url)) as gateway,
    ):
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        played = Played(world, gateway, pubnub, "delivered", "delivered")
        pages.options = played.options(checkMs=300)
        with chromium(pages.url, tmp_path):
            told.until(lambda: {"started": True, "remaining": True} in told.said, _START_SECONDS)
            told.until_heard(1, 2)  # what it had missed before it came

            messages = played.sequence_again(world, *["delivered"] * 5)
            played.publish(messages[2])
            told.until_heard(1, 2, 3)  # live
            for message in (messages[2], messages[4], messages[4]):
                played.publish(message)
            told.until_heard(1, 2, 3, 4, 5)  # a repeat, a gap, another repeat
            assert [event["eventId"] for event in told.heard] == [message["eventId"] for message in messages]

            pubnub.stop()
            played.sequence_again(world, *["delivered"] * 6)
            told.until_heard(1, 2, 3, 4, 5, 6)  # PubNub is away: the gateway tells
            pubnub.start()
            assert wait_until(lambda: pubnub.stats()["waiting"] > 0, seconds=40)
            played.publish({**messages[4], "eventId": "seventh", "seq": 7, "after": 6})
            told.until_heard(1, 2, 3, 4, 5, 6, 7)  # and is back
        pages.shutdown()
    assert [each for each in told.said if "problem" in each] == []
