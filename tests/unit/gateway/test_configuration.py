"""A gateway that could let nobody in, or everybody, does not start."""

from __future__ import annotations

from typing import Any

import pytest

from sketchy_orchestration.errors import SketchyError
from sketchy_orchestration.gateway.app import create_app
from sketchy_orchestration.gateway.callers import Secrets
from sketchy_orchestration.gateway.front import WrongOriginError, origins
from sketchy_orchestration.gateway.serve import PortTakenError, server_socket
from sketchy_orchestration.settings import Settings

GOOD = {
    "database_url": "postgresql://a:b@127.0.0.1:1/c",
    "supabase_service_role_key": "a-service-role-key-long-enough",
    "cron_secret": "a-cron-secret-long-enough",
    "supabase_jwt_secret": "a-jwt-secret-long-enough-for-its-hash",
    "environment": "production",
    "supabase_url": "https://project.example",
}


def settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **{**GOOD, **changes})  # type: ignore[call-arg, arg-type]  # pydantic's own


def test_a_complete_one_starts() -> None:
    create_app(settings())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"supabase_service_role_key": None}, "SUPABASE_SERVICE_ROLE_KEY not set"),
        ({"cron_secret": None}, "CRON_SECRET not set"),
        (
            {"supabase_jwt_secret": None, "supabase_url": None},
            "SUPABASE_JWT_SECRET, SUPABASE_JWKS_URL or SUPABASE_URL",
        ),
        ({"supabase_url": None}, "SUPABASE_URL or SUPABASE_JWT_ISSUER must say"),
        ({"cron_secret": "short"}, "CRON_SECRET is shorter than 16"),
        ({"supabase_service_role_key_previous": "short"}, "SUPABASE_SERVICE_ROLE_KEY_PREVIOUS is shorter"),
        ({"database_url": None}, "DATABASE_URL is not set"),
        ({"gateway_player_rate": "often"}, "GATEWAY_PLAYER_RATE is 'often'"),
        ({"gateway_allowed_origins": "*"}, r"GATEWAY_ALLOWED_ORIGINS names '\*'"),
    ],
)
def test_what_is_missing_or_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SketchyError, match=said) as caught:
        create_app(settings(**changes))
    assert "\n" not in caught.value.in_one_line()
    for secret in ("a-service-role-key", "a-cron-secret", "a-jwt-secret"):
        assert secret not in caught.value.in_one_line()


def test_short_secrets_do_in_development() -> None:
    create_app(settings(environment="development", cron_secret="short"))


def test_origins() -> None:
    assert origins(" https://a.example , http://localhost:5173,") == {
        "https://a.example",
        "http://localhost:5173",
    }
    assert origins("") == frozenset()
    for wrong in ("a.example", "https://a.example/", "https://a.example/path", "file:///tmp"):
        with pytest.raises(WrongOriginError, match="must look like"):
            origins(wrong)


def test_secrets_compare_whole_values_only() -> None:
    given = settings().cron_secret, None, settings().supabase_jwt_secret
    valid = Secrets(*given)
    assert "a-cron-secret-long-enough" in valid
    for wrong in ("", "a-cron-secret", "a-cron-secret-long-enough ", "ä", "\ud800"):
        assert wrong not in valid
    assert "" not in Secrets(None)
    assert not Secrets(None)


def test_a_busy_port_is_named() -> None:
    with server_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"cannot listen on 127.0.0.1:{port}.*GATEWAY_PORT"):
            server_socket("127.0.0.1", port)
