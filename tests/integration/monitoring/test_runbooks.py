"""Every command of every runbook is executed, and every alert has its runbook."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.main import get_command

from sketchy_orchestration.cli.main import app
from sketchy_orchestration.domain import health
from sketchy_orchestration.local.postgres import RunningPostgres
from sketchy_orchestration.local.processes import wait_until
from sketchy_orchestration.local.pubnub.embedded import LocalPubNub
from sketchy_orchestration.monitoring import watch
from sketchy_orchestration.monitoring.rules import RULES
from tests.integration.monitoring.conftest import Facts
from tests.integration.monitoring.receivers import webhook

RUNBOOKS = Path(__file__).parents[3] / "docs" / "runbooks"
_BLOCK = re.compile(r"^```sh( background)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(sketchy [a-z][^`]*)`")
RISKS = {
    "PubNub's API fails": "pubnub-failures.md",
    "the database has no connections left": "database-connections.md",
    "two timers overlap": "timer-overlaps.md",
    "functions start cold": "cold-starts.md",
    "the network is slow at times": "network-latency.md",
    "payloads are too large": "payload-too-large.md",
}
_LINK = re.compile(r"\]\(([a-z-]+\.md)(?:#[a-z-]+)?\)")


def commands() -> dict[str, bool]:
    """Every command once, and whether it goes on until it is stopped."""
    found: dict[str, bool] = {}
    for file in sorted(RUNBOOKS.glob("*.md")):
        for background, text in _BLOCK.findall(file.read_text(encoding="utf-8")):
            for line in text.splitlines():
                found[line] = bool(background)
    return found


@pytest.fixture
def environment(
    database_url: str, postgres: RunningPostgres, tmp_path: Path, facts: Facts
) -> Iterator[dict[str, str]]:
    """A running system, as an operator has it: one alert fires, one channel is set."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "psql").symlink_to(postgres.program("psql"))
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
    facts.at_work()
    facts.live_game(overdue=600)
    with LocalPubNub() as pubnub, webhook() as heard:
        yield {
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "DATABASE_URL": database_url,
            "PUBNUB_PUBLISH_KEY": pubnub.publish_key,
            "PUBNUB_SUBSCRIBE_KEY": pubnub.subscribe_key,
            "PUBNUB_ORIGIN": pubnub.origin,
            "PUBNUB_SSL": "false",
            "ALERT_SLACK_URL": f"json://{heard.url}/",
            "SUPABASE_SERVICE_ROLE_KEY": "service-role-key-of-the-tests",
            "CRON_SECRET": "cron-secret-of-the-tests",
            "SUPABASE_JWT_SECRET": "jwt-secret-of-the-tests-with-32-bytes",
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONWARNINGS": "ignore",
        }


@pytest.mark.parametrize(
    ("command", "background"),
    [
        # Dagster needs ten seconds for a job; one of each kind has its test elsewhere.
        pytest.param(*each, marks=[pytest.mark.long] if each[0].startswith("dagster job") else [])
        for each in commands().items()
    ],
)
def test_a_command_works(
    command: str,
    background: bool,
    environment: dict[str, str],
    connection: psycopg.Connection,
    tmp_path: Path,
) -> None:
    words = [word.replace("$DATABASE_URL", environment["DATABASE_URL"]) for word in shlex.split(command)]
    if words[:3] == ["sketchy", "alerts", "ack"]:
        connection.execute(
            "insert into orchestration.alerts (rule, severity, state, value, fired_at)"
            " values (%s, 'critical', 'firing', 6, now())",
            [words[3]],
        )
    program = shutil.which(words[0], path=environment["PATH"])
    assert program is not None, f"{words[0]} is not installed"
    run = subprocess.Popen(
        [program, *words[1:]],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        if background:
            assert not wait_until(lambda: run.poll() is not None, seconds=4), run.communicate()[0]
            run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=100)
    finally:
        if run.poll() is None:
            run.kill()
    # A game is overdue, and `sketchy health` says so by its exit code.
    allowed = {0, 1} if words[:2] == ["sketchy", "health"] else {0, 130} if background else {0}
    assert run.returncode in allowed, output
    assert "Traceback" not in output


def test_commands_within_sentences_are_words_the_program_knows() -> None:
    """They lack what only the operator knows: an id, a reason."""
    found = {text for file in RUNBOOKS.glob("*.md") for text in _INLINE.findall(file.read_text("utf-8"))}
    assert len(found) > 15
    for text in sorted(found):
        command: Any = get_command(app)
        with command.make_context("sketchy", [], resilient_parsing=True) as context:
            for word in shlex.split(text)[1:]:
                if word.startswith("--"):
                    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
                    assert word in known, f"{text}: {sorted(known)}"
                elif hasattr(command, "get_command"):
                    command = command.get_command(context, word)
                    assert command is not None, text


@pytest.mark.parametrize(("risk", "runbook"), RISKS.items())
def test_every_known_risk_has_its_runbook(risk: str, runbook: str) -> None:
    assert f"]({runbook})" in (RUNBOOKS / "README.md").read_text(encoding="utf-8"), risk


def test_every_alert_and_every_check_has_its_runbook() -> None:
    files = {file.name for file in RUNBOOKS.glob("*.md")}
    assert {rule.runbook for rule in RULES} - files == set()
    named = set()
    for module in (health, watch, sys.modules["sketchy_orchestration.monitoring.health"]):
        assert module.__file__ is not None
        named |= set(re.findall(r"runbooks/([a-z-]+\.md)", Path(module.__file__).read_text(encoding="utf-8")))
    assert named
    assert named - files == set()


def test_links_lead_somewhere_and_every_runbook_has_its_parts() -> None:
    files = {file.name for file in RUNBOOKS.glob("*.md")}
    listed = set(_LINK.findall((RUNBOOKS / "README.md").read_text(encoding="utf-8")))
    assert files - listed == {"README.md"}
    for file in RUNBOOKS.glob("*.md"):
        text = file.read_text(encoding="utf-8")
        assert set(_LINK.findall(text)) - files == set(), file.name
        if file.name not in ("README.md", "incident.md", "troubleshooting.md"):
            for part in ("What you see", "Why", "What to do", "How to know it is over"):
                assert f"## {part}\n" in text, file.name
