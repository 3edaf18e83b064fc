"""The functions answer as the application expects."""

from __future__ import annotations

import json
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog

from sketchy_orchestration.local.processes import wait_until
from tests.integration.gateway.serving import (
    BROADCAST,
    EVENTS,
    MONITOR,
    SERVICE_KEY,
    SMOKE,
    TIMER,
    Serving,
    World,
    serving,
    settings_for,
)


def code_of(response: object) -> str:
    return str(response.json()["error"]["code"])  # type: ignore[attr-defined]


def event(game: str, user: str = "system", kind: str = "phase_changed", **data: object) -> dict[str, object]:
    return {**SMOKE, "type": kind, "gameId": game, "userId": user, "data": data}


def test_the_smoke_test_is_kept_and_answered_while_nobody_delivers(gateway: Serving, world: World) -> None:
    answered = gateway.service(BROADCAST, SMOKE, content_type="application/x-www-form-urlencoded")
    assert answered.status_code == 202
    told = answered.json()
    assert (told["success"], told["state"], told["channels"]) == (True, "waiting", ["game-test-game"])
    row = world.conn.execute(
        "select game_id, type, user_id, data, channels, request_id, event_id::text from orchestration.outbox"
    ).fetchone()
    assert row == (None, "test", "test-user", {}, ["game-test-game"], told["requestId"], told["eventId"])


def test_the_timetokens_come_as_soon_as_the_event_is_delivered(gateway: Serving, world: World) -> None:
    player = world.user()
    game = world.game(player)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gateway.service, BROADCAST, event(game, player, "player_joined", username="Ann"))

        def written() -> list[int]:
            return [
                row[0]
                for row in world.conn.execute(
                    "select id from orchestration.outbox where game_id = %s and type = 'player_joined'"
                    " and data ->> 'username' = 'Ann'",
                    [game],
                )
            ]

        assert wait_until(lambda: bool(written()), seconds=5)
        tokens = world.outcome(written()[0], "delivered", seq=1, after=0)
        answered = asked.result(10)
    assert answered.status_code == 200
    assert answered.json()["timetokens"] == tokens
    assert set(tokens) == {f"game-{game}", f"presence-{game}"}


def test_an_event_given_up_is_a_bad_gateway(database_url: str, world: World) -> None:
    with (
        serving(settings_for(database_url, gateway_delivery_seconds=5)) as gateway,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(gateway.service, BROADCAST, SMOKE)
        ids: list[int] = []

        def written() -> bool:
            ids[:] = [row[0] for row in world.conn.execute("select id from orchestration.outbox")]
            return bool(ids)

        assert wait_until(written, seconds=5)
        world.outcome(ids[0], "dead")
        answered = asked.result(10)
    assert (answered.status_code, code_of(answered)) == (502, "event_given_up")


def test_nobody_waits_who_asked_not_to(database_url: str) -> None:
    with serving(settings_for(database_url, gateway_delivery_seconds=9)) as gateway:
        answered = gateway.service(BROADCAST, SMOKE, prefer="respond-async")
        assert (answered.status_code, answered.headers["preference-applied"]) == (202, "respond-async")
        answered = gateway.service(BROADCAST, SMOKE, prefer="wait=0")
        assert (answered.status_code, answered.headers["preference-applied"]) == (202, "wait=0")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b'{"type":"test"', 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b'{"type":"test","data":NaN}', 400, "invalid_json"),
        (b'{"type":"test","data":{"n":1e999}}', 400, "invalid_json"),
        (b'{"data":{"n":' + b"9" * 5000 + b"}}", 400, "invalid_json"),
        (b"[" * 20_000, 400, "invalid_json"),
        (b'{"data":' + b'{"a":' * 40 + b"1" + b"}" * 41, 400, "invalid_json"),
        (b'{"data":{"a":"\\u0000"}}', 400, "invalid_json"),
        (b'{"data":{"a":"\\ud800"}}', 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (json.dumps({**SMOKE, "type": "made_up"}).encode(), 400, "invalid_request"),
        (json.dumps({**SMOKE, "gameId": "a,b"}).encode(), 400, "invalid_request"),
        (json.dumps({**SMOKE, "gameId": ""}).encode(), 400, "invalid_request"),
        (json.dumps({**SMOKE, "timestamp": "soon"}).encode(), 400, "invalid_request"),
        (json.dumps({**SMOKE, "timestamp": True}).encode(), 400, "invalid_request"),
        (json.dumps({**SMOKE, "data": []}).encode(), 400, "invalid_request"),
        (json.dumps(event("test-game")).encode(), 400, "invalid_request"),
        (json.dumps(event(str(uuid.uuid4()), "somebody")).encode(), 400, "invalid_request"),
        (json.dumps(event(str(uuid.uuid4()), kind="MATCH_FOUND")).encode(), 400, "invalid_request"),
        (json.dumps(event(str(uuid.uuid4()))).encode(), 400, "unknown_game"),
        (json.dumps({**SMOKE, "data": {"fill": "x" * 33_000}}).encode(), 413, "event_too_large"),
        (json.dumps({**SMOKE, "data": {"fill": "é" * 4_500}}).encode(), 413, "event_too_large"),
        (json.dumps({**SMOKE, "data": {"fill": "x" * 70_000}}).encode(), 413, "body_too_large"),
    ],
)
def test_a_bad_event_says_why_and_leaves_nothing(
    gateway: Serving, world: World, body: bytes, status: int, code: str
) -> None:
    answered = gateway.service(BROADCAST, body)
    assert (answered.status_code, code_of(answered)) == (status, code)
    assert answered.json()["error"]["requestId"] == answered.headers["x-request-id"]
    row = world.conn.execute("select count(*) from orchestration.outbox").fetchone()
    assert row == (0,)


