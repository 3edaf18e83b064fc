"""Which system a command means: that of the environment, else the local stack that runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sketchy_orchestration.cli.joining import joined_or_own_settings, joined_settings
from sketchy_orchestration.local import stack_state
from sketchy_orchestration.local.stack_state import StackNotRunningError, StackState
from sketchy_orchestration.settings import settings

_STACK = {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/stack", "PUBNUB_ORIGIN": "127.0.0.1:2"}
_ROLES = ("DATABASE_URL", *(f"{role}_DATABASE_URL" for role in ("TIMER", "RELAY", "GATEWAY", "OPERATOR")))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in [*_ROLES, *(name for name in os.environ if name.startswith("PUBNUB_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SKETCHY_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture
def stack(home: Path) -> None:
    """A stack runs, as far as anybody can tell."""
    stack_state.write(home, StackState(os.getpid(), psutil.Process().create_time(), "now", _STACK))


@pytest.mark.usefixtures("stack")
def test_a_running_stack_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBNUB_ORIGIN", "127.0.0.1:3")
    for joined in (joined_settings(), joined_or_own_settings()):
        assert joined.database_url is not None
        assert joined.database_url.get_secret_value() == _STACK["DATABASE_URL"]
        # What somebody set goes first.
        assert joined.pubnub_origin == "127.0.0.1:3"


@pytest.mark.usefixtures("stack")
@pytest.mark.parametrize("name", _ROLES)
def test_whoever_names_a_database_means_that_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "postgresql://a:b@127.0.0.1:1/elsewhere")
    assert joined_settings() == settings()


@pytest.mark.usefixtures("home")
def test_without_a_stack_only_what_needs_no_database_goes_on() -> None:
    with pytest.raises(StackNotRunningError, match="sketchy up"):
        joined_settings()
    assert joined_or_own_settings() == settings()
