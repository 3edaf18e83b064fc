"""What the running stack generated as secret is found nowhere that others look at."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sketchy_orchestration.database.connect import Address
from sketchy_orchestration.local import processes
from sketchy_orchestration.local.postgres import folders
from tests.e2e.stack_runner import RunningStack, sketchy

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("stack"), pytest.mark.timeout(300)]

_GENERATED = {
    "superuser",
    "owner",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_JWT_SECRET",
    "CRON_SECRET",
    "PUBNUB_SECRET_KEY",
    "DAGSTER_PASSWORD",
}


def _places(home: Path) -> folders.Folders:
    return folders.prepare(home, processes.unprivileged_account())


def _secrets(home: Path) -> dict[str, str]:
    """Every generated secret by name, from the files that only the stack's user can read."""
    found: dict[str, str] = {}
    for file in (home / "secrets.json", _places(home).credentials):
        assert file.stat().st_mode & 0o077 == 0
        found |= json.loads(file.read_text(encoding="utf-8"))
    return found


def _commands() -> str:
    """Every process on this machine as `ps -eo args` shows it: its arguments, or what it calls itself."""
    return "\n".join(" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"]))


def _files(*roots: Path) -> Iterator[tuple[str, str]]:
    for root in roots:
        for path in root.rglob("*") if root.is_dir() else [root]:
            if path.is_file():
                yield str(path), path.read_text(encoding="utf-8", errors="replace")


def _dump(home: Path, url: str) -> str:
    """Schema dagster with its rows: runs, their configuration, the event log, ticks."""
    at = Address.of_url(url).parameters
    variables = {
        "PGHOST": str(at["host"]),
        "PGPORT": str(at["port"]),
        "PGUSER": str(at["user"]),
        "PGPASSWORD": str(at["password"]),
        "PGDATABASE": str(at["dbname"]),
    }
    program = folders.binaries(18, _places(home), processes.unprivileged_account()) / "pg_dump"
    return subprocess.run(
        [program, "--schema=dagster", "--no-owner"],
        env={**os.environ, **variables},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_no_generated_secret_is_in_arguments_logs_or_dagsters_storage(home: Path) -> None:
    with RunningStack(home, ("--games", "4")) as stack:
        stack.wait_for("Dagster: ", seconds=90)

        def only_runs_work() -> bool:
            return not any("bridge" in part["name"] for part in stack.status()["stack"]["parts"])

        # So that Dagster has stored what its runs say when they begin.
        assert processes.wait_until(only_runs_work, seconds=60, pause=0.5), stack.logs()
        assert sketchy(home, "status").returncode == 0
        environment = stack.environment()
        secrets = _secrets(home)
        assert set(secrets) == _GENERATED
        assert min(map(len, secrets.values())) >= 32
        dump = _dump(home, environment["DATABASE_URL"])
        assert "timer_shift" in dump
        commands = _commands()
        assert "sketchy_orchestration.cli.main play" in commands

        dagster_home = Path(environment["DAGSTER_HOME"])
        logs = dict(_files(home / "logs", dagster_home, _places(home).log, stack.output))
        assert {"players.log", "dagster-daemon.log", "dagster.yaml", "postgres.log"} <= {
            Path(name).name for name in logs
        }
        places = {"arguments": commands, "a dump of schema dagster": dump, **logs}
        told = [
            (name, place) for name, secret in secrets.items() for place in places if secret in places[place]
        ]
        assert told == []