def test_what_is_wrong_is_named_by_field(gateway: Serving) -> None:
    answered = gateway.service(BROADCAST, {"type": "test"})
    fields = {detail["field"] for detail in answered.json()["error"]["details"]}
    assert fields == {"gameId", "userId", "timestamp", "version"}


def test_old_clients_and_fractional_moments_are_taken(gateway: Serving, world: World) -> None:
    game = world.game()
    body = {**event(game), "version": "1.0.0", "timestamp": 1767607260000.123}
    assert gateway.service(BROADCAST, body).status_code == 202


def test_a_pass_moves_what_is_due_and_says_what_it_took(gateway: Serving, world: World) -> None:
    world.enrol_all()
    player = world.user()
    due = world.game(player, status="briefing", seconds_left=-2)
    answered = gateway.cron(MONITOR)
    told = answered.json()
    assert answered.status_code == 200
    assert (told["processed"], told["errors"], told["skipped"]) == (1, 0, False)
    assert set(told["metrics"]) == {"lockAcquisitionTime", "queryTime", "processingTime", "broadcastTime"}
    assert 0 < told["metrics"]["processingTime"] <= told["executionTime"]
    assert (told["environment"], "message" in told) == ("development", False)
    row = world.conn.execute(
        "select g.status::text, t.request_id from public.games g join orchestration.transitions t"
        " on t.game_id = g.id and t.to_phase = 'drawing' where g.id = %s",
        [due],
    ).fetchone()
    assert row == ("drawing", told["requestId"])


def test_a_second_pass_at_the_same_time_is_skipped(gateway: Serving, world: World, database_url: str) -> None:
    import psycopg

    with psycopg.connect(database_url) as other:
        other.execute("select * from orchestration.timer_pass('other')")
        told = gateway.cron(MONITOR).json()
    assert (told["skipped"], told["processed"]) == (True, 0)
    assert told["message"] == "another pass is at work"
    assert gateway.cron(MONITOR).json()["skipped"] is False


def test_a_pass_is_skipped_while_the_timer_is_off(gateway: Serving, world: World) -> None:
    world.conn.execute("select orchestration.set_flag('timer_monitoring', 'test', 'test', false)")
    told = gateway.cron(MONITOR).json()
    assert (told["skipped"], "switched off" in told["message"]) == (True, True)


def test_the_clock_of_a_game(gateway: Serving, world: World) -> None:
    player = world.user()
    game = world.game(player, status="drawing", seconds_left=41.5)
    told = gateway.player(player, TIMER, {"gameId": game}).json()
    assert 40 <= told["timeRemaining"] <= 42
    assert (told["phaseDuration"], told["phase"]) == (60, "drawing")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["serverTime"])
    assert told["phaseExpiresAt"] > told["serverTime"]


def test_a_lobby_has_no_clock(gateway: Serving, world: World) -> None:
    player = world.user()
    told = gateway.player(player, TIMER, {"gameId": world.game(player)}).json()
    assert (told["timeRemaining"], told["phaseExpiresAt"], told["phase"]) == (0, None, "waiting")


