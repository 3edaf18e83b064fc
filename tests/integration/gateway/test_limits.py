"""What is bounded: rates, bodies, time, requests at work, connections."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from sketchy_orchestration.local.processes import wait_until
from tests.integration.gateway.serving import (
    BROADCAST,
    MONITOR,
    SERVICE_KEY,
    SMOKE,
    TIMER,
    Serving,
    World,
    serving,
    settings_for,
    token_of,
)


def code_of(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


def test_each_caller_has_its_own_rate(database_url: str, world: World) -> None:
    first, second = world.user(), world.user()
    game = world.game(first, second)
    with serving(settings_for(database_url, gateway_player_rate="3/minute")) as gateway:
        answers = [gateway.player(first, TIMER, {"gameId": game}) for _ in range(4)]
        assert [a.status_code for a in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[3].headers["retry-after"]) <= 60
        assert code_of(answers[3]) == "too_many_requests"
        assert gateway.player(second, TIMER, {"gameId": game}).status_code == 200
        assert gateway.service(BROADCAST, SMOKE, prefer="respond-async").status_code == 202


def test_strangers_are_slowed_and_nobody_else_at_their_address(database_url: str) -> None:
    with serving(settings_for(database_url, gateway_stranger_rate="2/minute")) as gateway:
        wrong = [gateway.call(MONITOR, x_cron_secret="wrong").status_code for _ in range(4)]
        assert wrong == [401, 401, 429, 429]
        assert gateway.cron(MONITOR).status_code == 200
        # Behind a trusted proxy the address is the one it names.
        assert gateway.call(MONITOR, x_forwarded_for="203.0.113.9").status_code == 401


def test_a_large_body_is_refused_and_the_connection_goes_on(gateway: Serving) -> None:
    for _ in range(2):
        answered = gateway.service(BROADCAST, b"x" * 10_000_000)
        assert (answered.status_code, code_of(answered)) == (413, "body_too_large")
    assert gateway.service(BROADCAST, SMOKE, prefer="respond-async").status_code == 202


def test_a_large_body_without_a_length_is_refused_too(gateway: Serving) -> None:
    def parts() -> object:
        for _ in range(1000):
            yield b"x" * 10_000

    answered = gateway.client.post(
        f"/functions/v1/{BROADCAST}",
        content=parts(),  # type: ignore[arg-type]
        headers={"authorization": f"Bearer {SERVICE_KEY}"},
    )
    assert (answered.status_code, code_of(answered)) == (413, "body_too_large")


def raw(gateway: Serving, head: str, body: bytes = b"") -> socket.socket:
    host, port = gateway.url.removeprefix("http://").split(":")
    sent = socket.create_connection((host, int(port)), timeout=10)
    sent.sendall(head.replace("\n", "\r\n").encode() + body)
    return sent


HEAD = f"POST /functions/v1/{BROADCAST} HTTP/1.1\nhost: x\nauthorization: Bearer {SERVICE_KEY}\n"


def test_a_slow_body_is_given_up(database_url: str) -> None:
    with serving(settings_for(database_url, gateway_body_seconds=0.2)) as gateway:
        with raw(gateway, HEAD + "content-length: 100\n\n", b"{") as slow:
            answer = slow.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"body_too_slow" in answer


def test_a_truncated_body_disturbs_nobody(gateway: Serving) -> None:
    for _ in range(20):
        with raw(gateway, HEAD + "content-length: 100\n\n", b'{"type":"te') as cut:
            cut.shutdown(socket.SHUT_WR)
    assert gateway.service(BROADCAST, SMOKE, prefer="respond-async").status_code == 202


def test_a_head_that_never_ends_is_cut_off(gateway: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sketchy_orchestration.gateway.serve.HEAD_SECONDS", 0.2)
    with raw(gateway, HEAD) as slow, raw(gateway, "") as silent:
        for waiting in (slow, silent):
            try:
                assert waiting.recv(100) == b""
            except ConnectionResetError:
                continue
    assert gateway.service(BROADCAST, SMOKE, prefer="respond-async").status_code == 202


def test_what_is_no_http_gets_the_same_shape(gateway: Serving) -> None:
    with raw(gateway, "this is not HTTP\n\n") as odd:
        answer = odd.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"code":"invalid_http"' in answer


def test_unknown_paths_and_methods_get_the_same_shape(gateway: Serving) -> None:
    missing = gateway.client.get("/functions/v1/nothing")
    assert (missing.status_code, code_of(missing)) == (404, "unknown_path")
    wrong = gateway.client.get(f"/functions/v1/{BROADCAST}")
    assert (wrong.status_code, code_of(wrong), wrong.headers["allow"]) == (405, "method_not_allowed", "POST")


def test_when_every_connection_is_in_use_callers_wait_a_moment_and_no_longer(
    database_url: str, world: World
) -> None:
    settings = settings_for(
        database_url, gateway_connections=1, gateway_connection_wait=0.3, gateway_request_seconds=8
    )
    world.enrol_all()
    player = world.user()
    world.game(player, status="briefing", seconds_left=-1)
    with (
        serving(settings) as gateway,
        psycopg.connect(database_url) as blocker,
        ThreadPoolExecutor(1) as pool,
    ):
        # Whoever switches a flag holds this lock; the pass waits for it with the only connection in hand.
        blocker.execute("select pg_advisory_xact_lock(orchestration.lock_class(), 1)")
        stuck = pool.submit(gateway.cron, MONITOR)
        assert wait_until(
            lambda: b'connections{state="busy"} 1.0' in gateway.client.get("/metrics").content, seconds=5
        )
        began = time.monotonic()
        answered = gateway.player(player, TIMER, {"gameId": world.game(player)})
        assert (answered.status_code, code_of(answered)) == (503, "database_busy")
        assert answered.headers["retry-after"] == "1"
        assert 0.25 < time.monotonic() - began < 2
        assert gateway.client.get("/ready").status_code == 503
        blocker.rollback()
        assert stuck.result(10).status_code in (200, 503)
        assert wait_until(lambda: gateway.client.get("/ready").status_code == 200, seconds=5)


def test_one_request_too_many_is_turned_away_at_once(database_url: str) -> None:
    settings = settings_for(database_url, gateway_in_flight=2, gateway_delivery_seconds=5)
    with serving(settings) as gateway, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(gateway.service, BROADCAST, SMOKE) for _ in range(2)]
        at_work = b"sketchy_gateway_requests_in_flight 2.0"
        assert wait_until(lambda: at_work in gateway.client.get("/metrics").content, seconds=5)
        answered = gateway.service(BROADCAST, SMOKE)
        assert (answered.status_code, code_of(answered)) == (503, "overloaded")
        assert answered.headers["retry-after"] == "1"
        # Health is asked by those who must know, however busy we are.
        assert gateway.client.get("/health").status_code == 200
        assert [w.result(10).status_code for w in waiting] == [202, 202]


def test_a_request_has_a_time_limit(database_url: str, world: World) -> None:
    settings = settings_for(database_url, gateway_request_seconds=0.5)
    with serving(settings) as gateway, psycopg.connect(database_url) as blocker:
        blocker.execute("select pg_advisory_xact_lock(orchestration.lock_class(), 1)")
        began = time.monotonic()
        answered = gateway.cron(MONITOR)
        assert answered.status_code == 503
        assert code_of(answered) in ("time_limit", "database_unavailable")
        assert time.monotonic() - began < 3


def test_good_requests_go_on_among_a_thousand_bad_ones_a_second(gateway: Serving, world: World) -> None:
    player = world.user()
    game = world.game(player, status="drawing", seconds_left=60)
    token = token_of(player)
    stop = threading.Event()
    bad = 0

    async def hammer() -> None:
        nonlocal bad
        async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:

            async def one() -> None:
                nonlocal bad
                while not stop.is_set():
                    answered = await client.post(f"/functions/v1/{BROADCAST}", content=b"{")
                    assert answered.status_code == 401
                    bad += 1

            await asyncio.gather(*(one() for _ in range(16)))

    attack = threading.Thread(target=lambda: asyncio.run(hammer()))
    attack.start()
    try:
        assert wait_until(lambda: bad > 100, seconds=10)
        took = []
        for _ in range(200):
            began = time.perf_counter()
            answered = gateway.call(TIMER, {"gameId": game}, authorization=f"Bearer {token}")
            took.append(time.perf_counter() - began)
            assert answered.status_code == 200
    finally:
        stop.set()
        attack.join(20)
    assert sorted(took)[-3] < 0.5


@pytest.mark.parametrize("allowed", [True, False])
def test_browsers_of_allowed_origins_only_may_read(gateway: Serving, allowed: bool) -> None:
    origin = "http://localhost:5173" if allowed else "https://elsewhere.example"
    before = gateway.client.options(
        f"/functions/v1/{TIMER}",
        headers={"origin": origin, "access-control-request-method": "POST"},
    )
    assert before.status_code == 204
    answered = gateway.call(TIMER, {}, origin=origin)
    assert answered.status_code == 401
    for response in (before, answered):
        assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
        assert "Origin" in response.headers["vary"]
    assert ("authorization" in before.headers.get("access-control-allow-headers", "")) is allowed
