"""Settings: what a wrong value says, and what never shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sketchy_orchestration
from sketchy_orchestration.settings import Settings, SettingsError, settings


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_setting_is_read_by_some_part() -> None:
    package = Path(sketchy_orchestration.__file__).parent
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
        if not path.name.startswith("settings")
    )
    read_somewhere = set(re.findall(r"\.([a-z_]+)\b", code))
    assert set(Settings.model_fields) <= read_somewhere


def read() -> Settings:
    return settings.__wrapped__()


@pytest.mark.parametrize("in_a_file", [False, True])
def test_a_wrong_value_is_named_shown_and_explained(
    monkeypatch: pytest.MonkeyPatch, *, in_a_file: bool
) -> None:
    if in_a_file:
        Path(".env").write_text("POSTGRES_VERSION=17\nLOG_LEVEL=loud\n", encoding="utf-8")
    else:
        monkeypatch.setenv("POSTGRES_VERSION", "17")
        monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(SettingsError) as caught:
        read()
    said = str(caught.value)
    assert "POSTGRES_VERSION is '17': must be 16 or 18" in said
    assert "LOG_LEVEL is 'loud': " in said
    assert "'WARNING'" in said
    assert "\n" not in said


def test_the_environment_goes_before_the_file_in_what_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("POSTGRES_VERSION=18\n", encoding="utf-8")
    monkeypatch.setenv("POSTGRES_VERSION", "9")
    with pytest.raises(SettingsError, match="POSTGRES_VERSION is '9'"):
        read()


def test_what_is_not_json_is_one_line_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_LEVELS", "{availability")
    with pytest.raises(SettingsError, match="service_levels"):
        read()


def test_a_secret_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:swordfish@127.0.0.1:5432/games"
    for name, field in Settings.model_fields.items():
        if "SecretStr" in str(field.annotation):
            monkeypatch.setenv(name.upper(), url if name.endswith("database_url") else "swordfish")
    found = read()
    assert "swordfish" not in f"{found!r} {found} {found.model_dump()} {found.model_dump_json()}"
    monkeypatch.setenv("DATABASE_URL", "mysql://me:swordfish@127.0.0.1/games")
    with pytest.raises(SettingsError) as caught:
        read()
    assert "swordfish" not in str(caught.value)
