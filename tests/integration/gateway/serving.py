"""A real gateway on a real port, and a game to ask it about."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import psycopg
import uvicorn
from fastapi import FastAPI
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from sketchy_orchestration.gateway.serve import configuration, server_socket
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.settings import Settings

SERVICE_KEY = "service-role-key-of-the-tests-0001"
PREVIOUS_SERVICE_KEY = "service-role-key-of-the-tests-0000"
CRON_SECRET = "cron-secret-of-the-tests-0001"
PREVIOUS_CRON_SECRET = "cron-secret-of-the-tests-0000"
JWT_SECRET = "jwt-secret-of-the-tests-with-32-bytes-0001"
PREVIOUS_JWT_SECRET = "jwt-secret-of-the-tests-with-32-bytes-0000"
ISSUER = "http://127.0.0.1:54321/auth/v1"

BROADCAST = "broadcast-pubnub-event"
MONITOR = "monitor-game-timers"
TIMER = "get-game-timer"
EVENTS = "game-events"
ACCESS = "pubnub-auth"
SMOKE = {
    "type": "test",
    "gameId": "test-game",
    "userId": "test-user",
    "timestamp": 1234567890,
    "version": "2.0.0",
    "data": {},
}


def settings_for(database_url: str, **changes: Any) -> Settings:
    """Settings of a gateway before this database, with every secret and rates that are in nobody's way."""
    given: dict[str, Any] = {
        "database_url": database_url,
        "supabase_service_role_key": SERVICE_KEY,
        "supabase_service_role_key_previous": PREVIOUS_SERVICE_KEY,
        "cron_secret": CRON_SECRET,
        "cron_secret_previous": PREVIOUS_CRON_SECRET,
        "supabase_jwt_secret": JWT_SECRET,
        "supabase_jwt_secret_previous": PREVIOUS_JWT_SECRET,
        "gateway_delivery_seconds": 0.3,
        "gateway_player_rate": "1000000/minute",
        "gateway_service_rate": "1000000/minute",
        "gateway_cron_rate": "1000000/minute",
        "gateway_stranger_rate": "1000000/minute",
        "pubnub_origin": None,
        **changes,
    }
    secret = {name: SecretStr(v) for name, v in given.items() if isinstance(v, str) and _is_secret(name)}
    return Settings(_env_file=None, **{**given, **secret})  # type: ignore[call-arg]  # pydantic-settings' own


def _is_secret(name: str) -> bool:
    return "SecretStr" in str(Settings.model_fields[name].annotation)


def token_of(user_id: str, *, secret: str = JWT_SECRET, **claims: Any) -> str:
    """An access token as Supabase issues it."""
    given = {
        "sub": user_id,
        "aud": "authenticated",
        "role": "authenticated",
        "iss": ISSUER,
        "exp": int(time.time()) + 600,
        **claims,
    }
    return jwt.encode({k: v for k, v in given.items() if v is not None}, secret, algorithm="HS256")


@dataclass
class Serving:
    """A gateway that serves; `call` posts to a function."""

    url: str
    app: FastAPI
    client: httpx.Client

    def call(self, function: str, body: object = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        return self.client.post(f"/functions/v1/{function}", content=content, headers=named)

    def service(self, function: str, body: object = None, **headers: str) -> httpx.Response:
        return self.call(function, body, authorization=f"Bearer {SERVICE_KEY}", **headers)

    def cron(self, function: str, body: object = None, **headers: str) -> httpx.Response:
        return self.call(function, body, x_cron_secret=CRON_SECRET, **headers)

    def player(self, user_id: str, function: str, body: object = None, **headers: str) -> httpx.Response:
        return self.call(function, body, authorization=f"Bearer {token_of(user_id)}", **headers)


@contextmanager
def serving(settings: Settings, *, ready: bool = True) -> Iterator[Serving]:
    """A gateway in a thread of this process, on a port of its own; ready when the block begins."""
    config = configuration(settings)
    listening = server_socket("127.0.0.1", 0)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="gateway", daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            assert wait_until(lambda: server.started, seconds=10)
            if ready:
                assert wait_until(lambda: client.get("/ready").status_code == 200, seconds=20)
            yield Serving(url, config.app, client)  # type: ignore[arg-type]  # it is our application
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()


@dataclass
class World:
    """Users, and games in any phase, written as the application writes them."""

    conn: psycopg.Connection[Any]
    players: list[str] = field(default_factory=list)

    def user(self) -> str:
        user = str(uuid.uuid4())
        self.conn.execute("insert into auth.users (id, email) values (%s, %s)", [user, user])
        self.conn.execute(
            "insert into public.users (id, email, username) values (%s, %s, %s)", [user, user, user]
        )
        return user

    def game(self, *players: str, status: str = "waiting", seconds_left: float | None = None) -> str:
        game = str(uuid.uuid4())
        self.conn.execute(
            "insert into public.games (id, prompt, created_at)"
            " values (%s, 'A cat', now() - interval '1 hour')",
            [game],
        )
        for player in players:
            self.conn.execute(
                "insert into public.game_participants (game_id, user_id) values (%s, %s)", [game, player]
            )
        if status != "waiting":
            self.conn.execute(
                "update public.games set status = %s, started_at = now(), current_phase_duration = 60,"
                " phase_expires_at = now() + make_interval(secs => %s) where id = %s",
                [status, seconds_left, game],
            )
        return game

    def enrol_all(self) -> None:
        self.conn.execute("select orchestration.set_flag('enrolment', 'test', 'test', true, 100)")

    def sequence(self, game: str, *states: str) -> None:
        """Give a game's events their seq and, as the relay does, an outcome; `waiting` gets none."""
        rows = self.conn.execute(
            "select id, event_id, lane, occurred_at from orchestration.outbox where game_id = %s order by id",
            [game],
        ).fetchall()
        last = 0
        for seq, (state, (outbox_id, event_id, lane, occurred)) in enumerate(
            zip(states, rows, strict=False), start=1
        ):
            self.conn.execute(
                "insert into orchestration.sequenced"
                " (outbox_id, event_id, game_id, lane, seq, epoch, occurred_at)"
                " values (%s, %s, %s, %s, %s, 1, %s)",
                [outbox_id, event_id, game, lane, seq, occurred],
            )
            if state != "waiting":
                self.outcome(outbox_id, state, seq=seq, after=last)
                last = seq if state == "delivered" else last

    def outcome(
        self, outbox_id: int, state: str, *, seq: int | None = None, after: int | None = None
    ) -> dict[str, str]:
        """What the relay writes when it is done with an event; the timetokens it got."""
        row = self.conn.execute(
            "select channels from orchestration.outbox where id = %s", [outbox_id]
        ).fetchone()
        assert row is not None
        tokens = {channel: str(time.time_ns() // 100) for channel in row[0]} if state == "delivered" else {}
        self.conn.execute(
            "insert into orchestration.outcomes"
            " (outbox_id, event_id, game_id, lane, seq, outcome, attempts, after_seq, timetokens,"
            " occurred_at)"
            " select id, event_id, game_id, lane, %s, %s, 1, %s, %s, occurred_at"
            " from orchestration.outbox where id = %s",
            [seq, state, after, Jsonb(tokens), outbox_id],
        )
        return tokens
