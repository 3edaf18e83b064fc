"""The command: parts of the checklists against a named target, files for others, what people vouch for."""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from sketchy_orchestration import settings as reading
from sketchy_orchestration.cli import validate as command
from sketchy_orchestration.cli.main import app
from sketchy_orchestration.delivery.validation import Check, Scene, StepFailedError
from sketchy_orchestration.domain.validation import Item, Suite


@pytest.fixture
def joined(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("COLUMNS", "250")
    reading.settings.cache_clear()
    yield
    reading.settings.cache_clear()


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["validate", *words])


def lost(_: Scene) -> str:
    raise StepFailedError("7 events were lost")


@pytest.mark.usefixtures("joined")
def test_parts_files_and_the_list_of_go_and_no_go(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = [Check(f"the_{suite}", suite, "a line", lambda _: "well") for suite in Suite]
    monkeypatch.setattr(command, "checks", lambda: steps)
    wrong = run("--target", "staging")
    assert wrong.exit_code == 1
    assert "this is development, not staging" in str(wrong.exception)
    junit, report = tmp_path / "junit.xml", tmp_path / "report.md"
    done = run("--suite", "smoke", "--suite", "unit", "--junit", str(junit), "--report", str(report))
    assert done.exit_code == 0, done.output
    assert "not run: integration, load, failure" in done.output
    cases = [case.get("name") for case in Xml.parse(junit).iter("testcase")]  # noqa: S314  our own
    assert cases == ["the_unit", "the_smoke"]
    assert "| the_smoke | smoke | a line | passed |" in report.read_text()
    assert "has not been validated" in run("verdicts").output

    assert run("--target", "development").exit_code == 0
    assert "nobody attests documentation" in run("verdicts").output
    for item in Item:
        assert "attested by" in run("attest", item, "--note", "looked at", "--days", "1").output
    assert "may be deployed" in run("verdicts").output
    connection.execute(
        "update orchestration.attestations set expires_at = now() where item = 'documentation'"
    )
    assert "the attestation of documentation has expired" in run("verdicts").output

    steps.append(Check("burst", Suite.load, "a line", lost))
    failed = run()
    assert failed.exit_code == 1
    assert "no go: failed: burst" in str(failed.exception)
    assert "no go: failed: burst" in run("verdicts").output
