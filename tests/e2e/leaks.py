"""Where a secret could have got to in a running stack: files, arguments, the database, Dagster's answers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil

from sketchy_orchestration.database.connect import Address
from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres import folders

# What Dagster's pages ask for: runs with their configuration and events, resources, ticks, daemons.
_PAGES = (
    "{ runsOrError { ... on Runs { results { runId runConfigYaml tags { key value } eventConnection { events"
    " { ... on MessageEvent { message } ... on RunFailureEvent { error { message stack } } } } } } } }",
    "{ repositoriesOrError { ... on RepositoryConnection { nodes { name allTopLevelResourceDetails"
    " { name description configuredValues { key value type } } sensors { name sensorState { ticks(limit: 20)"
    " { status skipReason error { message } cursor } } } } } } }",
    "{ instance { info daemonHealth { allDaemonStatuses { daemonType lastHeartbeatErrors { message } } } } }",
)


def generated(home: Path) -> dict[str, str]:
    """Every generated secret by name, from the files that only the stack's user can read."""
    found: dict[str, str] = {}
    for file in (home / "secrets.json", _folders(home).credentials):
        assert file.stat().st_mode & 0o077 == 0
        found |= json.loads(file.read_text(encoding="utf-8"))
    return found


def commands() -> str:
    """Every process on this machine as `ps -eo args` shows it: its arguments, or what it calls itself."""
    return "\n".join(" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"]))


def files(home: Path, *more: Path) -> dict[str, str]:
    """The text of every log of the stack, and of Dagster's folder."""
    return dict(_texts(home / "logs", home / "dagster", _folders(home).log, *more))


def dump(home: Path, url: str) -> str:
    """Dagster's schema and ours with their rows: runs, event log, ticks; outbox, dead letters, alerts."""
    at = Address.of_url(url).parameters
    variables = {
        "PGHOST": str(at["host"]),
        "PGPORT": str(at["port"]),
        "PGUSER": str(at["user"]),
        "PGPASSWORD": str(at["password"]),
        "PGDATABASE": str(at["dbname"]),
    }
    program = folders.binaries(18, _folders(home), processes.unprivileged_account()) / "pg_dump"
    return subprocess.run(
        [program, "--schema=dagster", "--schema=orchestration", "--no-owner", "--enable-row-security"],
        env={**os.environ, **variables},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def pages(dagster_ui: str) -> str:
    """What Dagster's UI shows."""
    with httpx.Client(base_url=dagster_ui, timeout=30, trust_env=False) as client:
        answers = [client.post("/graphql", json={"query": query}) for query in _PAGES]
    wrong = [answer.text for answer in answers if answer.status_code != 200 or "errors" in answer.json()]
    assert wrong == []
    return "\n".join(answer.text for answer in answers)


def leaks(secrets: Mapping[str, str], places: Mapping[str, str]) -> list[tuple[str, str]]:
    """Which secret was found where, written as it is or as in a URL."""
    return [
        (name, place)
        for name, secret in secrets.items()
        for place, text in places.items()
        if secret in text or quote(secret, safe="") in text
    ]


def _folders(home: Path) -> folders.Folders:
    return folders.prepare(home, processes.unprivileged_account())


def _texts(*roots: Path) -> Iterator[tuple[str, str]]:
    for root in roots:
        for path in root.rglob("*") if root.is_dir() else [root]:
            if path.is_file():
                yield str(path), path.read_text(encoding="utf-8", errors="replace")
