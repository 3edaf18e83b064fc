"""Smoke tests: the first calls after a deployment, as a person would make them by hand; harmless anywhere."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from pydantic import SecretStr

from sketchy_orchestration.delivery.validation import CannotTryError, Check, Scene, StepFailedError
from sketchy_orchestration.domain.health import Status
from sketchy_orchestration.domain.validation import Suite
from sketchy_orchestration.monitoring.health import look_at_gateway
from sketchy_orchestration.settings import Environment, Settings

_START_SECONDS = 30.0
_ANSWER_SECONDS = 15.0


def gateway_of(scene: Scene) -> tuple[str, Settings]:
    """The gateway's base URL, and settings with the secrets it takes.

    On a development machine without one, one is started for the time of the validation.

    Raises:
        CannotTryError: there is none.
    """
    settings = scene.settings
    if scene.gateway is None:
        url = f"http://{settings.gateway_host}:{settings.gateway_port}"
        if look_at_gateway(f"{url}/ready").status is Status.ok:
            scene.gateway = url
        elif settings.environment is Environment.development:
            scene.gateway = _start_gateway(scene)
        else:
            raise CannotTryError(f"no gateway is ready at {url}: set GATEWAY_HOST and GATEWAY_PORT")
    return scene.gateway, scene.settings


def _start_gateway(scene: Scene) -> str:
    names = ("supabase_service_role_key", "cron_secret", "supabase_jwt_secret")
    own = {name: SecretStr(secrets.token_hex(24)) for name in names if getattr(scene.settings, name) is None}
    settings = scene.settings = scene.settings.model_copy(update=own)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    given = {
        name.upper(): value.get_secret_value()
        for name in settings.model_fields_set | set(own)
        if isinstance(value := getattr(settings, name), SecretStr)
    }
    plain = ("environment", "pubnub_origin", "pubnub_ssl", "sketchy_home")
    given |= {
        name.upper(): str(getattr(settings, name)) for name in plain if getattr(settings, name) is not None
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "sketchy_orchestration.cli.main", "gateway", "--port", str(port)],
        env={**os.environ, **given},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def end() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    scene.clean_up.append(end)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + _START_SECONDS
    while look_at_gateway(f"{url}/ready").status is not Status.ok:
        if time.monotonic() > until or process.poll() is not None:
            raise StepFailedError("the gateway started for this validation does not become ready")
        time.sleep(0.1)
    return url


def call(
    url: str, path: str, headers: dict[str, str], body: object | None = None, method: str = "POST"
) -> tuple[int, str]:
    """One request past any proxy; status and text."""
    request = urllib.request.Request(  # noqa: S310  an address of the settings
        f"{url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **headers},
        method=method,
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_ANSWER_SECONDS) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def _expect(what: str, answer: tuple[int, str], *allowed: int) -> str:
    status, text = answer
    if status not in allowed:
        wanted = " or ".join(str(code) for code in allowed)
        raise StepFailedError(f"{what} answered {status}, not {wanted}: {' '.join(text.split())[:200]}")
    return f"{what} {status}"


def _secret(value: SecretStr | None, name: str) -> str:
    if value is None:
        raise CannotTryError(f"{name} is not set")
    return value.get_secret_value()


def broadcast(scene: Scene) -> str:
    """The first curl line of the plan: a test event through the gateway to PubNub."""
    url, settings = gateway_of(scene)
    token = _secret(settings.supabase_service_role_key, "SUPABASE_SERVICE_ROLE_KEY")
    event = {
        "type": "test",
        "gameId": "test-game",
        "userId": "test-user",
        "timestamp": int(time.time() * 1000),
        "version": "2.0.0",
        "data": {},
    }
    path = "/functions/v1/broadcast-pubnub-event"
    began = time.monotonic()
    found = _expect(path, call(url, path, {"Authorization": f"Bearer {token}"}, event), 200)
    scene.numbers["broadcast_ms"] = (time.monotonic() - began) * 1000
    refused = _expect("with a wrong key", call(url, path, {"Authorization": "Bearer wrong"}, event), 401)
    return f"{found} with timetokens in {scene.numbers['broadcast_ms']:.0f} ms; {refused}"


def monitor(scene: Scene) -> str:
    """The second curl line: one pass of the timers over HTTP."""
    url, settings = gateway_of(scene)
    path = "/functions/v1/monitor-game-timers"
    secret = _secret(settings.cron_secret, "CRON_SECRET")
    answer = call(url, path, {"x-cron-secret": secret}, {})
    found = _expect(path, answer, 200)
    missing = {"processed", "errors", "executionTime", "requestId", "metrics"} - set(json.loads(answer[1]))
    if missing:
        raise StepFailedError(f"{path} does not tell {', '.join(sorted(missing))}")
    refused = _expect("with a wrong secret", call(url, path, {"x-cron-secret": "wrong"}, {}), 401)
    return f"{found} in {json.loads(answer[1])['executionTime']} ms; {refused}"


def timer_state(scene: Scene) -> str:
    """get-game-timer is there and lets no stranger in."""
    url, _ = gateway_of(scene)
    path = "/functions/v1/get-game-timer"
    body = {"gameId": "00000000-0000-4000-8000-000000000000"}
    stranger = _expect("without a token", call(url, path, {}, body), 401)
    preflight = call(
        url,
        path,
        {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST"},
        None,
        "OPTIONS",
    )
    return f"{path}: {stranger}; {_expect('preflight', preflight, 200, 204)}"


def answers(scene: Scene) -> str:
    """Health and readiness over HTTP."""
    url, _ = gateway_of(scene)
    found = [
        _expect(path, call(url, path, {}, None, "GET"), *allowed)
        for path, allowed in (("/ready", (200,)), ("/health", (200, 503)))
    ]
    return ", ".join(found)


SMOKE = (
    Check("broadcast", Suite.smoke, "Smoke test: broadcast-pubnub-event", broadcast, harmless=True),
    Check("monitor", Suite.smoke, "Smoke test: monitor-game-timers", monitor, harmless=True),
    Check("timer_state", Suite.smoke, "Smoke test: get-game-timer", timer_state, harmless=True),
    Check("answers", Suite.smoke, "Check monitoring dashboard: health endpoint", answers, harmless=True),
)


def tests_folder() -> Path | None:
    """The unit tests beside a checkout; None where the package is installed without them."""
    folder = Path(__file__).parents[2] / "tests" / "unit" / "domain"
    return folder if folder.is_dir() else None
