"""The files of settings in deploy/environments: every setting, explained, and read back as it is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sketchy_orchestration.cli.settings import app
from sketchy_orchestration.local import stack_dagster
from sketchy_orchestration.settings import Environment, Settings
from sketchy_orchestration.settings_files import VALUES, environment_file, grouped

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("environment", list(Environment))
def test_the_file_is_what_the_settings_make_of_it(environment: Environment) -> None:
    kept = DEPLOY / "environments" / f"{environment}.env"
    assert kept.read_text(encoding="utf-8") == environment_file(environment), (
        f"run: sketchy settings file {environment} > deploy/environments/{environment}.env"
    )


@pytest.mark.parametrize("environment", list(Environment))
def test_it_is_read_as_it_is_written(environment: Environment) -> None:
    read = Settings(_env_file=DEPLOY / "environments" / f"{environment}.env")  # type: ignore[call-arg]
    assert read.environment is environment
    assert read.model_fields_set == {name for name, value in VALUES[environment].items() if value}


def test_every_setting_is_explained_once() -> None:
    named = [setting.name.lower() for _, members in grouped() for setting in members]
    assert sorted(named) == sorted(Settings.model_fields), "give it a place in settings_files.GROUPS"
    assert [one.name for _, members in grouped() for one in members if len(one.description) < 15] == []


def test_a_listed_secret_is_only_said_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_SECRET", "swordfish")
    monkeypatch.setattr("sketchy_orchestration.cli.settings.settings", Settings)
    for words in (["list"], ["list", "--json"]):
        said = CliRunner().invoke(app, words)
        assert said.exit_code == 0
        assert "swordfish" not in said.output
    rows = {row["name"]: row for row in json.loads(said.output)}
    assert rows["CRON_SECRET"] | {"description": ""} == {
        **{"name": "CRON_SECRET", "group": "Who may call the gateway", "set": True, "value": "(secret)"},
        **{"default": "", "allowed": "", "secret": True, "description": ""},
    }


def test_dagster_in_production_is_the_one_that_is_tested_every_day() -> None:
    production = yaml.safe_load((DEPLOY / "dagster.yaml").read_text(encoding="utf-8"))
    assert production == yaml.safe_load(stack_dagster._INSTANCE)