@pytest.mark.parametrize("function", [TIMER, EVENTS])
def test_a_game_is_for_its_players(gateway: Serving, world: World, function: str) -> None:
    player, other = world.user(), world.user()
    game = world.game(player)
    assert gateway.player(player, function, {"gameId": game}).status_code == 200
    assert code_of(gateway.player(other, function, {"gameId": game})) == "not_in_game"
    assert gateway.player(other, function, {"gameId": game}).status_code == 403
    assert gateway.player(player, function, {"gameId": str(uuid.uuid4())}).status_code == 404
    assert gateway.player(player, function, {"gameId": "a game"}).status_code == 400
    world.conn.execute("update public.game_participants set left_at = now() where game_id = %s", [game])
    assert gateway.player(player, function, {"gameId": game}).status_code == 403


def test_a_player_catches_up(gateway: Serving, world: World) -> None:
    world.enrol_all()
    players = [world.user() for _ in range(3)]
    game = world.game(*players, status="briefing", seconds_left=20)
    world.sequence(game, "delivered", "dead", "expired", "delivered", "waiting")
    told = gateway.player(players[0], EVENTS, {"gameId": game}).json()
    assert [e["state"] for e in told["events"]] == ["delivered", "dead", "expired", "delivered", "waiting"]
    assert [e["event"]["seq"] for e in told["events"]] == [1, 2, 3, 4, 5]
    assert [e["event"].get("after") for e in told["events"]] == [0, 1, 1, 1, None]
    assert (told["lastSeq"], told["more"], told["complete"]) == (5, False, True)
    assert told["events"][0]["event"]["type"] == "player_joined"
    assert told["events"][0]["event"]["data"]["userId"] == players[0]

    part = gateway.player(players[0], EVENTS, {"gameId": game, "after": 1, "limit": 2}).json()
    assert [e["event"]["seq"] for e in part["events"]] == [2, 3]
    assert (part["more"], part["complete"]) == (True, True)
    none = gateway.player(players[0], EVENTS, {"gameId": game, "after": 5}).json()
    assert (none["events"], none["more"], none["complete"]) == ([], False, True)


def test_catching_up_says_when_the_oldest_are_gone(gateway: Serving, world: World) -> None:
    player = world.user()
    game = world.game(player)
    world.conn.execute("insert into orchestration.last_seqs values (%s, 9)", [game])
    told = gateway.player(player, EVENTS, {"gameId": game, "after": 3}).json()
    assert (told["events"], told["lastSeq"], told["complete"]) == ([], 9, False)


def test_the_request_id_is_taken_over_when_it_is_one(gateway: Serving) -> None:
    assert (
        gateway.service(BROADCAST, SMOKE, x_request_id="trace-1:2.3").headers["x-request-id"] == "trace-1:2.3"
    )
    for wrong in ("", "two words", "x" * 129, "<script>"):
        given = gateway.call(BROADCAST, None, x_request_id=wrong).headers["x-request-id"]
        assert given != wrong
        assert uuid.UUID(given)


def test_two_requests_at_once_keep_their_ids(gateway: Serving, world: World) -> None:
    barrier = threading.Barrier(8)

    def ask(number: int) -> tuple[str, str]:
        barrier.wait()
        answered = gateway.service(BROADCAST, SMOKE, x_request_id=f"r-{number}", prefer="respond-async")
        return answered.headers["x-request-id"], answered.json()["requestId"]

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == [(f"r-{n}", f"r-{n}") for n in range(8)]
    written = {row[0] for row in world.conn.execute("select request_id from orchestration.outbox")}
    assert written == {f"r-{n}" for n in range(8)}


def test_what_is_logged_names_the_request_and_its_game(gateway: Serving, world: World) -> None:
    player, nobodys = world.user(), str(uuid.uuid4())
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        assert gateway.player(player, TIMER, {"gameId": nobodys}, x_request_id="r-log").status_code == 404
        assert gateway.player(player, TIMER, {"gameId": 1}, x_request_id="r-bad").status_code == 400
        assert wait_until(lambda: len(logged) >= 2, seconds=5)
    told = {line["request_id"]: line.get("game_id") for line in logged if line["event"] == "gateway_request"}
    assert told == {"r-log": nobodys, "r-bad": None}


def test_the_secrets_are_not_in_any_answer(gateway: Serving) -> None:
    answers = [
        gateway.service(BROADCAST, b"{"),
        gateway.call(BROADCAST, SMOKE, authorization="Bearer wrong"),
        gateway.client.get("/metrics"),
        gateway.client.get("/openapi.json"),
        gateway.client.get("/ready"),
    ]
    assert all(SERVICE_KEY not in answered.text for answered in answers)
