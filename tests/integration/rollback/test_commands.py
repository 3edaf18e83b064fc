"""The commands: stop and lift without Dagster, partial rollbacks, what runs where."""

from __future__ import annotations

import json

import psycopg
import pytest
from typer.testing import CliRunner, Result

from sketchy_orchestration.cli.main import app
from sketchy_orchestration.database import releases
from sketchy_orchestration.database.connect import Role, connect
from sketchy_orchestration.settings import Settings
from sketchy_orchestration.settings import settings as own_settings
from sketchy_orchestration.version import Version, this_version


@pytest.fixture
def joined(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands find the test's database."""
    monkeypatch.setenv("DATABASE_URL", database_url)


def run(*words: str) -> Result:
    own_settings.cache_clear()
    try:
        return CliRunner().invoke(app, list(words))
    finally:
        own_settings.cache_clear()


@pytest.mark.usefixtures("joined")
def test_stop_and_lift(connection: psycopg.Connection) -> None:
    def standing() -> list[tuple[bool]]:
        text = "select enabled from orchestration.flags where name = 'emergency_stop'"
        return connection.execute(text).fetchall()

    refused = run("stop", "--reason", "x")
    assert refused.exit_code != 0
    assert "say which" in str(refused.exception)
    would = run("stop", "--emergency", "--reason", "x", "--dry-run", "--json")
    assert would.exit_code == 0, would.output
    assert [step["step"] for step in json.loads(would.stdout)] == [
        "would switch off",
        "would end",
        "would keep",
    ]
    assert standing() == [(False,)]
    assert run("stop", "--emergency", "--reason", "x").exit_code == 0
    assert standing() == [(True,)]
    assert run("stop", "--lift", "--reason", "over").exit_code == 0
    assert standing() == [(False,)]


@pytest.mark.usefixtures("joined")
def test_a_rollback_says_first(connection: psycopg.Connection) -> None:
    text = "select enabled from orchestration.flags where name = 'timer_monitoring'"
    first = run("rollback", "risk", "overlaps", "--reason", "x")
    assert "nothing was changed" in first.stdout
    assert connection.execute(text).fetchone() == (True,)
    assert "games advance" in run("rollback", "risk", "overlaps", "--reason", "x", "--yes").stdout
    assert connection.execute(text).fetchone() == (False,)


@pytest.mark.usefixtures("joined")
def test_what_runs_where(database_url: str, connection: psycopg.Connection) -> None:
    settings = Settings(_env_file=None, database_url=database_url)  # type: ignore[call-arg,arg-type]  # pydantic's
    new, old = this_version(settings), Version("0.0.1", "b", "m", "s")
    with connect(settings, Role.operator) as operator:
        for version in (old, new, new):
            releases.make_current(operator, version, {"code_port": 1}, by="ann", reason="a release")
        now, before = releases.releases(operator)
        assert (now.version, now.current_until) == (new, None)
        assert before.version == old
        assert before.current_until is not None
        back = releases.previous(operator)
        assert back is not None
        assert back.label == "0.0.1+b/s"
    for shift, release in (("a", old.label), ("b", new.label), ("c", new.label)):
        connection.execute(
            """insert into orchestration.shifts (shift_id, kind, version, host, pid, release)
               values (gen_random_uuid(), 'timer', '1', %s, 1, %s)""",
            [shift, release],
        )
    told = json.loads(run("releases", "--json").stdout)
    assert [one["label"] for one in told["releases"]] == [new.label, old.label]
    assert [one["release"] for one in told["shifts"]] == [old.label, new.label, new.label]
    with connect(settings, Role.operator) as operator:
        assert releases.relieve_others(operator, old.label, "timer") == 0
        assert releases.relieve_others(operator, new.label, "timer") == 1
    relieved = connection.execute("select host from orchestration.shifts where relieved_by is not null")
    assert relieved.fetchall() == [("a",)]
