"""What the world sees through nginx: the functions and /health, and nothing of Dagster without a login."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.integration.deploy.proxy import GAME, OPERATORS, Proxy, proxy
from tests.integration.gateway.serving import SERVICE_KEY, SMOKE, serving, settings_for

ADA = ("ada", "a password")


class _Told(BaseHTTPRequestHandler):
    """Stands where Dagster's webserver would, and says what reached it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        told = json.dumps({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def dagster_ui() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Told) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that nginx's own account may enter."""
    with tempfile.TemporaryDirectory(prefix="sketchy-nginx-") as name:
        yield Path(name)


@pytest.fixture
def front(database_url: str, dagster_ui: int, folder: Path) -> Iterator[Proxy]:
    with (
        serving(settings_for(database_url)) as gateway,
        proxy(folder, gateway_port=httpx.URL(gateway.url).port or 0, dagster_port=dagster_ui) as running,
    ):
        yield running


def test_the_game_sees_functions_and_health_only(front: Proxy) -> None:
    answer = front.ask(
        GAME,
        "/functions/v1/broadcast-pubnub-event",
        "POST",
        json=SMOKE,
        headers={"Authorization": f"Bearer {SERVICE_KEY}", "Prefer": "respond-async"},
    )
    assert answer.status_code == 202, answer.text
    assert front.ask(GAME, "/health").json()["checks"]
    assert answer.headers["strict-transport-security"]
    assert "nginx/" not in answer.headers["server"]
    for path in ("/", "/metrics", "/ready", "/openapi.json", "/graphql", "/healthz", "/health/"):
        hidden = front.ask(GAME, path)
        assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "unknown_path"), path
    # The gateway's own answers are passed on as they are.
    assert (
        front.ask(GAME, "/functions/v1/nothing", "POST").json()["error"]["message"] != "refused by the proxy"
    )
    assert front.ask(GAME, "/functions/v1/get-game-timer", "POST").status_code == 401
    large = front.ask(GAME, "/functions/v1/broadcast-pubnub-event", "POST", content=b"x" * 200_000)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")


def test_dagster_is_for_operators(front: Proxy) -> None:
    for path in ("/", "/graphql", "/server_info", "/report_asset_materialization/x"):
        assert front.ask(OPERATORS, path).status_code == 401, path
    assert front.ask(OPERATORS, "/", auth=("ada", "another")).status_code == 401
    seen = front.ask(OPERATORS, "/graphql", auth=ADA, headers={"Upgrade": "websocket"}).json()
    assert "authorization" not in seen
    assert (seen["path"], seen["upgrade"], seen["connection"]) == ("/graphql", "websocket", "upgrade")
    assert front.ask(OPERATORS, "/", auth=ADA).headers["content-security-policy"] == "frame-ancestors 'none'"
    # Another page in the operator's browser presses no button here.
    foreign = {"Origin": "https://evil.example.org"}
    assert front.ask(OPERATORS, "/graphql", "POST", auth=ADA, headers=foreign).status_code == 403
    own = {"Origin": f"https://{OPERATORS}"}
    assert front.ask(OPERATORS, "/graphql", "POST", auth=ADA, headers=own).status_code == 200


def test_a_crowd_from_one_address_is_told_to_wait(front: Proxy) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: front.ask(GAME, "/health"), range(120)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].json()["error"]["code"] == "too_many_requests"
    assert refused[0].headers["retry-after"] == "1"


def test_tls_and_our_names_only(front: Proxy) -> None:
    plain = httpx.get(
        f"http://127.0.0.1:{front.plain_port}/health?a=b", headers={"Host": GAME}, trust_env=False
    )
    assert (plain.status_code, plain.headers["location"]) == (301, f"https://{GAME}/health?a=b")
    with pytest.raises(httpx.RemoteProtocolError):
        front.ask(GAME, "/health", headers={"Host": "elsewhere.example.com"})
