"""Every function for every kind of caller; two valid secrets at a time; wrong tokens of every kind."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.gateway.jwks import KeyServer
from tests.integration.gateway.serving import (
    ACCESS,
    BROADCAST,
    CRON_SECRET,
    EVENTS,
    ISSUER,
    JWT_SECRET,
    MONITOR,
    PREVIOUS_CRON_SECRET,
    PREVIOUS_JWT_SECRET,
    PREVIOUS_SERVICE_KEY,
    SERVICE_KEY,
    SMOKE,
    TIMER,
    Serving,
    World,
    serving,
    settings_for,
    token_of,
)

Headers = dict[str, str]


def bearer(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


@dataclass(frozen=True)
class Cast:
    """A game, one who plays in it and one who does not."""

    game: str
    player: str
    other: str


CALLERS: dict[str, Callable[[Cast], Headers]] = {
    "nobody": lambda _: {},
    "wrong bearer": lambda _: bearer("wrong"),
    "wrong cron secret": lambda _: {"x-cron-secret": "wrong"},
    "empty cron secret": lambda _: {"x-cron-secret": ""},
    "basic": lambda _: {"authorization": f"Basic {SERVICE_KEY}"},
    "service": lambda _: bearer(SERVICE_KEY),
    "service, previous key": lambda _: bearer(PREVIOUS_SERVICE_KEY),
    "cron": lambda _: {"x-cron-secret": CRON_SECRET},
    "cron, previous secret": lambda _: {"x-cron-secret": PREVIOUS_CRON_SECRET},
    "cron secret as bearer": lambda _: bearer(CRON_SECRET),
    "service key as cron secret": lambda _: {"x-cron-secret": SERVICE_KEY},
    "player": lambda cast: bearer(token_of(cast.player)),
    "player, previous secret": lambda cast: bearer(token_of(cast.player, secret=PREVIOUS_JWT_SECRET)),
    "player, expired": lambda cast: bearer(token_of(cast.player, exp=int(time.time()) - 60)),
    "player, expired, previous secret": lambda cast: bearer(
        token_of(cast.player, secret=PREVIOUS_JWT_SECRET, exp=int(time.time()) - 60)
    ),
    "player, other secret": lambda cast: bearer(token_of(cast.player, secret="x" * 40)),
    "player, other audience": lambda cast: bearer(token_of(cast.player, aud="somebody")),
    "player, no audience": lambda cast: bearer(token_of(cast.player, aud=None)),
    "player, other issuer": lambda cast: bearer(token_of(cast.player, iss="https://elsewhere.example")),
    "player, no issuer": lambda cast: bearer(token_of(cast.player, iss=None)),
    "player, no expiry": lambda cast: bearer(token_of(cast.player, exp=None)),
    "player, not yet": lambda cast: bearer(token_of(cast.player, nbf=int(time.time()) + 600)),
    "no player": lambda _: bearer(token_of("somebody")),
    "project key": lambda cast: bearer(token_of(cast.player, role="service_role")),
    "anonymous key": lambda cast: bearer(token_of(cast.player, role="anon")),
    "unsigned": lambda cast: bearer(
        jwt.encode({"sub": cast.player, "aud": "authenticated", "iss": ISSUER}, None, algorithm="none")
    ),
    "other game's player": lambda cast: bearer(token_of(cast.other)),
}
SERVICE = {"service", "service, previous key"}
CRON = {"cron", "cron, previous secret"}
PLAYER = {"player", "player, previous secret"}
ALLOWED: dict[str, set[str]] = {
    BROADCAST: SERVICE,
    MONITOR: CRON,
    TIMER: PLAYER,
    EVENTS: PLAYER,
    ACCESS: PLAYER | {"other game's player"},
}
FORBIDDEN = {(TIMER, "other game's player"), (EVENTS, "other game's player")}


@pytest.fixture
def cast(world: World) -> Cast:
    player, other = world.user(), world.user()
    world.game(other)
    return Cast(world.game(player), player, other)


@pytest.mark.parametrize("function", ALLOWED)
def test_the_rules(gateway: Serving, cast: Cast, function: str) -> None:
    body = SMOKE if function == BROADCAST else {"gameId": cast.game}
    answered = {}
    for name, headers in CALLERS.items():
        answered[name] = gateway.client.post(
            f"/functions/v1/{function}", json=body, headers={"prefer": "respond-async", **headers(cast)}
        ).status_code
    # No keyset is configured here, so whoever is let in to pubnub-auth is told that there are no tokens.
    right = {BROADCAST: 202, ACCESS: 404}.get(function, 200)
    expected = {
        name: right if name in ALLOWED[function] else 403 if (function, name) in FORBIDDEN else 401
        for name in CALLERS
    }
    assert answered == expected


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/openapi.json"])
def test_anybody_may_ask_how_it_is(gateway: Serving, path: str) -> None:
    assert gateway.client.get(path).status_code == 200


def test_an_expired_token_says_so(gateway: Serving, cast: Cast) -> None:
    for secret in (JWT_SECRET, PREVIOUS_JWT_SECRET):
        headers = bearer(token_of(cast.player, secret=secret, exp=int(time.time()) - 60))
        answered = gateway.client.post(f"/functions/v1/{TIMER}", json={}, headers=headers)
        assert answered.json()["error"]["code"] == "token_expired"
        assert "invalid_token" in answered.headers["www-authenticate"]


def test_without_a_previous_secret_only_one_is_valid(database_url: str, cast: Cast) -> None:
    settings = settings_for(
        database_url,
        supabase_service_role_key_previous=None,
        cron_secret_previous=None,
        supabase_jwt_secret_previous=None,
    )
    with serving(settings) as gateway:
        assert gateway.call(MONITOR, x_cron_secret=PREVIOUS_CRON_SECRET).status_code == 401
        assert gateway.call(MONITOR, x_cron_secret=CRON_SECRET).status_code == 200
        old = token_of(cast.player, secret=PREVIOUS_JWT_SECRET)
        assert gateway.call(TIMER, {"gameId": cast.game}, authorization=f"Bearer {old}").status_code == 401


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


def with_keys(database_url: str, keys: KeyServer, **changes: Any) -> Any:
    return settings_for(database_url, supabase_jwks_url=keys.url, **changes)


def ask(gateway: Serving, cast: Cast, token: str) -> httpx.Response:
    return gateway.call(TIMER, {"gameId": cast.game}, authorization=f"Bearer {token}")


def test_published_keys_and_the_secret_serve_side_by_side(
    database_url: str, cast: Cast, keys: KeyServer
) -> None:
    with serving(with_keys(database_url, keys)) as gateway:
        assert ask(gateway, cast, keys.token(cast.player, "first")).status_code == 200
        assert ask(gateway, cast, token_of(cast.player)).status_code == 200
        # The text of a public key must never serve as a shared secret.
        forged = jwt.encode({"sub": cast.player}, "x" * 32, algorithm="HS256", headers={"kid": "first"})
        assert ask(gateway, cast, forged).status_code == 401
        other = ec.generate_private_key(ec.SECP256R1())
        assert ask(gateway, cast, keys.token(cast.player, "first", signed_by=other)).status_code == 401


def test_a_new_key_is_looked_for_and_an_unknown_one_does_not_make_us_ask_again_and_again(
    database_url: str, cast: Cast, keys: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sketchy_orchestration.gateway.player_tokens._LEAST_PAUSE", 0.0)
    with serving(with_keys(database_url, keys)) as gateway:
        assert ask(gateway, cast, keys.token(cast.player, "first")).status_code == 200
        keys.add("second")
        assert ask(gateway, cast, keys.token(cast.player, "second")).status_code == 200
        assert keys.asked == 2
        monkeypatch.setattr("sketchy_orchestration.gateway.player_tokens._LEAST_PAUSE", 10.0)
        for _ in range(20):
            stranger = keys.token(cast.player, str(uuid.uuid4()), signed_by=keys.keys["first"])
            assert ask(gateway, cast, stranger).status_code == 401
        assert keys.asked == 2


def test_keys_that_cannot_be_had_are_nobody_s_fault(database_url: str, cast: Cast, keys: KeyServer) -> None:
    keys.broken = True
    settings = with_keys(database_url, keys, supabase_jwt_secret=None, supabase_jwt_secret_previous=None)
    with serving(settings) as gateway:
        answered = ask(gateway, cast, keys.token(cast.player, "first"))
        assert (answered.status_code, answered.json()["error"]["code"]) == (503, "keys_unavailable")
        assert int(answered.headers["retry-after"]) > 0
        assert ask(gateway, cast, token_of(cast.player)).status_code == 401
