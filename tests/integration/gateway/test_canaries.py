"""No secret leaves the gateway: not in logs, answers, metrics or errors, whatever goes wrong."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import psycopg
import pytest

from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.local.pubnub import FaultKind, LocalPubNub, StandInConfig
from sketchy_orchestration.settings import Settings
from tests.integration.gateway.serving import (
    ACCESS,
    BROADCAST,
    EVENTS,
    ISSUER,
    MONITOR,
    SMOKE,
    TIMER,
    World,
    token_of,
)

SECRET_SETTINGS = sorted(
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
)


def canary(name: str) -> str:
    return f"canary-{name.replace('_', '-')}-{secrets.token_hex(16)}"


@pytest.mark.parametrize("environment", ["development", "production"])
def test_no_canary_gets_out(
    database_url: str,
    connection: psycopg.Connection,
    postgres: RunningPostgres,
    world: World,
    tmp_path: Path,
    environment: str,
) -> None:
    canaries = {name: canary(name) for name in SECRET_SETTINGS}
    login = f"canary_{secrets.token_hex(6)}"
    connection.execute(
        f"create role {login} login password '{canaries['gateway_database_url']}'"  # type: ignore[arg-type]
        " in role sketchy_gateway"
    )
    parts = urlsplit(database_url)
    netloc = f"{login}:{quote(canaries['gateway_database_url'])}@{parts.hostname}:{parts.port}"
    port = processes.free_port()
    pubnub = LocalPubNub(StandInConfig(secret_key=canaries["pubnub_secret_key"], enforce_access=True)).start()
    given = {name.upper(): value for name, value in canaries.items() if not name.endswith("_url")}
    given |= {
        "GATEWAY_DATABASE_URL": urlunsplit(parts._replace(netloc=netloc)),
        "PUBNUB_PUBLISH_KEY": pubnub.publish_key,
        "PUBNUB_SUBSCRIBE_KEY": pubnub.subscribe_key,
        "PUBNUB_ORIGIN": pubnub.origin,
        "PUBNUB_SSL": "false",
        "SUPABASE_JWT_ISSUER": ISSUER,
        "ENVIRONMENT": environment,
        "LOG_LEVEL": "DEBUG",
        "GATEWAY_PORT": str(port),
        "GATEWAY_DELIVERY_SECONDS": "0.2",
        "GATEWAY_REQUEST_SECONDS": "2",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sketchy_orchestration.cli.main", "gateway"],
            env={"PATH": os.environ["PATH"], **given},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
    said: list[str] = []
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
            kill = partial(kill_sessions_of, postgres, login)
            provoke(client, world, connection, pubnub, canaries, said.append, kill)
    finally:
        process.terminate()
        process.wait(20)
        pubnub.stop()
        connection.execute(f"drop role {login}")  # type: ignore[arg-type]
    said.append(log.read_text(encoding="utf-8"))
    assert "gateway_request" in said[-1]
    assert "gateway_grant_failed" in said[-1]
    leaked = [
        name for name, value in canaries.items() for text in said if value in text or quote(value) in text
    ]
    assert leaked == []


def kill_sessions_of(postgres: RunningPostgres, login: str) -> None:
    with psycopg.connect(postgres.superuser_url) as conn:
        conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", [login])


def provoke(
    client: httpx.Client,
    world: World,
    connection: psycopg.Connection,
    pubnub: LocalPubNub,
    canaries: dict[str, str],
    told: Callable[[str], None],
    kill_sessions: Callable[[], object],
) -> None:
    """Good requests and bad ones, with PubNub and then the database failing under them."""

    def ready() -> bool:
        try:
            return client.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(function: str, body: object = None, **headers: str) -> int:
        answered = client.post(
            f"/functions/v1/{function}",
            json=body,
            headers={k.replace("_", "-"): v for k, v in headers.items()},
        )
        told(f"{answered.headers} {answered.text}")
        return answered.status_code

    assert wait_until(ready, seconds=20)
    service = f"Bearer {canaries['supabase_service_role_key']}"
    player = world.user()
    game = world.game(player)
    token = f"Bearer {token_of(player, secret=canaries['supabase_jwt_secret'])}"
    expired = f"Bearer {token_of(player, secret=canaries['supabase_jwt_secret_previous'], exp=1)}"
    for credentials in (service, token, expired, service + "x", canaries["cron_secret"]):
        for function in (BROADCAST, TIMER, EVENTS, ACCESS, MONITOR):
            body = SMOKE if function == BROADCAST else {"gameId": game}
            ask(function, body, authorization=credentials, prefer="respond-async")
    assert ask(MONITOR, x_cron_secret=canaries["cron_secret"]) == 200
    assert ask(ACCESS, authorization=token) == 200
    ask(MONITOR, x_cron_secret=canaries["cron_secret_previous"] + "x")
    for kind, changes in (
        (FaultKind.status, {"status": 500, "body": "oops"}),
        (FaultKind.html, {}),
        (FaultKind.garbage, {}),
        (FaultKind.reset_before, {}),
        (FaultKind.wrong_key, {}),
    ):
        number = pubnub.faults.on(kind, **changes)
        assert ask(ACCESS, authorization=token) == 502
        pubnub.faults.off(number)
    # Every connection dies under it, and the function it calls is gone.
    kill_sessions()
    assert wait_until(lambda: ask(TIMER, {"gameId": game}, authorization=token) == 200, seconds=10)
    assert wait_until(ready, seconds=20)
    connection.execute("alter function orchestration.game_timer(uuid, uuid) rename to gone")
    assert ask(TIMER, {"gameId": game}, authorization=token) == 503
    connection.execute("revoke execute on function orchestration.timer_pass(text) from sketchy_gateway")
    assert ask(MONITOR, x_cron_secret=canaries["cron_secret"]) == 500
    for path in ("/metrics", "/openapi.json", "/ready", "/health", "/nothing"):
        told(client.get(path).text)
