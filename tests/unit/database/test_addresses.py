"""Where each role connects, and that no text about it shows a password."""

from __future__ import annotations

import pytest

from sketchy_orchestration.database.connect import (
    Address,
    DatabaseNotSetError,
    DatabaseUnreachableError,
    Role,
    connect,
    connect_async,
)
from sketchy_orchestration.settings import Settings


def settings(**urls: str) -> Settings:
    return Settings(_env_file=None, **urls)  # type: ignore[call-arg,arg-type]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in Role:
        monkeypatch.delenv(role.setting.upper(), raising=False)


def test_a_role_without_a_connection_of_its_own_becomes_itself() -> None:
    at = Address.of_role(settings(database_url="postgresql://owner:pw@db:5433/games"), Role.timer)
    assert str(at) == "owner@db:5433/games"
    assert "role=sketchy_timer" in at.conninfo("x")
    assert "role=" not in at.conninfo("x", role_at_start=False)


def test_options_of_the_url_are_kept() -> None:
    url = "postgresql://owner:pw@db/games?options=-c%20work_mem%3D8MB"
    at = Address.of_role(settings(database_url=url), Role.relay)
    assert "-c work_mem=8MB -c role=sketchy_relay" in at.conninfo("x")


def test_a_role_with_a_connection_of_its_own_uses_it() -> None:
    urls = {
        "database_url": "postgresql://owner:pw@db/games",
        "relay_database_url": "postgresql://relay:pw@db/games",
    }
    at = Address.of_role(settings(**urls), Role.relay)
    assert (str(at), at.role, at.setting) == ("relay@db:5432/games", None, "RELAY_DATABASE_URL")
    assert Address.of_role(settings(**urls), Role.owner).role is None


def test_nothing_configured_says_what_to_do() -> None:
    with pytest.raises(DatabaseNotSetError, match="DATABASE_URL is not set"):
        connect(settings(), Role.timer)


@pytest.mark.parametrize(
    "url", ["postgresql://owner:geheim@db/games?pgbouncer=true", "postgresql://o:geheim 1@db/x"]
)
def test_a_wrong_url_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(DatabaseUnreachableError, match="DATABASE_URL is not a connection URL") as caught:
        Address.of_url(url)
    assert "geheim" not in str(caught.value)


async def test_nobody_there_is_one_line_without_the_password() -> None:
    nowhere = settings(database_url="postgresql://owner:geheim@127.0.0.1:1/games")
    with pytest.raises(DatabaseUnreachableError, match=r"no database at owner@127\.0\.0\.1:1/games") as first:
        connect(nowhere, Role.timer)
    with pytest.raises(DatabaseUnreachableError) as second:
        await connect_async(nowhere, Role.timer)
    for caught in (first, second):
        assert "\n" not in str(caught.value)
        assert "geheim" not in str(caught.value) + repr(caught.value)
    assert "geheim" not in repr(Address.of_url("postgresql://owner:geheim@db/games"))
