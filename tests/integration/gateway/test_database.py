"""The pool: warm before ready, behind poolers, through restarts, and without a database at all."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest

from sketchy_orchestration.database.migrate import migrate_up
from sketchy_orchestration.local import application, processes
from sketchy_orchestration.local.postgres import EmbeddedPostgres
from sketchy_orchestration.local.postgres.folders import delete
from sketchy_orchestration.local.processes import wait_until
from tests.integration.gateway.serving import (
    BROADCAST,
    CRON_SECRET,
    EVENTS,
    JWT_SECRET,
    MONITOR,
    SERVICE_KEY,
    SMOKE,
    TIMER,
    World,
    serving,
    settings_for,
)


@pytest.fixture
def login(connection: psycopg.Connection) -> Iterator[Callable[[], tuple[str, str]]]:
    """Makes logins that are sketchy_gateway and nothing more."""
    made = []

    def make() -> tuple[str, str]:
        name, password = f"gateway_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
        connection.execute(
            f"create role {name} login password '{password}' in role sketchy_gateway"  # type: ignore[arg-type]
        )
        made.append(name)
        return name, password

    yield make
    for name in made:
        connection.execute(f"drop role {name}")  # type: ignore[arg-type]


def as_login(url: str, login: tuple[str, str]) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{login[0]}:{login[1]}@{parts.hostname}:{parts.port}"))


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("own_login", [True, False], ids=["own login", "role of the owner"])
def test_it_works_behind_a_pooler(
    database_url: str,
    world: World,
    start_pooler: Callable[[str, str], str],
    login: Callable[[], tuple[str, str]],
    mode: str,
    own_login: bool,
) -> None:
    world.enrol_all()
    player = world.user()
    game = world.game(player, status="briefing", seconds_left=-1)
    url = as_login(database_url, login()) if own_login else database_url
    pooled = start_pooler(url, mode)
    given = {"gateway_database_url": pooled} if own_login else {}
    with serving(settings_for(pooled, **given)) as gateway, ThreadPoolExecutor(8) as pool:
        assert gateway.client.get("/ready").json()["checks"]["database"]["pooler"] == "transaction mode"
        assert gateway.cron(MONITOR).json()["processed"] == 1

        def play(number: int) -> list[int]:
            return [
                gateway.player(player, TIMER, {"gameId": game}).status_code,
                gateway.player(player, EVENTS, {"gameId": game}).status_code,
                gateway.service(BROADCAST, SMOKE, prefer="respond-async").status_code,
            ]

        assert set(map(tuple, pool.map(play, range(40)))) == {(200, 200, 202)}
        # What it tells of the whole system is read through the same pooler.
        assert "\nsketchy_up 1.0\n" in gateway.client.get("/metrics").text
        database = gateway.client.get("/health").json()["checks"]["database"]
        assert (database["healthy"], database["pooler"]) == (True, "transaction mode")


def test_nothing_of_a_request_stays_in_a_pooled_session(
    database_url: str, start_pooler: Callable[[str, str], str]
) -> None:
    pooled = start_pooler(database_url, "transaction")
    with serving(settings_for(pooled)) as gateway:
        for _ in range(20):
            assert gateway.service(BROADCAST, SMOKE, prefer="respond-async").status_code == 202
        with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as other:
            for _ in range(10):
                row = other.execute(
                    "select current_user, current_setting('orchestration.request_id', true)"
                ).fetchone()
                assert row is not None
                assert (row[0], row[1] or None) == (urlsplit(database_url).username, None)


def test_each_connection_is_sketchy_gateway_with_limits(database_url: str, world: World) -> None:
    with serving(settings_for(database_url, gateway_connections=3, gateway_request_seconds=7)):
        rows = world.conn.execute(
            "select count(*) from pg_stat_activity where application_name = 'sketchy gateway'"
            " and datname = current_database()"
        ).fetchone()
        assert rows == (3,)


def test_without_a_database_it_lives_and_says_so(unused_url: str) -> None:
    with serving(settings_for(unused_url), ready=False) as gateway:
        assert gateway.client.get("/health").status_code == 200
        ready = gateway.client.get("/ready")
        told = ready.json()
        assert (ready.status_code, ready.headers["retry-after"], told["status"]) == (503, "1", "unhealthy")
        # The shape of /health and of `sketchy health --json`, with since when and what to do.
        assert told.keys() == gateway.client.get("/health").json().keys()
        assert told["checks"]["database"]["said"] == "its connections are not all open yet"
        assert told["checks"]["database"]["since"] <= told["timestamp"]
        assert "docs/runbooks/gateway-down.md" in told["checks"]["database"]["action"]
        answered = gateway.service(BROADCAST, SMOKE)
        assert (answered.status_code, answered.json()["error"]["code"]) == (503, "database_unavailable")
        assert answered.headers["retry-after"] == "2"


@pytest.fixture
def unused_url() -> str:
    return f"postgresql://nobody:secret@127.0.0.1:{processes.free_port()}/nothing"


def test_a_database_without_the_schema_is_not_ready(empty_database: str) -> None:
    with serving(settings_for(empty_database), ready=False) as gateway:
        assert wait_until(lambda: gateway.client.get("/ready").status_code == 503, seconds=5)
        assert gateway.service(BROADCAST, SMOKE).status_code == 503


def test_it_goes_on_after_a_restart_and_never_hangs(tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = EmbeddedPostgres(home)
    running = server.start()
    try:
        url = running.owner_url()
        application.install(url)
        migrate_up(url)
        with serving(settings_for(url)) as gateway:
            assert gateway.service(BROADCAST, SMOKE, prefer="respond-async").status_code == 202
            server.stop(immediate=True)
            began = time.monotonic()
            away = gateway.service(BROADCAST, SMOKE)
            assert (away.status_code, time.monotonic() - began < 4) == (503, True)
            assert gateway.client.get("/ready").status_code == 503
            server.start()
            assert wait_until(lambda: gateway.client.get("/ready").status_code == 200, seconds=20)
            assert gateway.service(BROADCAST, SMOKE, prefer="respond-async").status_code == 202
    finally:
        server.stop()
        delete(home)


def test_a_started_process_becomes_ready_and_ends_well(database_url: str) -> None:
    """How soon is a figure of the benchmark, which has the machine to itself."""
    port = processes.free_port()
    environment = {
        "DATABASE_URL": database_url,
        "SUPABASE_SERVICE_ROLE_KEY": SERVICE_KEY,
        "CRON_SECRET": CRON_SECRET,
        "SUPABASE_JWT_SECRET": JWT_SECRET,
        "GATEWAY_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "sketchy_orchestration.cli.main", "gateway"],
        env={"PATH": "/usr/bin:/bin", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        with httpx.Client(trust_env=False) as client:

            def ready() -> bool:
                try:
                    return client.get(f"http://127.0.0.1:{port}/ready").status_code == 200
                except httpx.TransportError:
                    return False

            assert wait_until(ready, seconds=60)
            answered = client.post(
                f"http://127.0.0.1:{port}/functions/v1/{BROADCAST}",
                content=json.dumps(SMOKE),
                headers={"authorization": f"Bearer {SERVICE_KEY}", "prefer": "respond-async"},
            )
            assert answered.status_code == 202
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0, out
