"""The stack's secrets: made once, given ones first."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from sketchy_orchestration.local.stack_state import TOLD, generated_secrets, stack_secrets
from sketchy_orchestration.settings import Settings


def test_they_are_made_once_long_and_for_their_owner_alone(tmp_path: Path) -> None:
    made = generated_secrets(tmp_path)
    assert generated_secrets(tmp_path) == made
    assert set(TOLD) < set(made)
    assert min(map(len, made.values())) >= 32
    assert len(set(made.values())) == len(made)
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0


def test_one_that_somebody_set_is_taken(tmp_path: Path) -> None:
    given = Settings(_env_file=None, cron_secret=SecretStr("set-by-somebody"))  # type: ignore[call-arg]
    found = stack_secrets(tmp_path, given)
    assert found["CRON_SECRET"] == "set-by-somebody"
    assert found["SUPABASE_JWT_SECRET"] == generated_secrets(tmp_path)["SUPABASE_JWT_SECRET"]


@pytest.mark.parametrize("name", ["supabase_url", "supabase_jwks_url"])
def test_where_published_keys_sign_players_tokens_none_is_made_up(tmp_path: Path, name: str) -> None:
    given = Settings(_env_file=None, **{name: "https://project.example"})  # type: ignore[arg-type]
    assert "SUPABASE_JWT_SECRET" not in stack_secrets(tmp_path, given)
